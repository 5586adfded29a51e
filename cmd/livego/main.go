// Livego is a live streaming server: RTMP in; RTMP, HTTP-FLV and HLS out. This package is its
// command line: it parses the arguments and settings, runs one command, and sets the exit code.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"livego/internal/ops/config"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // the command or the server failed
	exitUsage  = 2 // invalid arguments or settings
)

func main() { os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr)) }

// commands are the subcommands of livego.
type commands struct {
	Serve       serveCmd      `cmd:"" default:"1" help:"Run the server. This is the default command."`
	CheckConfig checkCmd      `cmd:"" name:"check-config" help:"Check the settings and exit."`
	Keys        keysCmd       `cmd:"" help:"List, create, revoke, export and import stream keys."`
	Token       tokenCmd      `cmd:"" help:"Make a token for viewers, publishers or operators."`
	Push        pushCmd       `cmd:"" help:"Play files as a live stream: to a room of this livego, or to any RTMP server."`
	Probe       probeCmd      `cmd:"" help:"Report the content and the problems of a file or a live stream."`
	Bench       benchCmd      `cmd:"" help:"Measure a server: publish a stream and play it with many viewers."`
	Ctl         ctlCmd        `cmd:"" help:"Call the API of a running server: rooms, streams, sessions, relays, recordings, events, settings."`
	Health      healthCmd     `cmd:"" help:"Check whether the server on this machine is ready."`
	Version     versionCmd    `cmd:"" help:"Print the version and exit."`
	Completion  completionCmd `cmd:"" help:"Print the completion script of a shell."`
	Complete    completeCmd   `cmd:"" name:"__complete" hidden:""`
	Man         manCmd        `cmd:"" hidden:"" help:"Print the manual page."`
	Help        helpCmd       `cmd:"" help:"Show the help of a command."`

	CheckConfigFlag bool `name:"check-config" help:"Same as the command."`
	VersionFlag     bool `name:"version" short:"v" help:"Same as the command."`
}

// An env holds the environment of a command.
type env struct {
	flags          map[string]string // settings in flags, by key
	model          *kong.Application
	environ        []string
	stdout, stderr io.Writer
	ctl            ctlFlags
}

// failure is an error with an exit code.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// run runs one command and returns the exit code. It writes errors to stderr, with the prefix
// "livego: " on each line that is not indented; indented lines are commands to copy.
func run(args, environ []string, stdout, stderr io.Writer) int {
	err := parse(args, environ, stdout, stderr)
	if err == nil {
		return exitOK
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if errors.Is(err, errReported) {
			break
		}
		if !strings.HasPrefix(line, " ") {
			line = "livego: " + line
		}
		_, _ = fmt.Fprintln(stderr, line)
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f.code
	}
	return exitFailed
}

func parse(args, environ []string, stdout, stderr io.Writer) error {
	var c commands
	settings := settingFlags()
	helped := false
	parser, err := kong.New(&c,
		kong.Name("livego"),
		kong.Description(quickStart),
		kong.Embed(settings.Interface()),
		kong.Writers(stdout, stderr),
		kong.Help(printHelp),
		kong.ConfigureHelp(kong.HelpOptions{FlagsLast: true, NoAppDescFormat: true, WrapUpperBound: 120}),
		kong.Exit(func(int) { helped = true }), // called by --help, after which Parse continues
	)
	if err != nil {
		return err // the structs above are wrong
	}
	if len(args) > 0 && args[0] == "help" {
		asked := slices.DeleteFunc(slices.Clone(args[1:]), func(a string) bool { return a == "--help" || a == "-h" })
		args = append(asked, "--help")
	}
	ctx, err := parser.Parse(normalizeFlags(args))
	switch {
	case helped:
		return nil
	case err != nil:
		return &failure{exitUsage, fmt.Errorf("%w (see livego --help)", err)}
	}
	e := &env{flags: givenFlags(settings), model: parser.Model, environ: environ, stdout: stdout, stderr: stderr,
		ctl: c.Ctl.ctlFlags}
	switch {
	case c.VersionFlag:
		return c.Version.Run(e)
	case c.CheckConfigFlag:
		return c.CheckConfig.Run(e)
	}
	return ctx.Run(e)
}

// helpCmd is only listed: parse turns it into --help.
type helpCmd struct {
	Command []string `arg:"" optional:"" help:"The command, such as keys make."`
}

// Run reports the wrong order: flags came before the command.
func (c helpCmd) Run(*env) error {
	return &failure{exitUsage, errors.New(strings.TrimSpace("help must come first: livego help " +
		strings.Join(c.Command, " ")))}
}

// printHelp prints the help of a command with its own flags. The settings, which every command
// accepts, are listed in the help of livego and of serve only.
func printHelp(o kong.HelpOptions, ctx *kong.Context) error {
	command := ctx.Selected()
	if command == nil || command.Name == "serve" {
		return kong.DefaultHelpPrinter(o, ctx)
	}
	settings := map[string]bool{"check-config": true, "version": true}
	for _, s := range config.Settings() {
		settings[s.Key] = true
	}
	for _, f := range ctx.Model.Flags {
		f.Hidden = f.Hidden || settings[f.Name]
	}
	if err := kong.DefaultHelpPrinter(o, ctx); err != nil {
		return err
	}
	_, err := fmt.Fprintln(ctx.Stdout,
		"\nIt also accepts the settings of the server, such as --config_file and --data_dir: see livego serve --help.")
	return err
}

// systemConfig is the settings file of an installed package.
const systemConfig = "/etc/livego/livego.yaml"

// useSystemConfig makes the settings file that of the package if no other is named or in the working
// directory, so that livego check-config and livego keys use the settings of the service.
func (e *env) useSystemConfig() {
	if _, named := e.flags["config_file"]; named ||
		slices.ContainsFunc(e.environ, func(v string) bool { return strings.HasPrefix(v, "LIVEGO_CONFIG_FILE=") }) {
		return
	}
	if _, err := os.Stat(config.Default().ConfigFile); err == nil {
		return
	}
	f, err := os.Open(systemConfig)
	switch {
	case err == nil:
		f.Close()
		e.flags["config_file"] = systemConfig
	case errors.Is(err, fs.ErrPermission):
		_, _ = fmt.Fprintf(e.stderr, "livego: warning: the settings of the service have no effect here: %v\n", err)
	}
}

// load loads the settings and writes warnings to stderr.
func (e *env) load() (*config.Loaded, error) {
	e.useSystemConfig()
	cfg, err := config.Load(config.Sources{Flags: e.flags, Env: e.environ})
	for _, w := range cfg.Warnings {
		_, _ = fmt.Fprintf(e.stderr, "livego: warning: %s\n", w)
	}
	if err != nil {
		return cfg, &failure{exitUsage, err}
	}
	return cfg, nil
}

// A settingFlag is a flag for a setting, named by its key or its deprecated key.
type settingFlag struct {
	config.Setting
	name string
}

// flagTable returns the flags for all settings, in the order of the fields of settingFlags.
func flagTable() []settingFlag {
	var all []settingFlag
	for _, s := range config.Settings() {
		all = append(all, settingFlag{s, s.Key})
		if s.Old != "" {
			all = append(all, settingFlag{s, s.Old})
		}
	}
	return all
}

// settingFlags returns a pointer to a struct with a flag for each setting, which is nil unless
// given. Kong reads flags from structs; this one is built from the table of settings, so that it is
// complete.
func settingFlags() reflect.Value {
	var fields []reflect.StructField
	for i, s := range flagTable() {
		f := reflect.StructField{Name: fmt.Sprint("F", i), Type: reflect.TypeFor[*string]()}
		help := s.Help
		if s.Default != "" && s.Default != "false" {
			help += " [" + s.Default + "]"
		}
		tag := fmt.Sprintf(`name:%q help:%q group:%q placeholder:"X"`, s.name, help, s.Group+":")
		if s.name == s.Old {
			tag += ` hidden:""`
		}
		f.Tag = reflect.StructTag(tag)
		if s.Bool {
			f.Type = reflect.TypeFor[*bool]()
		}
		fields = append(fields, f)
	}
	return reflect.New(reflect.StructOf(fields))
}

// givenFlags returns the given flags by name.
func givenFlags(settings reflect.Value) map[string]string {
	flags := map[string]string{}
	for i, s := range flagTable() {
		if v := settings.Elem().Field(i); !v.IsNil() {
			flags[s.name] = fmt.Sprint(v.Elem().Interface())
		}
	}
	return flags
}

// normalizeFlags returns args with --rtmp-addr replaced by --rtmp_addr, the name of the flag.
func normalizeFlags(args []string) []string {
	known := map[string]bool{}
	for _, s := range flagTable() {
		known[s.name] = true
	}
	out := make([]string, len(args))
	for i, arg := range args {
		out[i] = arg
		name, value, hasValue := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if key := strings.ReplaceAll(name, "-", "_"); strings.HasPrefix(arg, "--") && known[key] {
			out[i] = "--" + key
			if hasValue {
				out[i] += "=" + value
			}
		}
	}
	return out
}

const quickStart = `A live streaming server: one stream in, any number of viewers out.

Quick start:

  1. Run livego, and get the stream key of a room:
       curl 'http://localhost:8090/control/get?room=movie'
  2. Publish with the key, from OBS or ffmpeg:
       ffmpeg -re -i demo.flv -c copy -f flv rtmp://localhost:1935/live/KEY
  3. Watch at the name of the room:
       rtmp://localhost:1935/live/movie
       http://localhost:7001/live/movie.flv
       http://localhost:7002/live/movie.m3u8

Settings are flags, environment variables (LIVEGO_RTMP_ADDR for --rtmp_addr) or lines of livego.yaml
(rtmp_addr: ":1935").`

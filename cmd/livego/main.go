// Livego is a live streaming server: RTMP in; RTMP, HTTP-FLV and HLS out. This package is its command line: it turns
// arguments into settings, runs one command, and turns the outcome into an exit code.
package main

import (
	"errors"
	"fmt"
	"io"
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
	exitFailed = 1 // the server could not start, or could not go on
	exitUsage  = 2 // wrong arguments, or wrong settings
)

func main() { os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr)) }

// commands are what can be typed after livego.
type commands struct {
	Serve       serveCmd   `cmd:"" default:"1" help:"Run the server. This is what livego does without a command."`
	CheckConfig checkCmd   `cmd:"" name:"check-config" help:"Look for mistakes in the settings, and exit."`
	Keys        keysCmd    `cmd:"" help:"List, make, revoke, export and import push keys."`
	Token       tokenCmd   `cmd:"" help:"Make a token to watch, to publish or to manage."`
	Push        pushCmd    `cmd:"" help:"Play files as a live stream: to a room of this livego, or to any RTMP server."`
	Probe       probeCmd   `cmd:"" help:"Tell what is in a file or a live stream, and what is wrong with it."`
	Bench       benchCmd   `cmd:"" help:"Measure a server: publish a stream, play it many times over."`
	Version     versionCmd `cmd:"" help:"Tell what was built, and exit."`
	Help        helpCmd    `cmd:"" help:"Show the help of a command."`

	CheckConfigFlag bool `name:"check-config" help:"The same as the command."`
	VersionFlag     bool `name:"version" short:"v" help:"The same as the command."`
}

// An env is what a command has of the world.
type env struct {
	flags          map[string]string // settings given as flags, by key
	environ        []string
	stdout, stderr io.Writer
}

// failure is an error that has its exit code.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// run runs one command and returns the exit code. Errors go to stderr, a line each; what is
// indented in one is to be copied.
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
		kong.Exit(func(int) { helped = true }), // --help calls it, and goes on
	)
	if err != nil {
		return err // a mistake in the structs above
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
	e := &env{flags: givenFlags(settings), environ: environ, stdout: stdout, stderr: stderr}
	switch {
	case c.VersionFlag:
		return c.Version.Run(e)
	case c.CheckConfigFlag:
		return c.CheckConfig.Run(e)
	}
	return ctx.Run(e)
}

// helpCmd is in the list of commands, and is not run: parse makes --help of it.
type helpCmd struct {
	Command []string `arg:"" optional:"" help:"The command, such as keys make."`
}

// Run says how to ask: flags came before.
func (c helpCmd) Run(*env) error {
	return &failure{exitUsage, errors.New(strings.TrimSpace("help comes first: livego help " +
		strings.Join(c.Command, " ")))}
}

// printHelp prints the help of a command with the flags of its own. Those of the settings, which
// each command takes, are in the help of livego and of serve, which is what they are for.
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
		"\nIt also takes the settings of the server, such as --config_file and --data_dir: see livego serve --help.")
	return err
}

// load reads the settings of all sources, and writes warnings to stderr.
func (e *env) load() (config.Config, error) {
	cfg, warnings, err := config.Load(config.Sources{Flags: e.flags, Env: e.environ})
	for _, w := range warnings {
		_, _ = fmt.Fprintf(e.stderr, "livego: warning: %s\n", w)
	}
	if err != nil {
		return cfg, &failure{exitUsage, err}
	}
	return cfg, nil
}

// settingFlags returns a pointer to a struct with a flag for each setting, which stays nil when it
// is not given. Kong takes its flags from structs; this one is made from the table of settings, so
// that none is forgotten.
func settingFlags() reflect.Value {
	var fields []reflect.StructField
	for i, s := range config.Settings() {
		f := reflect.StructField{Name: fmt.Sprint("F", i), Type: reflect.TypeFor[*string]()}
		help := s.Help
		if s.Default != "" && s.Default != "false" {
			help += " [" + s.Default + "]"
		}
		f.Tag = reflect.StructTag(fmt.Sprintf(`name:%q help:%q group:%q placeholder:"X"`, s.Key, help, s.Group+":"))
		if s.Bool {
			f.Type = reflect.TypeFor[*bool]()
		}
		fields = append(fields, f)
	}
	return reflect.New(reflect.StructOf(fields))
}

// givenFlags returns the flags that were, by key.
func givenFlags(settings reflect.Value) map[string]string {
	flags := map[string]string{}
	for i, s := range config.Settings() {
		if v := settings.Elem().Field(i); !v.IsNil() {
			flags[s.Key] = fmt.Sprint(v.Elem().Interface())
		}
	}
	return flags
}

// normalizeFlags returns args with --rtmp-addr written as --rtmp_addr, which is the name of the flag.
func normalizeFlags(args []string) []string {
	known := map[string]bool{}
	for _, s := range config.Settings() {
		known[s.Key] = true
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

The tour, in three steps:

  1. Run livego, and ask it for the key of a room; the key is for pushing, the room's name for watching:
       curl 'http://localhost:8090/control/get?room=movie'
  2. Push with the key, from OBS or ffmpeg:
       ffmpeg -re -i demo.flv -c copy -f flv rtmp://localhost:1935/live/KEY
  3. Watch by the name of the room:
       rtmp://localhost:1935/live/movie
       http://localhost:7001/live/movie.flv
       http://localhost:7002/live/movie.m3u8

Settings are flags, environment variables (--rtmp_addr is LIVEGO_RTMP_ADDR) or lines of livego.yaml (rtmp_addr: ":1935").`

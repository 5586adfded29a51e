package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"livego/internal/ops/config"
	"livego/internal/ops/ffmpeg"
	"livego/internal/playout"
	"livego/internal/source"
	"livego/internal/tools/probe"
)

type pushCmd struct {
	Sources []string `arg:"" name:"source" help:"Files, or lists of files (files.txt, as for ffmpeg's concat), and last the target: a room of the livego on this machine, or an RTMP URL with a stream key."`

	Loop      bool          `help:"Repeat everything until stopped."`
	Times     int           `default:"1" placeholder:"N" help:"Play everything N times."`
	Start     string        `placeholder:"TIME" help:"Where to start: seconds, or 1:02:03."`
	Speed     float64       `default:"1" placeholder:"X" help:"Speed; 1 is real time."`
	Retry     time.Duration `default:"5m" help:"How long to try to reconnect; 0s: not at all."`
	Tracks    string        `placeholder:"WHICH" help:"Tracks to send: all, or numbers as in ffmpeg's -map, v:0,a:1. Default: the first of each kind."`
	Transcode bool          `help:"Encode tracks that RTMP does not support with ffmpeg."`
	API       string        `name:"api" placeholder:"URL" help:"The operator's HTTP of the livego that has the stream key of the room. Default: from the settings, with the admin token."`
	RTMP      string        `name:"rtmp" default:"rtmp://127.0.0.1:1935/live" placeholder:"URL" help:"The base URL at which rooms of the livego on this machine are published."`
}

// Help is shown by livego push --help.
func (pushCmd) Help() string {
	return `Plays files in real time as one live stream, without encoding anything. Examples:

  livego push film.mp4 movie                  # the room movie of the livego on this machine
  livego push --loop one.mp4 two.flv movie
  livego push files.txt rtmp://host/live/KEY

The exit code is 0 if everything was played or Ctrl-C stopped it, 1 if the server refused the
stream or the connection was lost for good, 4 if a file cannot be played.`
}

// Run pushes, and shows the progress on stderr.
func (c pushCmd) Run(e *env) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := c.options()
	if err != nil {
		return err
	}
	target, watch, err := c.target(ctx, e)
	if err != nil {
		return err
	}
	differences, err := playout.Preflight(ctx, o)
	if err != nil {
		return c.withExitCode(ctx, err)
	}
	for _, d := range differences {
		fmt.Fprintf(e.stderr, "%s: players get new parameters there\n", d)
	}
	if c.Transcode && !ffmpeg.Installed() {
		return errors.New("--transcode needs ffmpeg, which is not installed")
	}
	if err := c.warnRemarks(ctx, e, o); err != nil {
		return err
	}
	for _, address := range watch {
		fmt.Fprintf(e.stderr, "watch: %s\n", address)
	}
	show := pushProgress{newProgress(e.stderr, 20), o}
	o.Connect = func(ctx context.Context) (playout.Sink, error) { return playout.Publish(ctx, target) }
	o.Progress, o.Warn = show.update, show.warn
	result, err := playout.Play(ctx, o)
	show.clear()
	if result.Frames == 0 {
		return c.withExitCode(ctx, err)
	}
	fmt.Fprintf(e.stderr, "sent %s, %.1f MB in %d frames, at most %d ms late and %d ms early, %d reconnects\n",
		probe.FormatClock(result.Sent.Seconds()), float64(result.Bytes)/1e6, result.Frames, result.Late.Milliseconds(),
		result.Early.Milliseconds(), result.Reconnects)
	return c.withExitCode(ctx, err)
}

// options converts the arguments to options.
func (c pushCmd) options() (*playout.Options, error) {
	usage := func(format string, args ...any) error { return &failure{exitUsage, fmt.Errorf(format, args...)} }
	switch {
	case len(c.Sources) < 2:
		return nil, usage("push needs one or more files, and then a room or an RTMP address")
	case c.Speed < 0.1 || c.Speed > 100:
		return nil, usage("--speed must be from 0.1 to 100")
	case c.Times < 1:
		return nil, usage("--times must be 1 or more")
	}
	o := &playout.Options{Times: c.Times, Speed: c.Speed, Retry: c.Retry, Transcode: c.Transcode}
	if c.Loop {
		o.Times = 0
	}
	var err error
	if c.Start != "" {
		if o.Start, err = source.ParseDuration(c.Start); err != nil {
			return nil, usage("--start: %w", err)
		}
	}
	if o.Tracks, err = playout.ParseTrackSelection(c.Tracks); err != nil {
		return nil, usage("--tracks: %w", err)
	}
	if c.Transcode && !o.Tracks.IsDefault() {
		return nil, usage("--transcode and --tracks cannot be combined")
	}
	if o.Entries, err = playout.Entries(c.Sources[:len(c.Sources)-1]); err != nil {
		return nil, &failure{exitUnplayable, err}
	}
	return o, nil
}

// target returns the address to publish to. For a room it contains the stream key, and watch lists
// the addresses at which the room can be watched.
func (c pushCmd) target(ctx context.Context, e *env) (target string, watch []string, err error) {
	name := c.Sources[len(c.Sources)-1]
	if strings.HasPrefix(name, "rtmp://") || strings.HasPrefix(name, "rtmps://") {
		return name, nil, nil
	}
	if !isRoom(name) {
		return "", nil, &failure{exitUsage,
			fmt.Errorf("%s: the last argument must be a room or an address (rtmp://host/app/key)", name)}
	}
	key, err := e.fetchKey(ctx, c.API, name)
	if err != nil {
		return "", nil, err
	}
	base := strings.TrimSuffix(c.RTMP, "/")
	if c.API != "" { // a server with other settings
		return base + "/" + key, []string{base + "/" + name}, nil
	}
	cfg, err := e.load()
	if err != nil {
		return "", nil, err
	}
	return base + "/" + key, watchURLs(cfg.Config, base, name), nil
}

// watchURLs returns the addresses of a room that is published below the RTMP URL base. They are
// those of this machine, or start with public_url. The RTMP address then has the host of public_url
// and the port of base.
func watchURLs(cfg config.Config, base, room string) (addresses []string) {
	app := path.Base(base)
	rtmp, flv, hls := base, "http://"+dialHost(cfg.HTTPFLVAddr), "http://"+dialHost(cfg.HLSAddr)
	if cfg.UseHLSHTTPS {
		hls = "https://" + dialHost(cfg.HLSAddr)
	}
	if public, err := url.Parse(cfg.PublicURL); err == nil && cfg.PublicURL != "" {
		flv = strings.TrimSuffix(cfg.PublicURL, "/")
		hls = flv
		if u, err := url.Parse(base); err == nil {
			u.Host = strings.TrimSuffix(net.JoinHostPort(public.Hostname(), u.Port()), ":")
			rtmp = u.String()
		}
	}
	addresses = []string{rtmp + "/" + room}
	if i := slices.IndexFunc(cfg.Apps, func(a config.App) bool { return a.Name == app }); i >= 0 {
		if cfg.Apps[i].FLV {
			addresses = append(addresses, flv+"/"+app+"/"+room+".flv")
		}
		if cfg.Apps[i].HLS {
			addresses = append(addresses, hls+"/"+app+"/"+room+".m3u8")
		}
	}
	return addresses
}

// dialHost returns the host and port at which a client on this machine reaches a listener.
func dialHost(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return listen
}

const (
	warnFiles    = 8                // number of files that are probed before the push starts
	warnDuration = 20 * time.Second // how much of each file is probed
)

// warnCodes are the remarks of probe that viewers of a push will notice. push handles or refuses
// the others itself.
var warnCodes = map[string]bool{
	"gop": true, "rotation": true, "no-audio": true, "late-key": true, "no-key": true, "edit-list": true,
	"profile": true, "offset": true, "sample-rate": true, "large-frame": true, "ts": true, "unusable-track": true,
}

// warnRemarks prints the remarks of probe for the first files that viewers will notice.
func (c pushCmd) warnRemarks(ctx context.Context, e *env, o *playout.Options) error {
	seen := map[string]bool{}
	for _, entry := range o.Entries {
		if seen[entry.Path] {
			continue
		}
		if seen[entry.Path] = true; len(seen) > warnFiles {
			return nil
		}
		r, err := inspect(ctx, entry.Path, probe.Options{Part: warnDuration})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			continue // reported when the file is played
		}
		warned := false
		for _, m := range r.Remarks {
			if warnCodes[m.Code] {
				warned = true
				fmt.Fprintf(e.stderr, "warning: %s: %s\n", entry.Path, m.Text)
			}
		}
		if warned {
			fmt.Fprintf(e.stderr, "warning: livego probe %s shows the command that repairs it\n", probe.ShellQuote(entry.Path))
		}
	}
	return nil
}

// inspect probes a file.
func inspect(ctx context.Context, path string, o probe.Options) (*probe.Report, error) {
	s, err := source.Open(path)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return probe.Inspect(ctx, s, o)
}

// withExitCode returns err with its exit code. For an unsupported codec it adds the command that
// fixes it.
func (c pushCmd) withExitCode(ctx context.Context, err error) error {
	codec, ok := errors.AsType[*playout.CodecError](err)
	switch {
	case err == nil:
		return nil
	case ok:
		advice := "repair the file:"
		if ffmpeg.Installed() {
			advice = "use --transcode to encode it while it plays, or repair the file:"
		}
		return &failure{exitUnplayable, fmt.Errorf("%w\n%s\n  %s", err, advice, repairCommand(ctx, codec.Path))}
	}
	if _, lost := errors.AsType[*playout.LostError](err); lost {
		return err
	}
	if file, ok := errors.AsType[*source.FileError](err); ok {
		return &failure{exitUnplayable, withCommand(err, convertCommand(file.Name, err))}
	}
	return err
}

// repairCommand returns the command that probe suggests.
func repairCommand(ctx context.Context, path string) string {
	r, err := inspect(ctx, path, probe.Options{})
	if err != nil {
		return err.Error()
	}
	return r.RepairCommand
}

// pushProgress shows the progress of a push.
type pushProgress struct {
	*progress
	o *playout.Options
}

func (p pushProgress) update(s playout.Progress) {
	done := 0.0
	if s.Length > 0 {
		done = min(1, s.At.Seconds()/s.Length.Seconds())
	}
	type stage struct {
		entry, round int
		lost         bool
	}
	p.progress.update(done, p.text(s), stage{s.Entry, s.Round, s.Attempts > 0})
}

// text describes the current position.
func (p pushProgress) text(s playout.Progress) string {
	words := filepath.Base(p.o.Entries[s.Entry].Path)
	if n := len(p.o.Entries); n > 1 {
		words = fmt.Sprintf("%d/%d %s", s.Entry+1, n, words)
	}
	if s.Round > 0 {
		words += fmt.Sprintf(", round %d", s.Round+1)
	}
	words += ", " + probe.FormatClock(max(s.At, 0).Seconds())
	if s.Length > 0 {
		words += " of " + probe.FormatClock(s.Length.Seconds())
	}
	if s.Attempts > 0 {
		return fmt.Sprintf("%s, connection lost: reconnect attempt %d", words, s.Attempts)
	}
	return fmt.Sprintf("%s, %.0f kbit/s, %d ms late", words, s.Rate/1000, s.Late.Milliseconds())
}

func (p pushProgress) warn(text string) {
	p.clear()
	fmt.Fprintf(p.out, "warning: %s\n", text)
}

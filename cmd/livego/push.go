package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"

	"livego/internal/ops/config"
	"livego/internal/playout"
	"livego/internal/source"
	"livego/internal/tools/probe"
)

type pushCmd struct {
	Sources []string `arg:"" name:"source" help:"Files, or lists of files (files.txt, as for ffmpeg's concat); the last argument is where to: a room of the livego on this machine, or an RTMP address with its key."`

	Loop      bool          `help:"Begin anew at the end, until stopped."`
	Times     int           `default:"1" placeholder:"N" help:"Play all of it N times."`
	Start     string        `placeholder:"TIME" help:"Where to begin: seconds, or 1:02:03."`
	Speed     float64       `default:"1" placeholder:"X" help:"How fast to send; 1 is real time."`
	Retry     time.Duration `default:"5m" help:"How long to try for a server that was lost, before giving up; 0s: not at all."`
	Tracks    string        `placeholder:"WHICH" help:"Which tracks to send: all, or numbers as ffmpeg's -map has them, v:0,a:1. Without it the first of each kind."`
	Transcode bool          `help:"Have ffmpeg encode tracks that RTMP cannot carry."`
	API       string        `name:"api" placeholder:"URL" help:"The operator's HTTP of the livego that is asked for the key of a room. By default that of the settings, with its token."`
	RTMP      string        `name:"rtmp" default:"rtmp://127.0.0.1:1935/live" placeholder:"URL" help:"Where the rooms of the livego on this machine are pushed."`
}

// Help is shown by livego push --help.
func (pushCmd) Help() string {
	return `Plays files in real time as one live stream, without encoding anything. Examples:

  livego push film.mp4 movie                  # the room movie of the livego on this machine
  livego push --loop one.mp4 two.flv movie
  livego push files.txt rtmp://host/live/KEY

The exit code is 0 when all has been played or it was stopped by Ctrl-C, 1 when the server refused the stream or was lost for good, 4 when a file cannot be played.`
}

// Run pushes, and shows where it is on stderr.
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
	if c.Transcode && !playout.HasFFmpeg() {
		return errors.New("--transcode needs ffmpeg, which is not installed")
	}
	if err := c.warnRemarks(ctx, e, o); err != nil {
		return err
	}
	for _, address := range watch {
		fmt.Fprintf(e.stderr, "watch: %s\n", address)
	}
	show := newPushProgress(e.stderr, o)
	o.Connect = func(ctx context.Context) (playout.Sink, error) { return playout.Publish(ctx, target) }
	o.Progress, o.Warn = show.update, show.warn
	result, err := playout.Play(ctx, o)
	show.end()
	if result.Frames == 0 {
		return c.withExitCode(ctx, err)
	}
	fmt.Fprintf(e.stderr, "sent %s, %.1f MB in %d frames, at most %d ms late and %d ms early, %d reconnects\n",
		probe.FormatClock(result.Sent.Seconds()), float64(result.Bytes)/1e6, result.Frames, result.Late.Milliseconds(),
		result.Early.Milliseconds(), result.Reconnects)
	return c.withExitCode(ctx, err)
}

// options turns arguments into what is played.
func (c pushCmd) options() (*playout.Options, error) {
	usage := func(format string, args ...any) error { return &failure{exitUsage, fmt.Errorf(format, args...)} }
	switch {
	case len(c.Sources) < 2:
		return nil, usage("push takes one file or more, and at the end the room or the address to push to")
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
		return nil, usage("--transcode takes the first track of each kind: it does not go with --tracks")
	}
	if o.Entries, err = playout.Entries(c.Sources[:len(c.Sources)-1]); err != nil {
		return nil, &failure{exitUnplayable, err}
	}
	return o, nil
}

// target returns the address to publish to: as it stands, or with the key of a room. Of a room it returns too
// where that is watched.
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
	watch = []string{base + "/" + name}
	if c.API != "" { // whose settings are not known
		return base + "/" + key, watch, nil
	}
	cfg, err := e.load()
	if err != nil {
		return "", nil, err
	}
	return base + "/" + key, append(watch, watchURLs(cfg, path.Base(base), name)...), nil
}

// watchURLs returns where a room is watched by HTTP on this machine.
func watchURLs(cfg config.Config, app, room string) (addresses []string) {
	i := slices.IndexFunc(cfg.Apps, func(a config.App) bool { return a.Name == app })
	if i < 0 {
		return nil
	}
	add := func(on bool, scheme, listen, suffix string) {
		host, port, err := net.SplitHostPort(listen)
		if !on || err != nil {
			return
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		addresses = append(addresses, scheme+"://"+net.JoinHostPort(host, port)+"/"+app+"/"+room+suffix)
	}
	hls := "http"
	if cfg.UseHLSHTTPS {
		hls = "https"
	}
	add(cfg.Apps[i].FLV, "http", cfg.HTTPFLVAddr, ".flv")
	add(cfg.Apps[i].HLS, hls, cfg.HLSAddr, ".m3u8")
	return addresses
}

const (
	warnFiles    = 8                // of a list that are looked at before it is played,
	warnDuration = 20 * time.Second // and how much of each
)

// warnCodes are the remarks of probe that viewers of a push will notice. The others are about what push
// handles or refuses itself.
var warnCodes = map[string]bool{
	"gop": true, "rotation": true, "no-audio": true, "late-key": true, "no-key": true, "edit-list": true,
	"profile": true, "offset": true, "sample-rate": true, "large-frame": true, "ts": true, "unusable-track": true,
}

// warnRemarks warns of what viewers of the first files will notice, as probe would.
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
			continue // it shows when it is played
		}
		warned := false
		for _, m := range r.Remarks {
			if warnCodes[m.Code] {
				warned = true
				fmt.Fprintf(e.stderr, "warning: %s: %s\n", entry.Path, m.Text)
			}
		}
		if warned {
			fmt.Fprintf(e.stderr, "warning: livego probe %s shows the command that mends it\n", probe.ShellQuote(entry.Path))
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

// withExitCode gives an error its exit code, and to a codec that cannot be carried the command that mends it.
func (c pushCmd) withExitCode(ctx context.Context, err error) error {
	codec, ok := errors.AsType[*playout.CodecError](err)
	switch {
	case err == nil:
		return nil
	case ok:
		advice := "mend it by:"
		if playout.HasFFmpeg() {
			advice = "--transcode has ffmpeg encode it while it plays; or mend it by:"
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

// repairCommand returns what probe would say.
func repairCommand(ctx context.Context, path string) string {
	r, err := inspect(ctx, path, probe.Options{})
	if err != nil {
		return err.Error()
	}
	return r.RepairCommand
}

// pushProgress shows where a push is: a bar on a terminal, else a line now and then.
type pushProgress struct {
	out   io.Writer
	o     *playout.Options
	bar   *progressbar.ProgressBar // nil: lines
	entry int
	round int
	last  time.Time
	lost  bool
}

func newPushProgress(out io.Writer, o *playout.Options) *pushProgress {
	p := &pushProgress{out: out, o: o, entry: -1}
	if isTerminal(out) {
		p.bar = progressbar.NewOptions(barSteps, progressbar.OptionSetWriter(out), progressbar.OptionSetWidth(20),
			progressbar.OptionClearOnFinish(), progressbar.OptionSetElapsedTime(false), progressbar.OptionSetPredictTime(false))
	}
	return p
}

func (p *pushProgress) update(s playout.Progress) {
	const every = 5 * time.Second
	text := p.text(s)
	if p.bar != nil {
		p.bar.Describe(text)
		done := 0.0
		if s.Length > 0 {
			done = min(1, s.At.Seconds()/s.Length.Seconds())
		}
		_ = p.bar.Set(int(done * (barSteps - 1))) // it only draws; full, it would be over
		return
	}
	if s.Entry != p.entry || s.Round != p.round || (s.Attempts > 0) != p.lost || time.Since(p.last) >= every {
		p.entry, p.round, p.lost, p.last = s.Entry, s.Round, s.Attempts > 0, time.Now()
		fmt.Fprintln(p.out, text)
	}
}

// text describes where a push is.
func (p *pushProgress) text(s playout.Progress) string {
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
		return fmt.Sprintf("%s, the server is lost: attempt %d to reach it", words, s.Attempts)
	}
	return fmt.Sprintf("%s, %.0f kbit/s, %d ms late", words, s.Rate/1000, s.Late.Milliseconds())
}

func (p *pushProgress) warn(text string) {
	if p.bar != nil {
		_ = p.bar.Clear() // it only draws
	}
	fmt.Fprintf(p.out, "warning: %s\n", text)
}

func (p *pushProgress) end() {
	if p.bar != nil {
		_ = p.bar.Clear() // it only draws
	}
}

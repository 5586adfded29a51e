package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"livego/internal/domain"
	"livego/internal/source"
	"livego/internal/tools/probe"
)

// Exit codes of probe and push, beside those of all commands.
const (
	exitRemarks    = 3 // it can be played, but not everywhere or not well
	exitUnplayable = 4 // it cannot be played as it is
)

// errReported is the error of a command that has said all there is to say.
var errReported = errors.New("")

type probeCmd struct {
	Sources []string `arg:"" name:"source" help:"Files, addresses of live streams (rtmp://, http://….flv, http://….m3u8), or rooms of the livego on this machine."`

	JSON bool   `name:"json" help:"Write what was found as JSON: an array with an object for each source."`
	All  bool   `help:"Look at all of a large file; without it at the first minute of one above 256 MB."`
	RTMP string `name:"rtmp" default:"rtmp://127.0.0.1:1935/live" placeholder:"URL" help:"Where the rooms of the livego on this machine are played."`
}

// Help is shown by livego probe --help.
func (probeCmd) Help() string {
	return `Tells what is in a file or a live stream, which outputs can carry it, and what viewers would meet; and for what is wrong the ffmpeg command that mends it. Examples:

  livego probe film.mp4
  livego probe --json *.mp4
  livego probe movie                          # the room, live on this machine

The exit code is 0 when all is fine, 3 when something plays with remarks, 4 when something cannot be played as it is.`
}

// Run probes each source.
func (c probeCmd) Run(e *env) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	reports, worst := []*probe.Report{}, exitOK
	for _, name := range c.Sources {
		r, err := c.probe(ctx, name)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			worst = exitUnplayable
			mend := convertCommand(name, err)
			if !c.JSON {
				fmt.Fprintf(e.stderr, "livego: %v\n", withCommand(err, mend))
				continue
			}
			r = &probe.Report{Source: name, Tracks: []*probe.Track{}, Verdict: probe.Unplayable, RepairCommand: mend,
				Remarks: []probe.Remark{{Code: "unreadable", Fatal: true, Text: err.Error(), RepairCommand: mend}}}
		}
		worst = max(worst, exitCodeOf(r.Verdict))
		reports = append(reports, r)
		if c.JSON {
			continue
		}
		if len(c.Sources) > 1 && len(reports) > 1 {
			fmt.Fprintln(e.stdout)
		}
		if err := r.WriteText(e.stdout); err != nil {
			return err
		}
	}
	if c.JSON {
		enc := json.NewEncoder(e.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(reports); err != nil {
			return err
		}
	}
	if worst != exitOK {
		return &failure{worst, errReported}
	}
	return nil
}

// convertCommand returns the ffmpeg command that makes a file that livego reads of the one that err is about,
// "" where none does.
func convertCommand(path string, err error) string {
	if foreign, ok := errors.AsType[*source.UnsupportedContainerError](err); ok {
		return probe.ConvertCommand(path, foreign)
	}
	return ""
}

// withCommand returns err with the command that mends what it is about, if there is one.
func withCommand(err error, command string) error {
	if command == "" {
		return err
	}
	return fmt.Errorf("%w; convert it:\n  %s", err, command)
}

func exitCodeOf(verdict string) int {
	switch verdict {
	case probe.Fine:
		return exitOK
	case probe.Playable:
		return exitRemarks
	}
	return exitUnplayable
}

// probe looks at one source. Live streams have so long for it: some servers let who asks for nothing wait for ever.
func (c probeCmd) probe(ctx context.Context, name string) (*probe.Report, error) {
	const patience = 30 * time.Second
	address := c.address(name)
	whole := ctx
	if source.IsAddress(address) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	s, err := source.OpenAny(ctx, address)
	switch {
	case err != nil && address != name:
		return nil, fmt.Errorf("%s is no file, and as a room it does not play: %w", name, err)
	case err != nil:
		return nil, err
	}
	defer s.Close()
	r, err := probe.Inspect(ctx, s, probe.Options{All: c.All})
	if err != nil && ctx.Err() != nil && whole.Err() == nil {
		err = fmt.Errorf("%s: nothing came in %v: is anybody publishing?", s.Name, patience)
	}
	return r, err
}

// address returns the address of a room where name is one, and no file.
func (c probeCmd) address(name string) string {
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) && isRoom(name) {
		return strings.TrimSuffix(c.RTMP, "/") + "/" + name
	}
	return name
}

// isRoom reports whether a name could be that of a room rather than of a file.
func isRoom(name string) bool {
	return domain.CheckRoom(name) == nil && !strings.Contains(name, ".")
}

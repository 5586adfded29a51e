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

// Exit codes of probe and push, besides the common ones.
const (
	exitRemarks    = 3 // playable, but not everywhere or not well
	exitUnplayable = 4 // not playable as it is
)

// errReported is the error of a command that has already printed its errors.
var errReported = errors.New("")

type probeCmd struct {
	Sources []string `arg:"" name:"source" help:"Files, URLs of live streams (rtmp://, http://….flv, http://….m3u8), or rooms of the livego on this machine."`

	JSON bool          `name:"json" help:"Write the report as JSON: an array with an object for each source."`
	All  bool          `help:"Inspect the whole file. Otherwise only the first minute of a file above 256 MB is inspected."`
	For  time.Duration `name:"for" default:"6s" placeholder:"TIME" help:"How long to examine a live stream. Some problems show after a minute."`
	RTMP string        `name:"rtmp" default:"rtmp://127.0.0.1:1935/live" placeholder:"URL" help:"The base URL at which rooms of the livego on this machine are played."`
}

// Help is shown by livego probe --help.
func (probeCmd) Help() string {
	return `Reports the content of a file or a live stream, which outputs support it, and what viewers would
notice; and for each problem the ffmpeg command that repairs it. Examples:

  livego probe film.mp4
  livego probe --json *.mp4
  livego probe movie                          # the room, live on this machine
  livego probe --for 2m movie                 # the same for two minutes

The exit code is 0 if there are no remarks, 3 if something is playable with remarks, 4 if something is not
playable as it is.`
}

// Run probes each source.
func (c probeCmd) Run(e *env) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if c.For <= 0 {
		return &failure{exitUsage, errors.New("--for must be positive")}
	}
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

// convertCommand returns the ffmpeg command that converts a file of an unsupported format, which
// err reports; "" if there is none.
func convertCommand(path string, err error) string {
	if foreign, ok := errors.AsType[*source.UnsupportedContainerError](err); ok {
		return probe.ConvertCommand(path, foreign)
	}
	return ""
}

// withCommand returns err with the command that fixes it, if there is one.
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

// probe inspects one source. Live streams have a time limit: some servers send nothing while no
// publisher is connected.
func (c probeCmd) probe(ctx context.Context, name string) (*probe.Report, error) {
	patience := 30*time.Second + c.For
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
		return nil, fmt.Errorf("%s is not a file, and cannot be played as a room: %w", name, err)
	case err != nil:
		return nil, err
	}
	defer s.Close()
	r, err := probe.Inspect(ctx, s, probe.Options{All: c.All, Live: c.For})
	if err != nil && ctx.Err() != nil && whole.Err() == nil {
		err = fmt.Errorf("%s: no data for %v: is the stream live?", s.Name, patience)
	}
	return r, err
}

// address returns the address of a room if name is a room, not a file.
func (c probeCmd) address(name string) string {
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) && isRoom(name) {
		return strings.TrimSuffix(c.RTMP, "/") + "/" + name
	}
	return name
}

// isRoom reports whether name can be a room rather than a file.
func isRoom(name string) bool {
	return domain.CheckRoom(name) == nil && !strings.Contains(name, ".")
}

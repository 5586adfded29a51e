// Compare runs livego bench against the floor (bench/floor.c), livego and nginx-rtmp, one after the
// other on this machine, and prints the cost of each relative to the floor. make bench calls it;
// docs/performance.md explains the results.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"livego/internal/tools/bench"
)

// options are the settings of the command line.
type options struct {
	livego, floor, nginx string
	viewers, windows     []int
	protos               []string // empty: all
	duration, join       time.Duration
	settle               time.Duration
	results              string
	server               []string // additional arguments of the measured livego
	bench                []string // additional arguments of livego bench
	polled               []string // binaries for comparePolls
	rounds               int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var (
		o                                       options
		viewers, windows, protos, server, bench string
		polled                                  string
	)
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.StringVar(&o.livego, "livego", "bin/livego", "the livego binary, used as server and as bench")
	f.StringVar(&o.floor, "floor", "bin/floor", "bench/floor.c, compiled")
	f.StringVar(&o.nginx, "nginx", "bench/nginx.conf", "nginx configuration; empty to skip nginx")
	f.StringVar(&viewers, "viewers", "500,1500", "numbers of viewers, a run for each")
	f.StringVar(&windows, "windows", "0,33,50,100", "batching windows of the floor in ms, a run for each")
	f.StringVar(&protos, "proto", "", "only these protocols, such as flv or hls,llhls")
	f.DurationVar(&o.duration, "duration", 20*time.Second, "how long to measure")
	f.DurationVar(&o.settle, "settle", 50*time.Second,
		"how long the stream runs before the first viewer, until the server's buffers are full; "+
			"not used for the floor, which has none")
	f.DurationVar(&o.join, "join", 5*time.Second, "period over which viewers connect")
	f.StringVar(&o.results, "json", "", "write all results to this file")
	f.StringVar(&server, "server", "", "additional arguments of the measured livego")
	f.StringVar(&bench, "bench", "", "additional arguments of livego bench, such as --bitrate=500")
	f.StringVar(&polled, "polls", "", "livego binaries, separated by commas: measure only these, with and without polls "+
		"of /stat/livestat in turn")
	f.IntVar(&o.rounds, "rounds", 3, "how often -polls measures each")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.server, o.bench = strings.Fields(server), strings.Fields(bench)
	comma := func(r rune) bool { return r == ',' }
	o.protos, o.polled = strings.FieldsFunc(protos, comma), strings.FieldsFunc(polled, comma)
	var err1, err2 error
	o.viewers, err1 = parseInts(viewers)
	o.windows, err2 = parseInts(windows)
	return o, errors.Join(err1, err2)
}

func parseInts(list string) ([]int, error) {
	var out []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("%q: not a list of numbers", list)
		}
		out = append(out, n)
	}
	return out, nil
}

// A row is one run.
type row struct {
	Server  string        `json:"server"`
	Viewers int           `json:"viewers"`
	Window  int           `json:"window_ms"` // of the floor
	Result  *bench.Result `json:"result"`
}

// run does all runs and prints the table. Servers that are not installed are omitted; the errors of
// failed runs are returned at the end.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if len(o.polled) > 0 {
		return o.comparePolls(ctx, stdout, stderr)
	}
	var (
		rows   []row
		failed error
	)
	for _, n := range o.viewers {
		for _, s := range o.servers() {
			for _, t := range s.cases {
				if len(o.protos) > 0 && !slices.Contains(o.protos, t.proto) {
					continue
				}
				fmt.Fprintf(stderr, "== %s, %s, %d viewers\n", s.name, t.proto, n)
				result, err := o.measure(ctx, s, t, n, stderr)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err != nil {
					failed = errors.Join(failed, fmt.Errorf("%s, %s, %d viewers: %w", s.name, t.proto, n, err))
					continue
				}
				rows = append(rows, row{s.name, n, s.window, result})
			}
		}
	}
	fmt.Fprintf(stdout, "%s\n\n%s", machine(), table(rows, o.windows))
	return errors.Join(failed, o.save(rows))
}

func (o *options) save(rows []row) error {
	if o.results == "" {
		return nil
	}
	b, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.results, append(b, '\n'), 0o644)
}

// measure starts a server, measures it once and stops it, so that no run is affected by memory of
// an earlier one.
func (o *options) measure(
	ctx context.Context, s server, t benchCase, viewers int, stderr io.Writer,
) (*bench.Result, error) {
	stop, err := s.start(ctx, stderr)
	if err != nil {
		return nil, err
	}
	defer stop()
	args := append([]string{
		"bench", "--json", fmt.Sprintf("--viewers=%d", viewers), "--duration=" + o.duration.String(),
		"--join=" + o.join.String(),
	}, t.args...)
	if s.cachesStream {
		args = append(args, "--settle="+o.settle.String())
	}
	cmd := exec.CommandContext(ctx, o.livego, append(args, o.bench...)...)
	cmd.Stderr = stderr
	out, err := cmd.Output()
	var result bench.Result
	if json.Unmarshal(out, &result) != nil {
		return nil, cmp.Or(err, errors.New("livego bench wrote no result"))
	}
	return &result, nil // failures are part of the result and shown in the table
}

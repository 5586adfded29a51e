package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"livego/internal/tools/bench"
)

// pollURL is what is polled.
const pollURL = "http://127.0.0.1:" + apiPort + "/stat/livestat"

// comparePolls measures each of o.polled with and without a program that polls its statistics, in
// turn, and prints the medians of all rounds: the delay of frames, and what a poll costs.
func (o *options) comparePolls(ctx context.Context, stdout, stderr io.Writer) error {
	viewers := o.viewers[0]
	type runs struct{ quiet, polled []*bench.Result }
	all := make([]runs, len(o.polled))
	for round := range o.rounds {
		for i, binary := range o.polled {
			s := (&options{livego: binary, server: o.server}).livegoServers()[0]
			flv := s.cases[slices.IndexFunc(s.cases, func(c benchCase) bool { return c.proto == "flv" })]
			for _, poll := range []bool{false, true} {
				t, into := flv, &all[i].quiet
				if poll {
					t.args, into = append(slices.Clone(t.args), "--poll="+pollURL), &all[i].polled
				}
				fmt.Fprintf(stderr, "== round %d, %s, %d viewers, polled: %v\n", round+1, binary, viewers, poll)
				result, err := o.measure(ctx, s, t, viewers, stderr)
				if err != nil {
					return err
				}
				for _, why := range result.Failures() {
					fmt.Fprintln(stderr, "!", why)
				}
				*into = append(*into, result)
			}
		}
	}
	fmt.Fprintf(stdout, "%s\n\n| livego | p99, ms | with polls, ms | CPU of a poll, ms | response p99, ms | "+
		"machine busy, %% |\n|---|---|---|---|---|---|\n", machine())
	for i, r := range all {
		fmt.Fprintf(stdout, "| %s | %.1f | %.1f | %.1f | %.1f | %.0f |\n", o.polled[i],
			median(r.quiet, func(r *bench.Result) float64 { return r.Latency.P99 }),
			median(r.polled, func(r *bench.Result) float64 { return r.Latency.P99 }),
			1000*(median(r.polled, serverCPU)-median(r.quiet, serverCPU))/
				median(r.polled, func(r *bench.Result) float64 { return float64(r.Polls.Requests) / r.Seconds }),
			median(r.polled, func(r *bench.Result) float64 { return r.Polls.Response.P99 }),
			100*median(r.polled, func(r *bench.Result) float64 { return r.Bench.Machine }))
	}
	return nil
}

// serverCPU returns the processors that the server used.
func serverCPU(r *bench.Result) float64 {
	if r.Server == nil {
		return 0
	}
	return r.Server.CPU
}

// median returns the median of a value over results, of which there is at least one.
func median(results []*bench.Result, value func(*bench.Result) float64) float64 {
	values := make([]float64, len(results))
	for i, r := range results {
		values[i] = value(r)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

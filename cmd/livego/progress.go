package main

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// A progress shows how far a command is: a bar on a terminal, otherwise lines.
type progress struct {
	out   io.Writer
	bar   *progressbar.ProgressBar // nil for lines
	stage any                      // of the last line
	last  time.Time                // when it was printed
}

// barSteps is the resolution of the bar.
const barSteps = 1000

func newProgress(out io.Writer, width int) *progress {
	p := &progress{out: out}
	if isTerminal(out) {
		p.bar = progressbar.NewOptions(barSteps, progressbar.OptionSetWriter(out), progressbar.OptionSetWidth(width),
			progressbar.OptionClearOnFinish(), progressbar.OptionSetElapsedTime(false), progressbar.OptionSetPredictTime(false))
	}
	return p
}

// update shows text and the part that is done, from 0 to 1. It prints a line every five seconds,
// and at once if stage, which must be comparable, is another one than before.
func (p *progress) update(done float64, text string, stage any) {
	const every = 5 * time.Second
	if p.bar != nil {
		p.bar.Describe(text)
		_ = p.bar.Set(int(done * (barSteps - 1))) // draws only; a full bar would finish
		return
	}
	if stage != p.stage || time.Since(p.last) >= every {
		p.stage, p.last = stage, time.Now()
		fmt.Fprintln(p.out, text)
	}
}

// clear removes the bar.
func (p *progress) clear() {
	if p.bar != nil {
		_ = p.bar.Clear() // draws only
	}
}

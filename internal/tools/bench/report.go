package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// WriteText writes r as text.
func (r *Result) WriteText(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-16s %s\n", name, fmt.Sprintf(format, args...))
	}
	if s := r.Stream; s.Streams > 0 {
		line("stream", "%s, %.0f kbit/s, %.4g frames/s, %d published", s.Source, s.Kbps, s.FPS, s.Streams)
	}
	problems := func(v Viewers) {
		for _, why := range slices.Sorted(maps.Keys(v.Errors)) {
			line("", "%d x %s", v.Errors[why], why)
		}
	}
	joins := func(j Joins) {
		line("first picture", "%s", j.FirstPicture)
		for _, h := range []struct {
			name string
			Percentiles
		}{
			{"full handshake", j.Handshake}, {"resumption", j.ResumedHandshake}, {"after handshake", j.PictureAfterHandshake},
		} {
			if h.Count > 0 {
				line(h.name, "%s", h.Percentiles)
			}
		}
	}
	line("viewers", "%d of %d over %s, for %.1f s", r.Viewers.Joined, r.Viewers.Wanted, strings.Join(r.Protocols, " and "),
		r.Seconds)
	problems(r.Viewers)
	d := r.Delivery
	if d.Expected > 0 {
		line("delivered", "%.2f %% of %d frames, %.1f Mbit/s", 100*d.Share, d.Expected, d.Mbps)
	} else {
		line("delivered", "%.1f Mbit/s", d.Mbps)
	}
	line("order", "%d frames missing, %d repeated, %d timestamp gaps, %d timestamp steps back", d.Missing, d.Repeats,
		d.Gaps,
		d.StepBack)
	if d.Checked > 0 {
		line("content", "%d of %d checked frames are as sent", d.Checked-d.Corrupt, d.Checked)
	}
	line("latency", "%s", r.Latency)
	joins(r.Joins)
	if r.PartSpread.Count > 0 {
		line("part spread", "%s", r.PartSpread)
	}
	if s := r.Storm; s != nil {
		line("join storm", "%d of %d more viewers", s.Viewers.Joined, s.Viewers.Wanted)
		problems(s.Viewers)
		joins(*s)
	}
	if p := r.Polls; p != nil && p.Requests > 0 {
		line("polls", "%d of %.0f kB each, response %s", p.Requests, float64(p.Bytes)/1000/float64(p.Requests), p.Response)
	}
	if r.EncoderBlocked.Count > 0 {
		line("encoder blocked", "%s", r.EncoderBlocked)
	}
	if s := r.Server; s != nil {
		line("server CPU", "%.0f us per viewer and second, %.2f processors (pid %s)", s.CPUPerViewer, s.CPU, pids(s.PIDs))
		line("server memory", "%.1f kB per viewer above %.1f MB idle", s.KBPerViewer, float64(s.IdleKB)/1024)
	} else {
		line("server", "not measured: it runs elsewhere, or its pid is unknown")
	}
	n := r.Bench
	line("this bench", "%.2f of %d processors, lag p99 %.1f ms, behind p99 %.1f ms; the machine was busy to %.0f %%",
		n.CPU, n.Cores, n.Lag.P99, n.Behind.P99, 100*n.Machine)
	for _, why := range r.Failures() {
		line("!", "%s", why)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (p Percentiles) String() string {
	if p.Count == 0 {
		return "not measured"
	}
	return fmt.Sprintf("p50 %.1f, p90 %.1f, p99 %.1f, max %.1f ms", p.P50, p.P90, p.P99, p.Max)
}

func pids(list []int) string { return strings.Trim(fmt.Sprint(list), "[]") }

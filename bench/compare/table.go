package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"livego/internal/tools/bench"
)

// table returns the rows as Markdown, each with its CPU relative to that of plain HTTP-FLV from
// livego and to the floor at every window, for the same number of viewers.
func table(rows []row, windows []int) string {
	var b strings.Builder
	b.WriteString("| viewers | server | protocol | CPU, us | memory, kB | p50 / p99, ms | first picture, ms | " +
		"after handshake, p50 / p99, ms | delivered | x flv |")
	for _, w := range windows {
		fmt.Fprintf(&b, " x floor %d |", w)
	}
	b.WriteString("\n|" + strings.Repeat("---|", 10+len(windows)) + "\n")
	for _, r := range rows {
		res := r.Result
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %.1f / %.1f | %.1f | %s | %.1f %%%s | %s |", r.Viewers, r.Server,
			strings.Join(res.Protocols, "+"), cpu(r), memory(r), res.Latency.P50, res.Latency.P99, res.FirstPicture.P50,
			afterHandshake(res), 100*res.Delivery.Share, void(r), ratio(r, findRow(rows, func(other row) bool {
				return other.Server == livegoName && other.Viewers == r.Viewers &&
					slices.Equal(other.Result.Protocols, []string{bench.FLV})
			})))
		for _, w := range windows {
			fmt.Fprintf(&b, " %s |", ratio(r, findRow(rows, func(other row) bool {
				return strings.HasPrefix(other.Server, "floor") && other.Window == w && other.Viewers == r.Viewers
			})))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func cpu(r row) string {
	if r.Result.Server == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f", r.Result.Server.CPUPerViewer)
}

func memory(r row) string {
	if r.Result.Server == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f", r.Result.Server.KBPerViewer)
}

// void marks void results.
func void(r row) string {
	if len(r.Result.Bench.Void) > 0 {
		return " (void: the bench was the bottleneck)"
	}
	return ""
}

// afterHandshake returns the time of the first picture after a TLS handshake.
func afterHandshake(r *bench.Result) string {
	if r.PictureAfterHandshake.Count == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f / %.1f", r.PictureAfterHandshake.P50, r.PictureAfterHandshake.P99)
}

// findRow returns the first row that matches, nil if there is none.
func findRow(rows []row, matches func(row) bool) *row {
	if i := slices.IndexFunc(rows, matches); i >= 0 {
		return &rows[i]
	}
	return nil
}

// ratio returns the CPU of r relative to that of base.
func ratio(r row, base *row) string {
	if base == nil || r.Result.Server == nil || base.Result.Server == nil || base.Result.Server.CPUPerViewer == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", r.Result.Server.CPUPerViewer/base.Result.Server.CPUPerViewer)
}

// machine describes the machine that was measured.
func machine() string {
	return fmt.Sprintf("%s, %d x %s, %s, %s", time.Now().Format(time.DateOnly), runtime.NumCPU(), cpuModel(), kernel(),
		runtime.Version())
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return "Linux " + strings.TrimSpace(string(release))
}

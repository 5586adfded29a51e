package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// table returns the rows as Markdown, each with its CPU relative to the floor at every window, for
// the same number of viewers.
func table(rows []row, windows []int) string {
	var b strings.Builder
	b.WriteString("| viewers | server | protocol | CPU, us | memory, kB | p50 / p99, ms | first picture, ms | delivered |")
	for _, w := range windows {
		fmt.Fprintf(&b, " x floor %d |", w)
	}
	b.WriteString("\n|" + strings.Repeat("---|", 8+len(windows)) + "\n")
	for _, r := range rows {
		res := r.Result
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %.1f / %.1f | %.1f | %.1f %%%s |", r.Viewers, r.Server,
			strings.Join(res.Protocols, "+"),
			cpu(r), memory(r), res.Latency.P50, res.Latency.P99, res.FirstPicture.P50, 100*res.Delivery.Share, void(r))
		for _, w := range windows {
			fmt.Fprintf(&b, " %s |", ratio(r, floorOf(rows, w, r.Viewers)))
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

// floorOf returns the row of the floor at a window, nil if there is none.
func floorOf(rows []row, window, viewers int) *row {
	for i, r := range rows {
		if strings.HasPrefix(r.Server, "floor") && r.Window == window && r.Viewers == viewers {
			return &rows[i]
		}
	}
	return nil
}

func ratio(r row, floor *row) string {
	if floor == nil || r.Result.Server == nil || floor.Result.Server == nil || floor.Result.Server.CPUPerViewer == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", r.Result.Server.CPUPerViewer/floor.Result.Server.CPUPerViewer)
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

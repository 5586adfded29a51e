package bench

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"
)

// usage is what processes have used.
type usage struct {
	cpu    time.Duration
	memory int64 // resident bytes
}

// Above these limits the result is void: the bench may have measured its own slowness.
const (
	maxOwnCPU = 0.85 // of all processors
	maxLag    = 20 * time.Millisecond
)

// A loadMonitor measures this process and those of the server while the window is open.
type loadMonitor struct {
	pids []int

	mu  sync.Mutex
	lag histogram // how late timers fired

	start, end sample
}

// A sample is the resource usage up to some time.
type sample struct {
	at        time.Time
	own       time.Duration
	busy, all int64 // CPU time of the machine
	server    usage
	serverErr error
}

func (l *loadMonitor) sample() sample {
	s := sample{at: time.Now(), own: ownCPU()}
	s.busy, s.all = machineTimes()
	s.server, s.serverErr = usageOf(l.pids)
	return s
}

// watchLag measures how late timers fire while the window is open, until ctx ends.
func (l *loadMonitor) watchLag(ctx context.Context, s *measurement) {
	const every = 10 * time.Millisecond
	timer := time.NewTimer(every)
	defer timer.Stop()
	for due := time.Now().Add(every); ; {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		now := time.Now()
		if s.measured(s.now()) {
			l.mu.Lock()
			l.lag.add(now.Sub(due))
			l.mu.Unlock()
		}
		due = now.Add(every)
		timer.Reset(every)
	}
}

// benchLoad returns the load of this process. readDelay is how long its readers needed for the data
// that had arrived.
func (l *loadMonitor) benchLoad(readDelay *histogram) BenchLoad {
	l.mu.Lock()
	defer l.mu.Unlock()
	elapsed := l.end.at.Sub(l.start.at)
	b := BenchLoad{
		Cores:  runtime.NumCPU(),
		CPU:    (l.end.own - l.start.own).Seconds() / elapsed.Seconds(),
		Lag:    l.lag.percentiles(),
		Behind: readDelay.percentiles(),
	}
	if all := l.end.all - l.start.all; all > 0 {
		b.Machine = float64(l.end.busy-l.start.busy) / float64(all)
	}
	if share := b.CPU / float64(b.Cores); share > maxOwnCPU {
		b.Void = append(b.Void, fmt.Sprintf("it used %.0f %% of its processors", 100*share))
	}
	if p := l.lag.quantile(.99); p > maxLag {
		b.Void = append(b.Void, fmt.Sprintf("its timers were %v late (p99)", p.Round(time.Millisecond)))
	}
	if p := readDelay.quantile(.99); p > maxLag {
		b.Void = append(b.Void, fmt.Sprintf("it took %v to read received data (p99)", p.Round(time.Millisecond)))
	}
	return b
}

// serverLoad returns what the processes under test used for that number of viewers, above idle; nil
// if they could not be measured.
func (l *loadMonitor) serverLoad(idle usage, viewers int) *ServerLoad {
	if len(l.pids) == 0 || l.start.serverErr != nil || l.end.serverErr != nil || viewers == 0 {
		return nil
	}
	cpu := (l.end.server.cpu - l.start.server.cpu).Seconds() / l.end.at.Sub(l.start.at).Seconds()
	return &ServerLoad{
		PIDs: l.pids, CPU: cpu, CPUPerViewer: cpu * 1e6 / float64(viewers),
		IdleKB: idle.memory / 1024, MemoryKB: l.end.server.memory / 1024,
		KBPerViewer: float64(l.end.server.memory-idle.memory) / 1024 / float64(viewers),
	}
}

// listeningProcesses returns the processes of this machine that listen at the addresses of targets.
func listeningProcesses(targets []*target) []int {
	var pids []int
	for _, t := range targets {
		host, port, err := net.SplitHostPort(t.addr)
		if err != nil || !isLoopback(host) {
			continue
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			continue
		}
		for _, pid := range processesOnPort(n) {
			if !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// isLoopback reports whether host is this machine, by its loopback names.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

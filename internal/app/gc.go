package app

import (
	"context"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

// How much the heap may grow between two collections, in percent of what lives. With few streams
// the heap is small and a collection takes a few milliseconds each few seconds: 25 takes a third
// less memory than Go's 100 and no measurable processor time more. With hundreds of streams a
// collection marks for a tenth of a second, in which two full processors keep frames waiting: at
// 200 there are so few that 99 % of the frames of 500 streams of 1 Mbit/s (HLS off) came in 8 to 20
// ms instead of 71 to 105.
const (
	gcSmall  = 25
	gcMedium = 100
	gcLarge  = 200

	heapMedium = 32 << 20  // of live heap, from which on it is medium
	heapLarge  = 128 << 20 // and large

	gcLook = 5 * time.Second
)

// gcPercent returns how much a heap may grow of which so many bytes live.
func gcPercent(live uint64) int {
	switch {
	case live >= heapLarge:
		return gcLarge
	case live >= heapMedium:
		return gcMedium
	}
	return gcSmall
}

// memoryShare is the soft memory limit of the runtime, in percent of the control group's limit. Near
// it the runtime collects garbage more often instead of growing. The rest is for sockets and files,
// which the kernel counts too: it kills a process that exceeds the group's limit.
const memoryShare = 85

// A cgroup is the control group that limits the memory of this process the most.
type cgroup struct {
	limit int64         // in bytes; math.MaxInt64 for none
	stat  func() []byte // reads its memory.stat; nil if it is not of version 2
}

// controlGroup returns the control group with the lowest memory limit, of those of this process and
// of their parents. root is the root of the file system. (Linux, cgroups(7): memory.max in version
// 2, memory.limit_in_bytes in version 1.)
func controlGroup(root fs.FS) cgroup {
	least := cgroup{limit: math.MaxInt64}
	text, _ := fs.ReadFile(root, "proc/self/cgroup") // exists on Linux only
	for line := range strings.Lines(string(text)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, name, ok := strings.Cut(rest, ":")
		dir, file := "sys/fs/cgroup", "memory.max"
		switch {
		case !ok:
			continue
		case controllers == "memory":
			dir, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		case controllers != "":
			continue
		}
		// A container may see the path of the group on the host, but only the files of its own
		// group.
		for name = path.Clean("/" + name); ; name = path.Dir(name) {
			text, err := fs.ReadFile(root, path.Join(dir, name, file))
			n, parseErr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			// version 1 has a huge number for no limit
			if err == nil && parseErr == nil && n > 0 && n < least.limit && n < 1<<60 {
				least = cgroup{limit: n}
				if controllers == "" {
					least.stat = memoryStat(root, path.Join(dir, name, "memory.stat"))
				}
			}
			if name == "/" {
				break
			}
		}
	}
	return least
}

// tuneGC sets GOGC by the size of the live heap until ctx ends, and the memory limit of the runtime
// by that of the control group. GOGC and GOMEMLIMIT in the environment take precedence.
func tuneGC(ctx context.Context, limit int64) {
	if os.Getenv("GOMEMLIMIT") == "" && limit < math.MaxInt64 {
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(limit / 100 * memoryShare))
	}
	if os.Getenv("GOGC") != "" {
		<-ctx.Done()
		return
	}
	percent := gcSmall
	defer debug.SetGCPercent(debug.SetGCPercent(percent))
	look := time.NewTicker(gcLook)
	defer look.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		metrics.Read(live)
		if p := gcPercent(live[0].Value.Uint64()); p != percent { // setting it stops the world
			percent = p
			debug.SetGCPercent(percent)
		}
	}
}

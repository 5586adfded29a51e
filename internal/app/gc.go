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

// memoryShare is how much of what its control groups leave to the process the runtime may take, in
// percent, before it collects more often rather than grow: the kernel counts its sockets and files
// too, and kills who has more than all.
const memoryShare = 85

// A cgroup is the control cgroup that leaves the least memory to this process.
type cgroup struct {
	limit int64         // in bytes; math.MaxInt64 for none
	stat  func() []byte // its memory.stat, nil where there is none of version 2
}

// controlGroup returns which of the control groups of this process, the groups above included,
// leaves the least. root is the root of the file system. (Linux, cgroups(7): memory.max in version
// 2, memory.limit_in_bytes in version 1.)
func controlGroup(root fs.FS) cgroup {
	least := cgroup{limit: math.MaxInt64}
	text, _ := fs.ReadFile(root, "proc/self/cgroup") // elsewhere than on Linux there is none
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
		// A container may see the group of the machine and the files of its own.
		for name = path.Clean("/" + name); ; name = path.Dir(name) {
			text, err := fs.ReadFile(root, path.Join(dir, name, file))
			n, parseErr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			if err == nil && parseErr == nil && n > 0 && n < least.limit && n < 1<<60 { // version 1 says no limit by a huge one
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

// tuneGC sets how often garbage is collected by how much lives, until ctx ends, and how much memory
// there may be by limit, that of the control groups. GOGC and GOMEMLIMIT in the environment have
// the last word.
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

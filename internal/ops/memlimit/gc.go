package memlimit

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
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

// TuneGC sets GOGC by the size of the live heap until ctx ends, and the memory limit of the runtime
// by that of the control group. GOGC and GOMEMLIMIT in the environment take precedence.
func (g Group) TuneGC(ctx context.Context) {
	if os.Getenv("GOMEMLIMIT") == "" && g.Limit < math.MaxInt64 {
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(g.Limit / 100 * memoryShare))
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

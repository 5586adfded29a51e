package stream

import (
	"time"

	"livego/internal/media"
)

// A ring holds the newest frames of a stream. It is limited in time and bytes, and its slots grow
// within these limits. The caller locks.
type ring struct {
	slots []*media.Frame // len is a power of two; the frame with Seq n is at n & (len-1)
	tail  uint64         // Seq of the oldest frame
	head  uint64         // Seq of the next frame
	bytes int            // payload, and frameOverhead for each frame
	video bool           // has had video
	raps  []uint64       // Seqs of its random access points of the default video track, in order
}

// limits of a ring.
type limits struct {
	gops    int           // newest GOPs to keep for viewers that join
	minTime time.Duration // what to keep for slow viewers in any case
	time    time.Duration
	bytes   int
	// pinned means that a reader keeps the frames from pin on: see Subscriber.Keep.
	pinned bool
	pin    uint64
}

// maxPinned is how many times its limit of bytes a ring with a pin may have at most. What a publisher
// sends decides how long a reader keeps frames, so there is a limit for that too.
const maxPinned = 2

// frameOverhead is the memory of a frame beside its payload: the frame itself, its slot and what
// feeds keep of it. It limits the memory of an encoder that sends frames of one byte with equal
// timestamps.
const frameOverhead = 512

func (r *ring) at(seq uint64) *media.Frame { return r.slots[seq&uint64(len(r.slots)-1)] }

// newest returns the newest frame, nil if there is none.
func (r *ring) newest() *media.Frame {
	if r.head == r.tail {
		return nil
	}
	return r.at(r.head - 1)
}

// push appends f, sets its Seq, and drops what l does not require.
func (r *ring) push(f *media.Frame, l limits) {
	if int(r.head-r.tail) == len(r.slots) {
		r.grow()
	}
	f.Seq = r.head
	r.slots[r.head&uint64(len(r.slots)-1)] = f
	r.head++
	r.bytes += len(f.Payload) + frameOverhead
	if f.Track.Kind == media.Video {
		r.video = true
		if isStartPoint(f) {
			r.raps = append(r.raps, f.Seq)
		}
	}
	r.trim(f.DTS, l)
}

// isStartPoint reports whether a viewer may start at f: it is a random access point of the default
// video track.
func isStartPoint(f *media.Frame) bool {
	return f.Track.Kind == media.Video && f.RAP != media.NoRandomAccess && f.Program.IsDefault(f.Track)
}

func (r *ring) trim(now time.Duration, l limits) {
	wanted := r.head // the oldest frame at which a viewer that joins may start
	switch n := len(r.raps); {
	case n > 0:
		wanted = r.raps[max(0, n-max(1, l.gops))]
	case r.video:
		wanted = r.tail // a GOP without its keyframe: slow viewers have no later start
	}
	for r.tail < r.head-1 {
		age := now - r.at(r.tail).DTS
		needed := r.tail >= wanted || age <= l.minTime
		if needed && age <= l.time && r.bytes <= l.bytes || l.pinned && r.tail >= l.pin && r.bytes <= maxPinned*l.bytes {
			return
		}
		r.drop()
	}
}

// drop removes the oldest frame.
func (r *ring) drop() {
	i := r.tail & uint64(len(r.slots)-1)
	r.bytes -= len(r.slots[i].Payload) + frameOverhead
	r.slots[i] = nil
	if len(r.raps) > 0 && r.raps[0] == r.tail {
		r.raps = r.raps[1:]
	}
	r.tail++
}

// replace puts f in the place of the frame with its Seq, if the ring has that.
func (r *ring) replace(f *media.Frame) {
	if f.Seq < r.tail {
		return
	}
	slot := &r.slots[f.Seq&uint64(len(r.slots)-1)]
	r.bytes += len(f.Payload) - len((*slot).Payload)
	*slot = f
}

// reset drops all frames. The Seq of the next one is seq.
func (r *ring) reset(seq uint64) { *r = ring{tail: seq, head: seq} }

func (r *ring) grow() {
	old := r.slots
	r.slots = make([]*media.Frame, max(64, 2*len(old)))
	for seq := r.tail; seq < r.head; seq++ {
		r.slots[seq&uint64(len(r.slots)-1)] = old[seq&uint64(len(old)-1)]
	}
}

// rap returns the Seq of the nth newest random access point (1: the newest), or of the oldest one
// if there are fewer.
func (r *ring) rap(n int) (uint64, bool) {
	if len(r.raps) == 0 || n <= 0 {
		return 0, false
	}
	return r.raps[max(0, len(r.raps)-n)], true
}

// since returns the Seq of the oldest frame whose DTS is at most d before that of the newest.
func (r *ring) since(d time.Duration) uint64 {
	seq := r.head
	for seq > r.tail && r.newest().DTS-r.at(seq-1).DTS <= d {
		seq--
	}
	return seq
}

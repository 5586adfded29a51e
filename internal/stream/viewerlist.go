package stream

import (
	"cmp"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
)

// A viewerList holds the viewers of a stream by ascending ID, so that a caller can read a long list
// in pieces: each piece continues after the last ID of the one before, even if viewers left in
// between. Its lock is not that of the stream, so reading it delays no frame. The zero viewerList
// is empty.
type viewerList struct {
	mu    sync.Mutex
	slots []viewerSlot // by ascending ID
	gone  int          // slots whose viewer left
}

// A viewerSlot stays when its viewer leaves, because moving all later slots each time is expensive
// for a stream with many viewers.
type viewerSlot struct {
	id     uint64
	viewer *Viewer // nil after it left
}

// minCompact is how many empty slots are always kept.
const minCompact = 64

// add gives v the next ID of ids and appends it.
func (l *viewerList) add(v *Viewer, ids *atomic.Uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v.id = ids.Add(1)
	l.slots = append(l.slots, viewerSlot{v.id, v})
}

// remove removes v.
func (l *viewerList) remove(v *Viewer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, found := l.search(v.id)
	if !found || l.slots[i].viewer == nil {
		return
	}
	l.slots[i].viewer = nil
	if l.gone++; l.gone > minCompact && l.gone > len(l.slots)/2 {
		l.slots = slices.DeleteFunc(l.slots, func(s viewerSlot) bool { return s.viewer == nil })
		l.slots = slices.Clip(slices.Clone(l.slots)) // release the memory of many viewers that left
		l.gone = 0
	}
}

// find returns the viewer with that ID, nil if there is none.
func (l *viewerList) find(id uint64) *Viewer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, found := l.search(id); found {
		return l.slots[i].viewer
	}
	return nil
}

// search finds the slot of an ID. The caller holds l.mu.
func (l *viewerList) search(id uint64) (int, bool) {
	return slices.BinarySearchFunc(l.slots, id, func(s viewerSlot, id uint64) int { return cmp.Compare(s.id, id) })
}

// after writes the viewers whose IDs are higher than id to dst, in order, as many as dst holds, and
// returns how many these are.
func (l *viewerList) after(id uint64, dst []*Viewer) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, found := l.search(id)
	if found {
		i++
	}
	for ; i < len(l.slots) && n < len(dst); i++ {
		if v := l.slots[i].viewer; v != nil {
			dst[n] = v
			n++
		}
	}
	return n
}

// listBatch is how many viewers are copied at a time.
const listBatch = 256

// from iterates over the viewers whose IDs are higher than id, in order, without holding the lock.
func (l *viewerList) from(id uint64) iter.Seq[*Viewer] {
	return func(yield func(*Viewer) bool) {
		var buf [listBatch]*Viewer
		for n := len(buf); n == len(buf); {
			n = l.after(id, buf[:])
			for _, v := range buf[:n] {
				if id = v.id; !yield(v) {
					return
				}
			}
		}
	}
}

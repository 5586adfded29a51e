package stream

import (
	"cmp"
	"slices"
)

// A viewerList holds the viewers of a stream by ascending ID, so that a caller can read a long list
// in pieces: each piece continues after the last ID of the one before, even if viewers left in
// between. The zero viewerList is empty.
type viewerList struct {
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

// add appends v, whose ID is higher than all before.
func (l *viewerList) add(v *Viewer) { l.slots = append(l.slots, viewerSlot{v.id, v}) }

// remove removes v.
func (l *viewerList) remove(v *Viewer) {
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
	if i, found := l.search(id); found {
		return l.slots[i].viewer
	}
	return nil
}

func (l *viewerList) search(id uint64) (int, bool) {
	return slices.BinarySearchFunc(l.slots, id, func(s viewerSlot, id uint64) int { return cmp.Compare(s.id, id) })
}

// after calls yield for each viewer whose ID is higher than id, in order, until it returns false.
func (l *viewerList) after(id uint64, yield func(*Viewer) bool) {
	i, found := l.search(id)
	if found {
		i++
	}
	for _, s := range l.slots[i:] {
		if s.viewer != nil && !yield(s.viewer) {
			return
		}
	}
}

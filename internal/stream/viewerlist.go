package stream

import (
	"cmp"
	"slices"
)

// A viewerList holds the viewers of a stream by ascending ID, so that a long list can be read in
// pieces and each piece continues after the last ID of the one before, whoever left meanwhile. The
// zero viewerList is empty.
type viewerList struct {
	slots []viewerSlot // by ascending id
	gone  int          // slots whose viewer left
}

// A viewerSlot keeps its place when its viewer leaves: to move all that follow for each one would
// cost a full stream dearly.
type viewerSlot struct {
	id     uint64
	viewer *Viewer // nil after it left
}

// minCompact is how many empty slots are kept without a thought.
const minCompact = 64

// add appends v, whose ID is higher than all before.
func (l *viewerList) add(v *Viewer) { l.slots = append(l.slots, viewerSlot{v.id, v}) }

// remove takes v out.
func (l *viewerList) remove(v *Viewer) {
	i, found := l.search(v.id)
	if !found || l.slots[i].viewer == nil {
		return
	}
	l.slots[i].viewer = nil
	if l.gone++; l.gone > minCompact && l.gone > len(l.slots)/2 {
		l.slots = slices.DeleteFunc(l.slots, func(s viewerSlot) bool { return s.viewer == nil })
		l.slots = slices.Clip(slices.Clone(l.slots)) // a crowd that left leaves no memory behind
		l.gone = 0
	}
}

// find returns the viewer of that ID, nil when there is none.
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

package stream

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
)

// TestViewerList compares the list with a plain slice over random joins, leaves and reads in
// pieces.
func TestViewerList(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var l viewerList
	var want []*Viewer
	var next atomic.Uint64
	read := func(from uint64, most int) (ids []uint64) {
		for v := range l.from(from) {
			if ids = append(ids, v.id); len(ids) == most {
				break
			}
		}
		return ids
	}
	for step := range 20_000 {
		joining := step/2000%2 == 0 // many viewers join, then many leave
		switch n := random.IntN(10); {
		case joining && n < 8 || !joining && n < 2:
			next.Add(uint64(random.IntN(3)))
			v := new(Viewer)
			l.add(v, &next)
			want = append(want, v)
		case len(want) > 0:
			i := random.IntN(len(want))
			l.remove(want[i])
			l.remove(want[i]) // must have no effect
			if l.find(want[i].id) != nil {
				t.Fatalf("step %d: found after it left", step)
			}
			want = slices.Delete(want, i, i+1)
		}
		if l.gone > max(minCompact, len(l.slots)/2) {
			t.Fatalf("step %d: %d of %d slots are empty", step, l.gone, len(l.slots))
		}
		if step%97 != 0 {
			continue
		}
		var got []uint64
		for from := uint64(0); ; {
			piece := read(from, 1+random.IntN(2*listBatch))
			if len(piece) == 0 {
				break
			}
			got, from = append(got, piece...), piece[len(piece)-1]
		}
		ids := make([]uint64, len(want))
		for i, v := range want {
			ids[i] = v.id
			if l.find(v.id) != v {
				t.Fatalf("step %d: viewer %d is not found", step, v.id)
			}
		}
		if !slices.Equal(got, ids) {
			t.Fatalf("step %d: read %v, want %v", step, got, ids)
		}
	}
}

package stream

import "testing"

// TestMarksAreLimited adds marks without a frame between them. The newest are kept.
func TestMarksAreLimited(t *testing.T) {
	var ms marks
	const added = 2*maxMarks + 10
	for range added {
		ms.add(Mark{Kind: Noted}, 0)
	}
	if len(ms.list) != maxMarks || ms.dropped+maxMarks != added {
		t.Errorf("%d marks, %d dropped", len(ms.list), ms.dropped)
	}
	if n, _, ok := ms.next(0, true); !ok || n != ms.dropped {
		t.Errorf("the oldest mark is %d, %v", n, ok)
	}
}

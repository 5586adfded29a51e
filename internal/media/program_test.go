package media

import (
	"slices"
	"testing"
)

func TestProgram(t *testing.T) {
	v0, a5 := &Track{Kind: Video}, &Track{Kind: Audio, ID: 5}
	v2, v2b := &Track{Kind: Video, ID: 2}, &Track{Kind: Video, ID: 2}
	empty := new(Program)
	if _, ok := empty.DefaultID(Video); ok || empty.Has(Video) || empty.Default(Video) != nil || empty.IsDefault(v0) ||
		len(empty.Defaults()) != 0 {
		t.Error("the zero Program has a track")
	}

	p := NewProgram(a5, v2, v0)
	if !slices.Equal(p.Tracks, []*Track{v0, v2, a5}) || !slices.Equal(p.Defaults(), []*Track{v0, a5}) {
		t.Errorf("tracks %v, defaults %v", p.Tracks, p.Defaults())
	}
	if p.Track(Video, 2) != v2 || p.Track(Video, 1) != nil || p.Track(Audio, 2) != nil || p.Track(Data, 0) != nil {
		t.Error("Track returns another track")
	}

	if p.With(v2) != p || p.WithDefault(v0) != p || p.WithDiscontinuity(0) != p {
		t.Error("a call that changes nothing returns another Program")
	}
	q := p.With(v2b).WithDefault(v2b).WithDiscontinuity(3)
	if !slices.Equal(q.Tracks, []*Track{v0, v2b, a5}) || q.Default(Video) != v2b || q.Default(Audio) != a5 ||
		q.Discontinuity != 3 {
		t.Errorf("changed to %+v", q)
	}
	if !slices.Equal(p.Tracks, []*Track{v0, v2, a5}) || p.Default(Video) != v0 || p.Discontinuity != 0 {
		t.Errorf("the Program from before has changed to %+v", p)
	}

	pending := NewProgram(v2).WithDefault(v0)
	if id, ok := pending.DefaultID(Video); !ok || id != 0 || pending.Default(Video) != nil || !pending.Has(Video) {
		t.Errorf("the default is %d, %v, although it is not there yet", id, ok)
	}
	awaiting := p.WithAwaited(KindsOf(Data))
	if !awaiting.Awaited.Has(Data) || awaiting.Awaited.Has(Video) || p.Awaited != 0 || awaiting.Has(Data) ||
		awaiting.WithAwaited(KindsOf(Data)) != awaiting {
		t.Errorf("awaits %b", awaiting.Awaited)
	}
	last := &Track{Kind: Audio, ID: 255}
	if p := NewProgram(last); p.Default(Audio) != last {
		t.Error("a track with ID 255 is not the default")
	}
}

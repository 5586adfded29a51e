package stream

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	"livego/internal/domain"
)

// TestReservation has viewers join who need a reservation: it is released once, when they have left.
func TestReservation(t *testing.T) {
	h := NewHub(Options{})
	defer h.Close()
	mustPublish(t, h, PublishOptions{})
	reserved, full := 0, errors.New("full")
	reserve := func() (func(), error) {
		if reserved == 2 {
			return nil, full
		}
		reserved++
		return func() { reserved-- }, nil
	}
	join := func(name domain.Name, want error) *Viewer {
		t.Helper()
		v, err := h.Join(name, ViewerOptions{Proto: "test", Reserve: reserve})
		if err != want && domain.KindOf(err) != domain.NotFound {
			t.Fatalf("%v, want %v", err, want)
		}
		return v
	}
	join(domain.Name{App: "live", Room: "nobody"}, nil)
	if reserved != 0 {
		t.Error("a viewer of no stream has a reservation")
	}
	first := join(movie, nil)
	join(movie, nil)
	join(movie, full)
	if n := h.Viewers(movie, 0, make([]ConnInfo, 3)); n != 2 {
		t.Errorf("%d viewers, want 2", n)
	}
	first.Leave()
	first.Leave() // must release once
	join(movie, nil)
	join(movie, full)
}

// TestTextsAreTruncated joins and publishes with very long texts: statistics keep a bounded start
// of each, in valid UTF-8.
func TestTextsAreTruncated(t *testing.T) {
	h := NewHub(Options{})
	defer h.Close()
	const most = 1 << 10 // bytes of a text
	long := strings.Repeat("x", maxText-1) + "é" + strings.Repeat("y", 15<<10)
	p, err := h.Publish(t.Context(), movie, PublishOptions{Proto: "test", Remote: long, URL: long})
	if err != nil {
		t.Fatal(err)
	}
	defer p.End(Clean)
	v, err := h.Join(movie, ViewerOptions{Proto: "test", Remote: long, URL: long})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Leave()
	in, _ := h.Info(movie)
	viewers := make([]ConnInfo, 1)
	h.Viewers(movie, 0, viewers)
	for _, c := range append(in.Publishers, viewers...) {
		for _, s := range []string{c.Remote, c.URL} {
			if len(s) > most || !utf8.ValidString(s) || !strings.HasPrefix(long, s) {
				t.Errorf("statistics keep %d bytes: %q", len(s), s)
			}
		}
	}
}

// TestProtoStats counts viewers by protocol, also those that have left, but no part of the server.
func TestProtoStats(t *testing.T) {
	h := NewHub(Options{})
	defer h.Close()
	mustPublish(t, h, PublishOptions{})
	join := func(proto string, internal bool) *Viewer {
		v, err := h.Join(movie, ViewerOptions{Proto: proto, Internal: internal})
		if err != nil {
			t.Fatal(err)
		}
		v.ObserveBytes(100, 10)
		v.Skip()
		return v
	}
	check := func(want map[string]ProtoStats) {
		t.Helper()
		if in, _ := h.Info(movie); !maps.Equal(in.Viewers, want) {
			t.Errorf("%v, want %v", in.Viewers, want)
		}
	}
	check(nil)
	join("flv", true)
	check(nil)
	first, second := join("flv", false), join("flv", false)
	join("hls", false)
	check(map[string]ProtoStats{"flv": {2, 220, 2}, "hls": {1, 110, 1}})
	first.Leave()
	first.Leave() // must count once
	second.Leave()
	check(map[string]ProtoStats{"flv": {0, 220, 2}, "hls": {1, 110, 1}})
}

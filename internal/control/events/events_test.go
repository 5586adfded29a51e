package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

func ids(list []domain.Event) (ids []uint64) {
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	return ids
}

// TestClassesDoNotDisplaceEachOther adds more viewers and refusals than are kept.
func TestClassesDoNotDisplaceEachOther(t *testing.T) {
	l := New()
	l.Add(domain.Event{Type: domain.EventStreamStarted, App: "live", Room: "movie"})
	l.Add(domain.Event{Type: domain.EventDenied, Reason: "first"})
	for i := range maxKept + 5 {
		l.Add(domain.Event{Type: domain.EventViewerJoined, Session: fmt.Sprint(i)})
	}
	list := l.Since(0)
	if len(list) != maxKept+2 || list[0].Type != domain.EventStreamStarted || list[1].Reason != "first" ||
		list[2].Session != "5" || list[maxKept+1].Session != fmt.Sprint(maxKept+4) {
		t.Fatalf("%d events, the first %+v", len(list), list[:3])
	}
	if n := l.Counts(); n[domain.EventDenied] != 1 || n[domain.EventViewerJoined] != maxKept+5 {
		t.Errorf("counts %v", n)
	}
	for i, e := range list[1:] {
		if e.ID <= list[i].ID || e.At.IsZero() {
			t.Fatalf("event %d: %+v after the id %d", i+1, e, list[i].ID)
		}
	}
	if got := ids(l.Since(list[maxKept].ID)); len(got) != 1 || got[0] != list[maxKept+1].ID {
		t.Errorf("since the last but one: %v", got)
	}
}

// TestIDsIncreaseOverRestart compares the IDs of two logs, one after the other.
func TestIDsIncreaseOverRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := New()
		for range 100 {
			before.Add(domain.Event{Type: domain.EventDenied})
		}
		newest := before.Since(0)[99].ID
		time.Sleep(time.Millisecond)
		after := New()
		after.Add(domain.Event{Type: domain.EventDenied})
		if got := after.Since(0)[0].ID; got <= newest || got > 1<<53 {
			t.Errorf("the ID %d after %d", got, newest)
		}
		sub, err := after.Subscribe(newest) // an ID of the process before
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		if list, lost, err := sub.Next(t.Context()); len(list) != 1 || lost != 0 || err != nil {
			t.Errorf("%d events, %d lost, %v", len(list), lost, err)
		}
	})
}

func TestEventsAreBounded(t *testing.T) {
	l := New()
	fields := map[string]any{"text": strings.Repeat("é", 1000), "n": 3, "list": []int{1}}
	l.Add(domain.Event{Type: domain.EventDenied, App: strings.Repeat("a", 1000), Reason: strings.Repeat("b", 1000),
		Fields: fields})
	fields["n"] = 4 // the caller's map
	for i := range 100 {
		fields[fmt.Sprint(i)] = true
	}
	l.Add(domain.Event{Type: domain.EventDenied, Fields: fields})
	list := l.Since(0)
	if e := list[0]; len(e.App) != maxName || len(e.Reason) != maxReason || e.Fields["n"] != 3 || len(e.Fields) != 2 ||
		e.Fields["text"] != strings.Repeat("é", maxFieldText/2) {
		t.Errorf("kept %+v", e)
	}
	if n := len(list[1].Fields); n != maxFields {
		t.Errorf("%d fields", n)
	}
}

// TestSubscription reads events as they come, after a pause, and after the end.
func TestSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		l.Add(domain.Event{Type: domain.EventDenied, Reason: "before"})
		sub, err := l.Subscribe(0)
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		type result struct {
			list []domain.Event
			lost uint64
			err  error
		}
		results := make(chan result)
		next := func() {
			list, lost, err := sub.Next(t.Context())
			results <- result{list, lost, err}
		}
		go next()
		synctest.Wait()
		l.Add(domain.Event{Type: domain.EventDenied, Reason: "after"})
		if r := <-results; len(r.list) != 1 || r.list[0].Reason != "after" || r.lost != 0 || r.err != nil {
			t.Fatalf("received %+v", r)
		}
		for range maxKept + 7 { // while the subscriber is slow
			l.Add(domain.Event{Type: domain.EventDenied})
		}
		l.addLost(3)
		go next()
		if r := <-results; len(r.list) != maxKept || r.lost != 10 || r.err != nil {
			t.Fatalf("%d events, %d lost, %v", len(r.list), r.lost, r.err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := sub.Next(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
		l.Add(domain.Event{Type: domain.EventStreamEnded})
		l.Close()
		go next()
		if r := <-results; len(r.list) != 1 || r.err != nil {
			t.Errorf("the event before the end: %+v", r)
		}
		go next()
		if r := <-results; r.err != io.EOF {
			t.Errorf("after the end: %+v", r)
		}
		if _, err := l.Subscribe(0); domain.KindOf(err) != domain.Unavailable {
			t.Errorf("subscribe after the end: %v", err)
		}
	})
}

func TestSubscriptionsAreLimited(t *testing.T) {
	l := New()
	var last *Subscription
	for range maxSubscriptions {
		sub, err := l.Subscribe(0)
		if err != nil {
			t.Fatal(err)
		}
		last = sub
	}
	if _, err := l.Subscribe(0); domain.KindOf(err) != domain.Limit {
		t.Errorf("one too many: %v", err)
	}
	last.Close()
	if _, err := l.Subscribe(0); err != nil {
		t.Errorf("after one was closed: %v", err)
	}
}

// TestConcurrentUse adds, lists and receives events at the same time. Each event is received or
// counted as lost.
func TestConcurrentUse(t *testing.T) {
	const writers, each = 4, 500
	l := New()
	var readers, adding sync.WaitGroup
	for range 8 {
		sub, err := l.Subscribe(0)
		if err != nil {
			t.Fatal(err)
		}
		readers.Go(func() {
			defer sub.Close()
			sum := uint64(0)
			for {
				list, lost, err := sub.Next(t.Context())
				if err != nil {
					break
				}
				sum += uint64(len(list)) + lost
			}
			if sum != writers*each {
				t.Errorf("%d events received or lost", sum)
			}
		})
	}
	for range writers {
		adding.Go(func() {
			for range each {
				l.Add(domain.Event{Type: domain.EventDenied})
				l.Since(0)
			}
		})
	}
	adding.Wait()
	l.Close()
	readers.Wait()
}

// TestObserve adds the events of a hub, with sessions and reasons.
func TestObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := stream.NewHub(stream.Options{Hold: 20 * time.Second})
		l := New()
		run := l.Observe(hub)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			run(ctx)
		}()
		name := domain.Name{App: "live", Room: "movie"}
		p, err := hub.Publish(ctx, name, stream.PublishOptions{Proto: "rtmp", Remote: "192.0.2.7:1"})
		if err != nil {
			t.Fatal(err)
		}
		f := &media.Frame{Track: &media.Track{Kind: media.Audio, Codec: media.AAC}, Meta: &media.Meta{HasAudio: true}}
		if err := p.Write(f); err != nil {
			t.Fatal(err)
		}
		v, err := hub.Join(name, stream.ViewerOptions{Proto: "flv", Remote: "192.0.2.8:1"})
		if err != nil {
			t.Fatal(err)
		}
		inside, err := hub.Join(name, stream.ViewerOptions{Internal: true})
		if err != nil {
			t.Fatal(err)
		}
		inside.Leave()
		v.Skip()
		if err := hub.Kick(v.ID(), domain.Errorf(domain.Denied, "enough")); err != nil {
			t.Fatal(err)
		}
		v.Leave()
		p.End(stream.Lost)
		next, err := hub.Publish(ctx, name, stream.PublishOptions{Proto: "pull"})
		if err != nil {
			t.Fatal(err)
		}
		hub.EndStream(name, true, domain.Errorf(domain.Denied, "on request"))
		time.Sleep(time.Minute) // the hold ends
		hub.EndStream(name, true, domain.Errorf(domain.Denied, "there is none"))
		stop()
		<-done
		hub.Close()
		var got []string
		for _, e := range l.Since(0) {
			if e.App != "live" || e.Room != "movie" {
				t.Errorf("%+v", e)
			}
			who := map[string]string{fmt.Sprint(p.ID()): "first", fmt.Sprint(next.ID()): "second", fmt.Sprint(v.ID()): "viewer"}
			got = append(got, fmt.Sprintf("%s: %s by %s from %q: %s", e.Type, who[e.Session], e.Proto, e.Remote, e.Reason))
		}
		want := []string{
			`stream.started: first by rtmp from "192.0.2.7:1": `,
			`viewer.joined: viewer by flv from "192.0.2.8:1": `,
			`viewer.left: viewer by flv from "192.0.2.8:1": enough`,
			`stream.held: first by rtmp from "192.0.2.7:1": the publisher was lost`,
			`stream.resumed: second by pull from "": `,
			`stream.held: second by pull from "": on request`,
			`stream.ended: second by pull from "": no publisher came back within 20s`,
		}
		if !slices.Equal(got, want) {
			t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

package httpflv

import (
	"runtime"
	"testing"
	"time"

	"livego/internal/deliver/fanout"
	"livego/internal/proto/cmcd"
	"livego/internal/quality"
	"livego/internal/stream"
)

// TestPlayerReports: the players of viewers that have named their session may report while these watch.
func TestPlayerReports(t *testing.T) {
	players := quality.New()
	hub, srv := newTestServerOptions(t, false,
		Options{Quality: players, Fanout: fanout.Options{WriteTimeout: 5 * time.Second, GOPs: 1}})
	p := publish(t, hub)
	p.Write(video(0, "key", true))
	p.Write(audio(0, "a0"))
	readBinary(t, dial(t, srv, "/live/movie.flv?CMCD=sid%3D%22by-socket%22"))
	get(t, srv, "GET", "/live/movie.flv?token=x&CMCD=sid%3D%22by-http%22")
	readBinary(t, dial(t, srv, "/live/movie.flv"))
	for session, want := range map[string]quality.Result{
		"by-socket": quality.Used, "by-http": quality.Used, "": quality.Refused, "other": quality.Refused,
	} {
		if got := players.Report(&cmcd.Data{Session: session}); got != want {
			t.Errorf("the report of %q is %v, want %v", session, got, want)
		}
	}
	if f := players.Figures(movie); f.Players != 2 || f.Share != 1 || len(f.Groups) != 2 {
		t.Errorf("%+v", f)
	}
	p.End(stream.Clean)
	for start := time.Now(); players.Figures(movie).Share != 0; runtime.Gosched() {
		if time.Since(start) > 20*time.Second {
			t.Fatal("the viewers have not left")
		}
	}
}

package hook

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"livego/internal/live"
)

// TestAgeOf reads how long an answer may be kept.
func TestAgeOf(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": 0, "max-age=60": time.Minute, "Private, Max-Age=5": 5 * time.Second, "max-age=0": 0, "no-store, max-age=60": 0, "max-age=60, no-cache": 0,
		"max-age=-1": 0, "max-age=soon": 0, "max-age=99999999999": 0, "max-age=2000000000": maxAge, "s-maxage=60": 0, "max-age": 0,
	} {
		if got := ageOf(http.Header{"Cache-Control": {header}}); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

// TestGateKeepsAnswers asks once while an answer says that it may be kept, and again where anything but the port is another.
func TestGateKeepsAnswers(t *testing.T) {
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Cache-Control", r.URL.Query().Get("cache"))
		fmt.Fprint(w, r.URL.Query().Get("answer"))
	}))
	defer srv.Close()
	for name, c := range map[string]struct {
		cache, answer string
		ok            bool
		asked         int64 // by four requests, three of which are the same
	}{
		"kept":        {"max-age=60", `{"allow":true}`, true, 2},
		"kept no":     {"max-age=60", `{"allow":false,"reason":"full"}`, false, 2},
		"not kept":    {"", `{"allow":true}`, true, 4},
		"no-store":    {"no-store,max-age=60", `{"allow":true}`, true, 4},
		"no answer":   {"max-age=60", `{"allow":"yes"}`, false, 4},
		"kept rename": {"max-age=60", `{"allow":true,"room":"other"}`, true, 2},
	} {
		asked.Store(0)
		url := srv.URL + "/?cache=" + c.cache + "&answer=" + c.answer
		g := NewGate(GateOptions{OnPlay: url, Secret: secret, Timeout: 5 * time.Second, Log: slog.New(slog.DiscardHandler)})
		for n, remote := range []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.2:1"} {
			grant, err := ask(t, g, live.Request{Action: live.Play, App: "live", Name: "movie", Remote: remote, Proto: "flv"})
			if (err == nil) != c.ok || name == "kept rename" && grant.Name.Room != "other" {
				t.Errorf("%s, request %d: %+v %v", name, n, grant, err)
			}
		}
		if asked.Load() != c.asked {
			t.Errorf("%s: asked %d times, want %d", name, asked.Load(), c.asked)
		}
	}
}

// TestAnswersAreBounded fills the memory of answers.
func TestAnswersAreBounded(t *testing.T) {
	var k answers
	now, allow := time.Now(), true
	for n := range maxKnown + 10 {
		k.put(question{Room: fmt.Sprint(n)}, answer{Allow: &allow}, now, time.Minute)
	}
	if len(k.all) != maxKnown {
		t.Errorf("%d answers are kept", len(k.all))
	}
	if _, ok := k.get(question{Room: "1"}, now.Add(time.Minute)); ok {
		t.Error("an answer outlives its time")
	}
	k.put(question{Room: "new"}, answer{Allow: &allow}, now.Add(2*time.Minute), time.Minute)
	if _, ok := k.get(question{Room: "new"}, now.Add(2*time.Minute)); !ok || len(k.all) != 1 {
		t.Errorf("%d answers are kept when all but one are over", len(k.all))
	}
}

package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"livego/internal/domain"
)

// TestParseMaxAge reads how long an answer may be kept.
func TestParseMaxAge(t *testing.T) {
	if _, said := parseMaxAge(http.Header{}); said {
		t.Error("no header says something")
	}
	for header, want := range map[string]time.Duration{
		"private": 0, "max-age=60": time.Minute, "Private, Max-Age=5": 5 * time.Second, "max-age=0": 0,
		"no-store, max-age=60": 0, "max-age=60, no-cache": 0,
		"max-age=-1": 0, "max-age=soon": 0, "max-age=99999999999": 0, "max-age=2000000000": maxAge, "s-maxage=60": 0,
		"max-age": 0,
	} {
		got, said := parseMaxAge(http.Header{"Cache-Control": {header}})
		if silent := header == "private" || header == "s-maxage=60"; got != want || said == silent {
			t.Errorf("%q: %v, %v, want %v", header, got, said, want)
		}
	}
}

// TestAuthorizerCachesDecisions asks once while an answer says that it may be kept, and again where
// anything but the port is another.
func TestAuthorizerCachesDecisions(t *testing.T) {
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
		"kept":         {"max-age=60", `{"allow":true}`, true, 2},
		"kept no":      {"max-age=60", `{"allow":false,"reason":"full"}`, false, 2},
		"not kept":     {"", `{"allow":true}`, true, 4},
		"recent no":    {"", `{"allow":false}`, false, 2},
		"no, not kept": {"max-age=0", `{"allow":false}`, false, 4},
		"no-store":     {"no-store,max-age=60", `{"allow":true}`, true, 4},
		"no answer":    {"max-age=60", `{"allow":"yes"}`, false, 4},
		"kept rename":  {"max-age=60", `{"allow":true,"room":"other"}`, true, 2},
	} {
		asked.Store(0)
		url := srv.URL + "/?cache=" + c.cache + "&answer=" + c.answer
		g := NewAuthorizer(AuthorizerOptions{OnPlay: url, Secret: secret, Timeout: 5 * time.Second,
			Log: slog.New(slog.DiscardHandler)})
		for n, remote := range []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.2:1"} {
			grant, err := authorize(t, g, domain.AuthRequest{Action: domain.Play, App: "live", Name: "movie", Remote: remote,
				Proto: "flv"})
			if (err == nil) != c.ok || name == "kept rename" && grant.Name.Room != "other" {
				t.Errorf("%s, request %d: %+v %v", name, n, grant, err)
			}
		}
		if asked.Load() != c.asked {
			t.Errorf("%s: asked %d times, want %d", name, asked.Load(), c.asked)
		}
	}
}

// TestAuthorizerCachesRecentDecisions asks once for a room that is not live, and again when it is,
// when the moment is over, and to publish.
func TestAuthorizerCachesRecentDecisions(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		answer string
		ok     bool
		live   string  // the room that is live after the second request
		want   []int64 // how often was asked after each of four requests; before the fourth the moment is over
	}{
		"yes, not live":               {200, `{"allow":true}`, true, "", []int64{1, 1, 1, 2}},
		"yes, goes live":              {200, `{"allow":true}`, true, "movie", []int64{1, 1, 2, 3}},
		"another room, not live":      {200, `{"allow":true,"room":"other"}`, true, "movie", []int64{1, 1, 1, 2}},
		"another room, goes live":     {200, `{"allow":true,"room":"other"}`, true, "other", []int64{1, 1, 2, 3}},
		"no":                          {200, `{"allow":false}`, false, "movie", []int64{1, 1, 1, 2}},
		"403":                         {403, ``, false, "movie", []int64{1, 1, 1, 2}},
		"no answer is asked again":    {500, ``, false, "", []int64{1, 2, 3, 4}},
		"no answer is no kept answer": {200, `{}`, false, "", []int64{1, 2, 3, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.answer)
			}))
			defer srv.Close()
			nowLive := ""
			g := NewAuthorizer(AuthorizerOptions{
				OnPlay: srv.URL, OnPublish: srv.URL, Secret: secret, Timeout: 5 * time.Second, Log: slog.New(slog.DiscardHandler),
				IsLive: func(n domain.Name) bool { return n.Room == nowLive },
			})
			defer g.client.http.CloseIdleConnections()
			play := domain.AuthRequest{Action: domain.Play, App: "live", Name: "movie", Remote: "192.0.2.1:1", Proto: "flv"}
			for n, want := range c.want {
				switch n {
				case 2:
					nowLive = c.live
				case 3: // the moment is over
					for e := g.recent.order.Front(); e != nil; e = e.Next() {
						k := e.Value.(cacheEntry)
						k.expires = time.Now()
						e.Value = k
					}
				}
				if _, err := authorize(t, g, play); (err == nil) != c.ok || asked.Load() != want {
					t.Errorf("request %d: %v, asked %d times, want %d", n, err, asked.Load(), want)
				}
			}
			before := asked.Load()
			for range 2 {
				_, _ = authorize(t, g, domain.AuthRequest{Action: domain.Publish, App: "live", Name: "movie", Remote: "192.0.2.1:1",
					Proto: "rtmp"})
			}
			if n := asked.Load() - before; n != 2 {
				t.Errorf("two publishers made %d questions", n)
			}
		})
	}
}

// TestOneAddressCannotUseAllRequests has one address ask more than its share of a program that does
// not answer: another address is asked about at once.
func TestOneAddressCannotUseAllRequests(t *testing.T) {
	const maxAskingAlone = maxRequests / 2 // of one address
	hang := make(chan struct{})
	var hanging sync.WaitGroup
	hanging.Add(maxAskingAlone)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q decisionRequest
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		if q.Remote == "192.0.2.1:1" {
			hanging.Done() // panics when more than a share comes
			<-hang
		}
		fmt.Fprint(w, `{"allow":true}`)
	}))
	defer srv.Close()
	g := NewAuthorizer(AuthorizerOptions{OnPlay: srv.URL, Secret: secret, Timeout: time.Minute,
		Log: slog.New(slog.DiscardHandler)})
	defer g.client.http.CloseIdleConnections()
	request := func(room, remote string) error {
		_, err := g.Authorize(t.Context(),
			domain.AuthRequest{Action: domain.Play, App: "live", Name: room, Remote: remote, Proto: "flv"},
			domain.Grant{Name: domain.Name{App: "live", Room: room}})
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for n := range 4 * maxAskingAlone {
		all.Go(func() {
			_, _ = g.Authorize(ctx, domain.AuthRequest{Action: domain.Play, App: "live", Remote: "192.0.2.1:1"},
				domain.Grant{Name: domain.Name{App: "live", Room: fmt.Sprint("made-up", n)}})
		})
	}
	hanging.Wait()
	if err := request("movie", "192.0.2.2:1"); err != nil {
		t.Errorf("another address: %v", err)
	}
	cancel()
	all.Wait()
	close(hang)
}

// TestPlayRequestsDoNotDelayPublishers has many addresses ask for made-up rooms while the program
// for players does not answer: that for publishers is asked at once.
func TestPlayRequestsDoNotDelayPublishers(t *testing.T) {
	const addresses, each = 2 * maxRequests, 4
	hang, asked := make(chan struct{}), make(chan struct{}, addresses*each)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/play" {
			asked <- struct{}{}
			<-hang
		}
		fmt.Fprint(w, `{"allow":true}`)
	}))
	defer srv.Close()
	g := NewAuthorizer(AuthorizerOptions{
		OnPlay: srv.URL + "/play", OnPublish: srv.URL + "/publish", Secret: secret, Timeout: time.Minute,
		Log: slog.New(slog.DiscardHandler),
	})
	defer g.client.http.CloseIdleConnections()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for n := range addresses * each {
		all.Go(func() {
			_, _ = g.Authorize(ctx, domain.AuthRequest{Action: domain.Play, App: "live",
				Remote: fmt.Sprintf("192.0.2.%d:1", n/each)},
				domain.Grant{Name: domain.Name{App: "live", Room: fmt.Sprint("made-up", n)}})
		})
	}
	for range maxRequests {
		<-asked
	}
	if _, err := authorize(t, g, domain.AuthRequest{Action: domain.Publish, App: "live", Name: "movie",
		Remote: "192.0.2.1:9", Proto: "rtmp"}); err != nil {
		t.Errorf("a publisher: %v", err)
	}
	cancel()
	all.Wait()
	close(hang)
}

// TestLongResponsesAreNotCached gives answers that are as long as they may be: what is kept of them is short.
func TestLongResponsesAreNotCached(t *testing.T) {
	long := strings.Repeat("x", maxResponse-100)
	answers := make(chan string, 2)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, <-answers)
	}))
	defer srv.Close()
	g := NewAuthorizer(AuthorizerOptions{OnPlay: srv.URL, Secret: secret, Timeout: 5 * time.Second,
		Log: slog.New(slog.DiscardHandler)})
	defer g.client.http.CloseIdleConnections()
	answers <- `{"allow":true,"room":"` + long + `"}`
	if _, err := authorize(t, g, domain.AuthRequest{Action: domain.Play, App: "live",
		Name: "movie"}); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("a room of %d letters: %v", len(long), err)
	}
	answers <- `{"allow":false,"reason":"` + long + `"}`
	if _, err := authorize(t, g, domain.AuthRequest{Action: domain.Play, App: "live",
		Name: "movie"}); domain.KindOf(err) != domain.Denied || len(err.Error()) > 2*maxReason {
		t.Errorf("a reason of %d letters: %.300v", len(long), err)
	}
	if len(g.cache.all) != 1 {
		t.Errorf("%d answers are kept, want the one that can be", len(g.cache.all))
	}
}

// TestCacheIsBounded fills the memory of answers: the oldest go.
func TestCacheIsBounded(t *testing.T) {
	var k decisionCache
	now, allow := time.Now(), true
	for n := range maxCachedDecisions + 10 {
		k.put(decisionRequest{Room: fmt.Sprint(n)}, decision{Allow: &allow}, now, time.Minute)
		k.put(decisionRequest{Room: fmt.Sprint(n)}, decision{Allow: &allow}, now, time.Minute)
	}
	if len(k.all) != maxCachedDecisions || k.order.Len() != maxCachedDecisions {
		t.Errorf("%d answers are kept, %d in order", len(k.all), k.order.Len())
	}
	for n, want := range map[int]bool{0: false, 9: false, 10: true, maxCachedDecisions + 9: true} {
		if _, ok := k.get(decisionRequest{Room: fmt.Sprint(n)}, now); ok != want {
			t.Errorf("answer %d is kept: %v", n, ok)
		}
	}
	if _, ok := k.get(decisionRequest{Room: "10"}, now.Add(time.Minute)); ok {
		t.Error("an answer outlives its time")
	}
}

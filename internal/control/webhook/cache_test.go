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

// TestParseMaxAge parses Cache-Control headers.
func TestParseMaxAge(t *testing.T) {
	if _, found := parseMaxAge(http.Header{}); found {
		t.Error("found a directive without a header")
	}
	for header, want := range map[string]time.Duration{
		"private": 0, "max-age=60": time.Minute, "Private, Max-Age=5": 5 * time.Second, "max-age=0": 0,
		"no-store, max-age=60": 0, "max-age=60, no-cache": 0,
		"max-age=-1": 0, "max-age=soon": 0, "max-age=99999999999": 0, "max-age=2000000000": maxAge, "s-maxage=60": 0,
		"max-age": 0,
	} {
		got, found := parseMaxAge(http.Header{"Cache-Control": {header}})
		if silent := header == "private" || header == "s-maxage=60"; got != want || found == silent {
			t.Errorf("%q: %v, %v, want %v", header, got, found, want)
		}
	}
}

// TestAuthorizerCachesDecisions checks that a cacheable decision causes one request, and another
// one when anything but the port differs.
func TestAuthorizerCachesDecisions(t *testing.T) {
	var requests atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Cache-Control", r.URL.Query().Get("cache"))
		fmt.Fprint(w, r.URL.Query().Get("answer"))
	}))
	defer srv.Close()
	for name, c := range map[string]struct {
		cache, answer string
		ok            bool
		requests      int64 // requests for four clients, three of which differ only in the port
	}{
		"cached":              {"max-age=60", `{"allow":true}`, true, 2},
		"cached refusal":      {"max-age=60", `{"allow":false,"reason":"full"}`, false, 2},
		"not cached":          {"", `{"allow":true}`, true, 4},
		"recent refusal":      {"", `{"allow":false}`, false, 2},
		"refusal, not cached": {"max-age=0", `{"allow":false}`, false, 4},
		"no-store":            {"no-store,max-age=60", `{"allow":true}`, true, 4},
		"invalid response":    {"max-age=60", `{"allow":"yes"}`, false, 4},
		"cached room":         {"max-age=60", `{"allow":true,"room":"other"}`, true, 2},
	} {
		requests.Store(0)
		url := srv.URL + "/?cache=" + c.cache + "&answer=" + c.answer
		g := NewAuthorizer(AuthorizerOptions{OnPlay: url, Secret: secret, Timeout: 5 * time.Second,
			Log: slog.New(slog.DiscardHandler)})
		for n, remote := range []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.2:1"} {
			grant, err := authorize(t, g, domain.AuthRequest{Action: domain.Play, App: "live", Name: "movie", Remote: remote,
				Proto: "flv"})
			if (err == nil) != c.ok || name == "cached room" && grant.Name.Room != "other" {
				t.Errorf("%s, request %d: %+v %v", name, n, grant, err)
			}
		}
		if requests.Load() != c.requests {
			t.Errorf("%s: %d webhook requests, want %d", name, requests.Load(), c.requests)
		}
	}
}

// TestAuthorizerCachesRecentDecisions checks that a room that is not live causes one request, and
// another one when it is live, when the decision has expired, and to publish.
func TestAuthorizerCachesRecentDecisions(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		answer string
		ok     bool
		live   string  // the room that is live after the second request
		want   []int64 // total webhook requests after each of four play requests; the decision expires before the fourth
	}{
		"allowed, not live":              {200, `{"allow":true}`, true, "", []int64{1, 1, 1, 2}},
		"allowed, becomes live":          {200, `{"allow":true}`, true, "movie", []int64{1, 1, 2, 3}},
		"another room, not live":         {200, `{"allow":true,"room":"other"}`, true, "movie", []int64{1, 1, 1, 2}},
		"another room, becomes live":     {200, `{"allow":true,"room":"other"}`, true, "other", []int64{1, 1, 2, 3}},
		"refused":                        {200, `{"allow":false}`, false, "movie", []int64{1, 1, 1, 2}},
		"403":                            {403, ``, false, "movie", []int64{1, 1, 1, 2}},
		"server error is not cached":     {500, ``, false, "", []int64{1, 2, 3, 4}},
		"invalid response is not cached": {200, `{}`, false, "", []int64{1, 2, 3, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
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
				case 3: // the decision has expired
					for e := g.recent.order.Front(); e != nil; e = e.Next() {
						k := e.Value.(cacheEntry)
						k.expires = time.Now()
						e.Value = k
					}
				}
				if _, err := authorize(t, g, play); (err == nil) != c.ok || requests.Load() != want {
					t.Errorf("request %d: %v, %d webhook requests, want %d", n, err, requests.Load(), want)
				}
			}
			before := requests.Load()
			for range 2 {
				_, _ = authorize(t, g, domain.AuthRequest{Action: domain.Publish, App: "live", Name: "movie", Remote: "192.0.2.1:1",
					Proto: "rtmp"})
			}
			if n := requests.Load() - before; n != 2 {
				t.Errorf("two publishers caused %d webhook requests", n)
			}
		})
	}
}

// TestOneAddressCannotUseAllRequests has one address start more than its share of requests to a
// webhook that does not respond: a request for another address is sent at once.
func TestOneAddressCannotUseAllRequests(t *testing.T) {
	const maxRequestsAlone = maxRequests / 2 // the share of one address
	hang := make(chan struct{})
	var hanging sync.WaitGroup
	hanging.Add(maxRequestsAlone)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q decisionRequest
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		if q.Remote == "192.0.2.1:1" {
			hanging.Done() // panics when more than the share arrive
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
	for n := range 4 * maxRequestsAlone {
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

// TestPlayRequestsDoNotDelayPublishers has many addresses play made-up rooms while the webhook for
// players does not respond: the one for publishers is called at once.
func TestPlayRequestsDoNotDelayPublishers(t *testing.T) {
	const addresses, each = 2 * maxRequests, 4
	hang, requests := make(chan struct{}), make(chan struct{}, addresses*each)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/play" {
			requests <- struct{}{}
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
		<-requests
	}
	if _, err := authorize(t, g, domain.AuthRequest{Action: domain.Publish, App: "live", Name: "movie",
		Remote: "192.0.2.1:9", Proto: "rtmp"}); err != nil {
		t.Errorf("a publisher: %v", err)
	}
	cancel()
	all.Wait()
	close(hang)
}

// TestLongResponsesAreNotCached sends responses of the maximum length: what is cached of them is
// short.
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
		t.Errorf("%d decisions are cached, want the valid one", len(g.cache.all))
	}
}

// TestCacheIsBounded fills the cache: the oldest decisions are removed.
func TestCacheIsBounded(t *testing.T) {
	var k decisionCache
	now, allow := time.Now(), true
	for n := range maxCachedDecisions + 10 {
		k.put(decisionRequest{Room: fmt.Sprint(n)}, decision{Allow: &allow}, now, time.Minute)
		k.put(decisionRequest{Room: fmt.Sprint(n)}, decision{Allow: &allow}, now, time.Minute)
	}
	if len(k.all) != maxCachedDecisions || k.order.Len() != maxCachedDecisions {
		t.Errorf("%d decisions are cached, %d in order", len(k.all), k.order.Len())
	}
	for n, want := range map[int]bool{0: false, 9: false, 10: true, maxCachedDecisions + 9: true} {
		if _, ok := k.get(decisionRequest{Room: fmt.Sprint(n)}, now); ok != want {
			t.Errorf("decision %d is cached: %v", n, ok)
		}
	}
	if _, ok := k.get(decisionRequest{Room: "10"}, now.Add(time.Minute)); ok {
		t.Error("a decision outlives its max-age")
	}
}

package report

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/quality"
)

var movie = domain.Name{App: "live", Room: "movie"}

func send(h http.Handler, method, text, address string) int {
	r := httptest.NewRequest(method, "/.livego/report?CMCD="+url.QueryEscape(text), nil)
	r.RemoteAddr = address + ":1"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Header().Get("Cache-Control") != "no-store" {
		return 0
	}
	return w.Code
}

func TestReport(t *testing.T) {
	c := quality.New()
	defer c.Join(c.ID("a"), movie, "ws", "").Leave()
	h := New(c, false)
	for _, tt := range []struct {
		method, text string
		status       int
	}{
		{"GET", `bsa=(1),sid="a"`, 204},
		{"GET", `bsa=(1),sid="a"`, 204}, // too early, which is no fault of the player
		{"HEAD", `bsa=(1),sid="b"`, 204},
		{"GET", `bsa=(1),sid="b"`, 410},
		{"GET", `bsa=(1)`, 400},
		{"GET", `sid="a`, 400},
		{"GET", ``, 400},
	} {
		if got := send(h, tt.method, tt.text, "192.0.2.1"); got != tt.status {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.text, got, tt.status)
		}
	}
	if f := c.Figures(movie); f.Players != 1 || f.Stalled != 1 {
		t.Errorf("%+v", f)
	}
}

// TestLimit floods from one address. Others are not affected, nor a proxy on this machine.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := quality.New()
		h := New(c, false)
		flood := func(h *Handler, address string) (refused int) {
			for range 2 * addressBurst {
				if send(h, "GET", `sid="a"`, address) == http.StatusTooManyRequests {
					refused++
				}
			}
			return refused
		}
		if n := flood(h, "192.0.2.1"); n != addressBurst {
			t.Errorf("%d reports are refused, of %d", n, 2*addressBurst)
		}
		if h.Limited() != addressBurst {
			t.Errorf("%d counted", h.Limited())
		}
		if got := send(h, "GET", `sid="a"`, "192.0.2.2"); got != http.StatusGone {
			t.Errorf("another address gets %d", got)
		}
		time.Sleep(time.Second)
		for i := range addressRate + 1 {
			if got := send(h, "GET", `sid="a"`, "192.0.2.1"); got == http.StatusTooManyRequests != (i == addressRate) {
				t.Errorf("after a second, report %d gets %d", i, got)
			}
		}
		if n := flood(h, "127.0.0.1"); n != 0 {
			t.Errorf("%d reports of this machine are refused", n)
		}
		if n := flood(New(c, true), "127.0.0.1"); n != addressBurst {
			t.Errorf("%d reports of this machine are refused with limit_loopback", n)
		}
	})
}

// BenchmarkReport receives reports of 1,000 players.
func BenchmarkReport(b *testing.B) {
	c := quality.New()
	h := New(c, false)
	var requests []*http.Request
	for i := range 1000 {
		sid := fmt.Sprint("6e2fb550-c457-11e9-bb97-", i)
		defer c.Join(c.ID(sid), movie, "ws", "").Leave()
		text := `bsa=(1),bsda=(250),dfa=3,livego-frames=750,livego-switches=0,ltc=830,msd=412,v=2,sid="` + sid + `"`
		r := httptest.NewRequest("GET", "/.livego/report?CMCD="+url.QueryEscape(text), nil)
		r.RemoteAddr = "192.0.2.1:1"
		requests = append(requests, r)
	}
	w := httptest.NewRecorder()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%addressBurst == 0 {
			clear(h.limits[:])
		}
		h.ServeHTTP(w, requests[i%len(requests)])
	}
}

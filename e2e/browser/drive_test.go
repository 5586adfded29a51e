package browser

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"livego/e2e/harness"
)

// A chrome is a Chromium whose pages a test drives.
type chrome struct {
	*harness.Process
	t   *testing.T
	url string
}

// startChrome starts Chromium. The end of the test checks that no page had an error, broke its
// policy, or requested anything from another host than its own.
func startChrome(t *testing.T) *chrome {
	t.Helper()
	needBrowser(t)
	needWeb(t)
	c := &chrome{Process: harness.StartProgram(t, "node", "drive.mjs"), t: t}
	harness.Eventually(t, patience, "Chromium", func() error {
		if c.Ended() {
			t.Fatalf("the browser has exited:\n%s", c.Stderr())
		}
		port, _, started := strings.Cut(c.Stdout(), "\n")
		if !started {
			return fmt.Errorf("not started: %s", c.Stderr())
		}
		c.url = "http://127.0.0.1:" + port
		return nil
	})
	t.Cleanup(func() {
		var faults []string
		if c.call(t, "/faults", nil, &faults); len(faults) > 0 {
			t.Errorf("faults of pages:\n%s", strings.Join(faults, "\n"))
		}
	})
	return c
}

// call sends args to the driver, and stores its answer unless result is nil.
func (c *chrome) call(t *testing.T, path string, args map[string]any, result any) {
	t.Helper()
	body, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(c.url+path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatalf("%v\n%s", err, c.Stderr())
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v: %v\n%s", args, err, b)
	}
	if result == nil {
		return
	}
	if err := json.Unmarshal(b, result); err != nil {
		t.Fatalf("%v: %v: %s", args, err, b)
	}
}

// A page is an open player page.
type page struct {
	t *testing.T
	c *chrome
	n int // its number
}

// open opens a page in a new context with options of Playwright, nil for none.
func (c *chrome) open(t *testing.T, url string, options map[string]any) page {
	t.Helper()
	return c.openPage(t, url, options, false)
}

// openPlaying is open for a player page that nobody touches before it plays.
func (c *chrome) openPlaying(t *testing.T, url string, options map[string]any) page {
	t.Helper()
	return c.openPage(t, url, options, true)
}

func (c *chrome) openPage(t *testing.T, url string, options map[string]any, playing bool) page {
	t.Helper()
	p := page{t: t, c: c}
	c.call(t, "/open", map[string]any{"url": url, "options": options, "playing": playing}, &p.n)
	return p
}

// run runs the body of an async function of (page, context) in Node. Its result is stored unless
// result is nil.
func (p page) run(code string, result any) {
	p.t.Helper()
	p.c.call(p.t, "/run", map[string]any{"page": p.n, "code": code}, result)
}

// close closes the page.
func (p page) close() { p.run("await context.close()", nil) }

// A watched is what a player page shows.
type watched struct {
	Phase, Reason, Detail, Protocol string
	Frames, Width                   int
	Behind, Buffered                float64 // s
	Codecs                          string
	Switches, Errors, Sockets       int
	Stalls                          int
	StallTime                       float64 // s
	Time                            float64 // of the video, in s
	Rate                            float64 // of playing
	Text                            string  // of the message, "" if there is none
	Picture                         string  // 64 points
	Muted                           bool
}

// state returns what the page shows when the state of its player has changed, at the latest after 200 ms.
func (p page) state() watched {
	p.t.Helper()
	var w watched
	p.run(`return {sockets: page.sockets, ...await page.evaluate(async () => {
		const player = document.querySelector('livego-player')
		await new Promise((resolve) => {
			player.addEventListener('statechange', resolve, {once: true})
			setTimeout(resolve, 200)
		})
		const video = player.shadowRoot.querySelector('video')
		const canvas = document.createElement('canvas')
		canvas.width = canvas.height = 8
		const context = canvas.getContext('2d')
		context.drawImage(video, 0, 0, 8, 8)
		const message = player.shadowRoot.querySelector('.message')
		return {...player.stats, ...player.state, muted: player.muted, time: video.currentTime, rate: video.playbackRate,
			text: message.hidden ? '' : message.innerText.trim().replace(/\s+/g, ' '),
			picture: context.getImageData(0, 0, 8, 8).data.join()}
	})}`, &w)
	return w
}

// await waits until ok returns true for what the page shows, and returns that.
func (p page) await(what string, ok func(watched) bool) watched {
	p.t.Helper()
	var last watched
	harness.Eventually(p.t, patience, what, func() error {
		if last = p.state(); !ok(last) {
			last.Picture = ""
			return fmt.Errorf("%+v", last)
		}
		return nil
	})
	return last
}

// awaitMoving waits until the page has shown new frames and another picture, from now on.
func (p page) awaitMoving(what string) watched {
	p.t.Helper()
	var first watched
	return p.await(what, func(w watched) bool {
		if w.Phase != "playing" || w.Width == 0 {
			return false
		}
		if first.Phase == "" || w.Frames < first.Frames { // a new connection counts from 0
			first = w
		}
		return w.Frames >= first.Frames+10 && w.Picture != first.Picture
	})
}

// awaitText waits until the page shows this message.
func (p page) awaitText(text string) watched {
	p.t.Helper()
	return p.await("the message "+text, func(w watched) bool { return strings.Contains(w.Text, text) })
}

// TestPlayer tests the player page in one Chromium.
func TestPlayer(t *testing.T) {
	t.Parallel()
	c := startChrome(t)
	for name, test := range map[string]func(*testing.T, *chrome){
		"controls": testControls, "codecs": testCodecs, "refusals": testRefusals, "fallback": testFallback,
		"catch-up": testCatchUp,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, c)
		})
	}
}

package browser

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/gorilla/websocket"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// firefox is a Firefox that is driven by WebDriver BiDi (https://w3c.github.io/webdriver-bidi/).
// Playwright sends Debian's Firefox commands that it does not know.
type firefox struct {
	t      *testing.T
	conn   *websocket.Conn
	lastID int
}

// startFirefox starts Firefox without a window. It allows players to start with sound, as a person does who has
// allowed that for a site.
func startFirefox(t *testing.T) *firefox {
	t.Helper()
	harness.Need(t, "firefox-esr")
	profile := t.TempDir()
	prefs := `user_pref("media.autoplay.default", 0);` + "\n" + `user_pref("app.update.enabled", false);` + "\n" +
		`user_pref("network.proxy.type", 0);`
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(prefs), 0o600); err != nil {
		t.Fatal(err)
	}
	p := harness.StartProgram(t, "firefox-esr", "--headless", "--no-remote", "--profile", profile,
		"--remote-debugging-port=0", "about:blank")
	listening := regexp.MustCompile(`WebDriver BiDi listening on (ws://\S+)`)
	p.AwaitStderr(patience, listening.MatchString)
	c, _, err := websocket.DefaultDialer.Dial(listening.FindStringSubmatch(p.Stderr())[1]+"/session", nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &firefox{t: t, conn: c}
	f.call("session.new", map[string]any{"capabilities": map[string]any{}}, nil)
	t.Cleanup(func() {
		f.call("browser.close", map[string]any{}, nil)
		c.Close()
		p.Wait(patience)
	})
	return f
}

// call calls a method, and stores its result unless that is nil.
func (f *firefox) call(method string, params map[string]any, result any) {
	f.t.Helper()
	f.lastID++
	command := map[string]any{"id": f.lastID, "method": method, "params": params}
	if err := f.conn.WriteJSON(command); err != nil {
		f.t.Fatal(err)
	}
	var reply struct {
		ID             int
		Type           string
		Result         json.RawMessage
		Error, Message string
	}
	var err error
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		for err == nil && reply.ID != f.lastID { // events come between
			err = f.conn.ReadJSON(&reply)
		}
	}()
	if !harness.WaitClosed(patience, answered) {
		f.conn.Close()
		<-answered
	}
	if err != nil {
		f.t.Fatalf("%s: %v", method, err)
	}
	if reply.Type != "success" {
		f.t.Fatalf("%s: %s: %s", method, reply.Error, reply.Message)
	}
	if result != nil {
		if err := json.Unmarshal(reply.Result, result); err != nil {
			f.t.Fatalf("%s: %v: %s", method, err, reply.Result)
		}
	}
}

// open opens url in a tab and returns the ID of its context.
func (f *firefox) open(url string) (context string) {
	f.t.Helper()
	var tab struct{ Context string }
	f.call("browsingContext.create", map[string]any{"type": "window"}, &tab)
	f.call("browsingContext.navigate", map[string]any{"context": tab.Context, "url": url, "wait": "complete"}, nil)
	return tab.Context
}

// evaluate evaluates an expression in a page and stores its value, which is sent as JSON.
func (f *firefox) evaluate(context, expression string, value any) {
	f.t.Helper()
	var reply struct {
		Type   string
		Result struct {
			Value string
		}
		ExceptionDetails struct{ Text string }
	}
	f.call("script.evaluate", map[string]any{
		"expression": "JSON.stringify(" + expression + ")", "target": map[string]any{"context": context},
		"awaitPromise": true,
	}, &reply)
	if reply.Type != "success" {
		f.t.Fatalf("%s: %s", expression, reply.ExceptionDetails.Text)
	}
	if err := json.Unmarshal([]byte(reply.Result.Value), value); err != nil {
		f.t.Fatalf("%s: %v: %q", expression, err, reply.Result.Value)
	}
}

// pictureInFirefox samples the picture of the player: 64 points, and what the player says about itself.
const pictureInFirefox = `(() => {
	const player = document.querySelector('livego-player')
	const canvas = document.createElement('canvas')
	canvas.width = canvas.height = 8
	const context = canvas.getContext('2d')
	context.drawImage(player.shadowRoot.querySelector('video'), 0, 0, 8, 8)
	return {...player.state, ...player.stats, picture: [...context.getImageData(0, 0, 8, 8).data].join()}
})()`

// TestPlayerInFirefox opens the player page in Firefox, once for each protocol: frames are decoded
// and the picture changes.
func TestPlayerInFirefox(t *testing.T) {
	harness.Need(t, "ffmpeg", "firefox-esr")
	needWeb(t)
	t.Parallel()
	s := harness.Start(t, harness.Options{NoRace: true})
	s.PushTo(sample.Small.File(t), s.RTMP(s.Key("movie")), "-stream_loop", "-1")
	s.AwaitLive("movie")
	f := startFirefox(t)
	type state struct {
		Phase, Reason, Protocol, Picture string
		Frames, Width                    int
	}
	for _, protocol := range []string{"ws", "hls"} {
		context := f.open("http://" + s.Addr("httpflv_addr") + "/live/movie?protocol=" + protocol)
		pictures := map[string]bool{}
		first := 0
		harness.Eventually(t, patience, "moving picture by "+protocol, func() error {
			var got state
			f.evaluate(context, pictureInFirefox, &got)
			if got.Phase == "playing" && got.Protocol == protocol && got.Width == 160 {
				pictures[got.Picture] = true
				if first == 0 {
					first = got.Frames
				}
			}
			if len(pictures) < 5 || got.Frames < first+20 {
				return fmt.Errorf("%d pictures, %+v", len(pictures), got)
			}
			return nil
		})
		f.call("browsingContext.close", map[string]any{"context": context}, nil)
	}
}

package browser

import (
	"fmt"
	"strings"
	"testing"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// TestConsoleCreatesToken creates a token by the form of the console, and watches a private
// room with it.
func TestConsoleCreatesToken(t *testing.T) {
	needConsole(t)
	t.Parallel()
	s := harness.Start(t, harness.Options{NoRace: true,
		Flags: []string{"--private=*", "--token.secret=a secret that signs the tokens of a test"}})
	s.Push(sample.Small.File(t), "movie", "-stream_loop", "-1")
	s.AwaitLive("movie")
	p := harness.StartProgram(t, "node", "console.mjs", s.API("/"))
	p.WaitOK(patience)
	if p.Stderr() != "" {
		t.Errorf("the browser reports errors: %s", p.Stderr())
	}
	lines := strings.Fields(p.Stdout())
	if len(lines) != 5 {
		t.Fatalf("the page shows %q, want a token and four addresses", lines)
	}
	if want := strings.Replace(lines[2], "http:", "ws:", 1); lines[3] != want {
		t.Errorf("the address of WebSocket-FLV is %s, want %s", lines[3], want)
	}
	_, port, _ := strings.Cut(s.Addr("httpflv_addr"), ":")
	for target, want := range map[string]int{lines[2]: 200, strings.Replace(lines[2], lines[0], "x", 1): 401,
		s.FLV("movie"): 401} {
		harness.Eventually(t, patience, "answer", func() error {
			resp, err := harness.Client().Get(target)
			if err != nil {
				return err
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				return fmt.Errorf("%.60s: HTTP %d, want %d", target, resp.StatusCode, want)
			}
			return nil
		})
	}
	if !strings.Contains(lines[2], ":"+port+"/live/movie.flv?token="+lines[0]) {
		t.Errorf("the address is %s", lines[2])
	}
}

package browser

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// TestConsoleOperations uses every button of the pages that manage a server, with values that look like markup, in both
// languages, dark and light, and on a phone.
func TestConsoleOperations(t *testing.T) {
	needConsole(t)
	t.Parallel()
	other := harness.Start(t, harness.Options{NoRace: true, Flags: []string{"--rtmp_noauth=true"}})
	s := harness.Start(t, harness.Options{NoRace: true, Flags: []string{
		"--token.secret=a secret that signs the tokens of a test", "--flv_archive=true", "--flv_dir=" + t.TempDir(),
		"--relay_allow=127.0.0.0/8",
	}})
	s.Push(sample.Small.File(t), "movie", "-stream_loop", "-1")
	s.Push(sample.Small.File(t), "done")
	s.AwaitLive("movie")
	for i := range 3 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.FLV("movie"), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("User-Agent", fmt.Sprintf(`<b id="injected" onclick="alert(1)">x</b> %d`, i+1))
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}()
	}
	harness.Eventually(t, patience, "a finished recording", func() error {
		resp, err := harness.Client().Get(s.API("/api/v1/recordings?room=done&state=finished"))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if body, _ := io.ReadAll(resp.Body); !strings.Contains(string(body), `"finished"`) {
			return errors.New(string(body))
		}
		return nil
	})
	var result struct{}
	runScript(t, 3*patience, &result, "operations.mjs", s.API("/"), other.RTMP("secretkey"),
		fmt.Sprintf("rtmp://127.0.0.1:%d/live/absent", harness.FreePorts(t, 1)[0]), os.Getenv("TEST_KEEP"))
	if log := s.Stdout() + s.Stderr(); strings.Contains(log, "level=ERROR") {
		t.Errorf("the log has errors:\n%s", log)
	}
}

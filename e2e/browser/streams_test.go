package browser

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// needConsole checks that the console can be tested.
func needConsole(t *testing.T) {
	t.Helper()
	harness.Need(t, "ffmpeg", "gst-launch-1.0")
	needBrowser(t)
	needWeb(t)
}

// TestFirstStream follows the console of an empty server to the first picture. All commands come from
// the page.
func TestFirstStream(t *testing.T) {
	needConsole(t)
	t.Parallel()
	s := harness.Start(t, harness.Options{NoRace: true})
	var result struct{ Live, Picture int } // ms since the visit began
	runScript(t, 2*patience, &result, "firststream.mjs", s.API("/"), os.Getenv("TEST_KEEP"))
	if result.Picture > 60_000 {
		t.Errorf("the first picture came after %d ms", result.Picture)
	}
	t.Logf("live after %d ms, first picture after %d ms", result.Live, result.Picture)
}

// TestConsoleStreams uses the pages of streams and rooms with thirty streams: previews, every button,
// both languages, dark and light, a phone, and a server without thumbnails where the role is read. It
// measures the CPU that the browser needs for the list of streams.
func TestConsoleStreams(t *testing.T) {
	needConsole(t)
	t.Parallel()
	const maxCores = 0.5
	seconds := 5
	if harness.Long() {
		seconds = 60
	}
	s := harness.Start(t, harness.Options{NoRace: true,
		Flags: []string{"--thumbnail_timeout=1m", "--private=live/room02",
			"--token.secret=a secret that signs the tokens of a test"}})
	var outputs []string
	for i := range 30 {
		outputs = append(outputs, "[f=flv]"+s.RTMP(s.Key(fmt.Sprintf("room%02d", i+1))))
	}
	harness.FFmpeg(t, "-re", "-stream_loop", "-1", "-i", sample.Small.File(t), "-map", "0", "-c", "copy", "-f", "tee",
		strings.Join(outputs, "|"))
	const secret = "--jwt.secret=a secret that signs the JWTs of a test"
	plain := harness.Start(t, harness.Options{NoRace: true,
		Flags: []string{"--thumbnails=off", "--rtmp_noauth", secret}})
	plain.PushTo(sample.Small.File(t), plain.RTMP("movie"), "-stream_loop", "-1")
	reader := harness.Livego(t, t.TempDir(), nil, "token", "manage", "--role=read", secret)
	reader.WaitOK(patience)
	var result struct{ Cores float64 }
	runScript(t, 6*patience, &result, "streams.mjs", s.API("/"),
		plain.API("/?jwt="+strings.TrimSpace(reader.Stdout())), strconv.Itoa(seconds), os.Getenv("TEST_KEEP"))
	if result.Cores > maxCores {
		t.Errorf("the browser needs %.2f cores for 30 rooms, at most %.2f", result.Cores, maxCores)
	}
	t.Logf("the browser needs %.2f cores for 30 rooms", result.Cores)
}

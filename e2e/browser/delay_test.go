package browser

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
)

// testDelayByProtocol measures the delay from the encoder to the screen of the player page, by a clock in the
// picture, for each protocol. The order in which the player tries protocols is that of their delays. With
// TEST_LONG=1 it prints the delays in docs/performance.md: of several runs, each of one page at a time, beside
// that of the same page with the HLS of nginx-rtmp.
func testDelayByProtocol(t *testing.T) {
	harness.Need(t, "ffmpeg", "nginx")
	s := harness.Start(t, harness.Options{NoRace: true})
	plain := harness.Start(t, harness.Options{NoRace: true, Flags: []string{"--hls_part=0s"}})
	page := func(s *harness.Server, protocol string) string {
		return strings.TrimSuffix(s.HLS("movie"), ".m3u8") + "?protocol=" + protocol
	}
	pages := []struct{ name, url string }{
		{"WebSocket-FLV", page(s, "ws")},
		{"low-latency HLS", page(s, "hls")},
		{"HLS", page(plain, "hls")},
	}
	publish := []string{s.RTMP(s.Key("movie")), plain.RTMP(plain.Key("movie"))}
	if harness.Long() {
		rtmp, web := startHLSOfNginx(t, s)
		publish = append(publish, rtmp)
		pages = append(pages, []struct{ name, url string }{
			{"HLS by the browser itself", page(s, "native")},
			{"nginx-rtmp, HLS", web + "/live/movie?protocol=hls"},
		}...)
	}
	encodeClock(t, publish...)
	s.AwaitLive("movie")
	plain.AwaitLive("movie")
	if !harness.Long() {
		compareDelays(t, pages[0].url, pages[1].url, pages[2].url)
		return
	}
	const runs, samples, settle = 5, 100, 10
	for _, p := range pages {
		t.Run(p.name, func(t *testing.T) {
			if strings.HasPrefix(p.name, "nginx") {
				awaitPlaylist(t, strings.Replace(p.url, "?protocol=hls", ".m3u8", 1))
			}
			var all []time.Duration
			var medians []string
			for range runs {
				pictures, _ := sampleLatency(openPlayers(t, p.url), samples, settle)
				all = append(all, pictures[0]...)
				medians = append(medians, fmt.Sprint(pictures[0][samples/2].Milliseconds()))
			}
			slices.Sort(all)
			t.Logf("| %s | %d | %d | %s |", p.name, all[len(all)/2].Milliseconds(), all[len(all)*95/100].Milliseconds(),
				strings.Join(medians, ", "))
		})
	}
}

// compareDelays plays pages at the same time. Their delays must rise in order. The machine may be busy: the
// test tries three times, and more often if it is.
func compareDelays(t *testing.T, urls ...string) {
	t.Helper()
	const samples, settle, tries, tryLimit = 8, 1, 3, 30 * time.Second
	watch := harness.StartStopwatch()
	for n := 1; ; n++ {
		pictures, _ := sampleLatency(openPlayers(t, urls...), samples, settle)
		var medians []time.Duration
		for _, all := range pictures {
			medians = append(medians, all[samples/2])
		}
		t.Logf("delays %v", medians)
		if slices.IsSorted(medians) {
			return
		}
		if n >= tries && watch.Exceeded(tryLimit) {
			t.Fatal("the player tries protocols in the order WebSocket-FLV, low-latency HLS, HLS: want delays in this order")
		}
	}
}

// startHLSOfNginx starts nginx-rtmp with segments as long as those of livego. Its player page is that of s, and
// plays its own streams. It returns the URLs of the room movie for an encoder, and of its HTTP.
func startHLSOfNginx(t *testing.T, s *harness.Server) (rtmp, web string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "live"), 0o755); err != nil {
		t.Fatal(err)
	}
	ports := harness.FreePorts(t, 2)
	conf := fmt.Sprintf(`load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
		daemon off; master_process off; pid %[1]s/pid; error_log stderr warn;
		events {}
		rtmp { access_log off; server { listen 127.0.0.1:%[2]d; application live {
			live on; hls on; hls_path %[1]s/live; hls_fragment 2s; hls_playlist_length 16s; } } }
		http { access_log off; types { application/vnd.apple.mpegurl m3u8; video/mp2t ts; }
			server { listen 127.0.0.1:%[3]d; root %[1]s;
				location = /live/movie { proxy_pass http://%[4]s; proxy_set_header Host $http_host; }
				location /.livego/ { proxy_pass http://%[4]s; } } }`, dir, ports[0], ports[1], s.Addr("hls_addr"))
	addr := fmt.Sprintf("127.0.0.1:%d", ports[1])
	startNginx(t, dir, conf, addr)
	return fmt.Sprintf("rtmp://127.0.0.1:%d/live/movie", ports[0]), "http://" + addr
}

// awaitPlaylist waits until there is a playlist at url.
func awaitPlaylist(t *testing.T, url string) {
	t.Helper()
	harness.Eventually(t, patience, "a playlist", func() error {
		resp, err := harness.Client().Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("HTTP %d", resp.StatusCode)
		}
		return nil
	})
}

package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"livego/e2e/harness"
)

// TestCORSOnEachListener sends the preflight requests of a browser to each listener for viewers,
// over HTTP/1.1 and HTTP/2. The response allows the headers that the player wants to send, and a
// player of another site can read Date, ETag and Content-Range.
func TestCORSOnEachListener(t *testing.T) {
	t.Parallel()
	cert, key, pool := harness.Certificate(t)
	s := harness.Start(t, harness.Options{Flags: []string{"--enable_https=true", "--rtmps_cert=" + cert,
		"--rtmps_key=" + key}})
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for base, proto := range map[string]int{
		"http://" + s.Addr("httpflv_addr"): 1, "http://" + s.Addr("hls_addr"): 1, "https://" + s.Addr("https_addr"): 2,
	} {
		for _, path := range []string{"/live/movie.flv", "/live/movie.m3u8", "/live/movie/index.m3u8?s=x"} {
			send := func(method string, headers map[string]string) http.Header {
				t.Helper()
				r, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				for name, value := range headers {
					r.Header.Set(name, value)
				}
				resp, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.ProtoMajor != proto || method == http.MethodOptions && resp.StatusCode != http.StatusNoContent {
					t.Errorf("%s %s%s: %s %s", method, base, path, resp.Proto, resp.Status)
				}
				return resp.Header
			}
			h := send(http.MethodOptions, map[string]string{
				"Origin": "https://player.example", "Access-Control-Request-Method": "GET",
				"Access-Control-Request-Headers": "authorization,range,x-trace-id",
			})
			for name, want := range map[string]string{
				"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "authorization, range, x-trace-id",
				"Access-Control-Max-Age": "86400", "Vary": "Access-Control-Request-Headers",
			} {
				if got := h.Get(name); got != want {
					t.Errorf("OPTIONS %s%s: %s is %q, want %q", base, path, name, got, want)
				}
			}
			if got := h.Get("Access-Control-Allow-Methods"); !strings.Contains(got, "GET") || !strings.Contains(got, "HEAD") {
				t.Errorf("OPTIONS %s%s: the methods are %q", base, path, got)
			}
			h = send(http.MethodGet, map[string]string{"Origin": "https://player.example"})
			exposed := fmt.Sprint(h.Values("Access-Control-Expose-Headers"))
			for _, name := range []string{"Date", "ETag", "Content-Range"} {
				if !strings.Contains(exposed, name) {
					t.Errorf("GET %s%s: exposed are %s, want %s", base, path, exposed, name)
				}
			}
		}
	}
}

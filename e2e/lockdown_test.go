//go:build unix

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// A docShell runs the commands of a document in a directory of its own, with livego in PATH and
// listeners on free ports.
type docShell struct {
	t      *testing.T
	dir    string
	env    []string
	addr   map[string]string // listener addresses by setting
	output string            // output of all commands so far
}

func newDocShell(t *testing.T) *docShell {
	t.Helper()
	d := &docShell{t: t, dir: t.TempDir(), addr: map[string]string{}}
	bin := t.TempDir()
	if err := os.Symlink(harness.Binary(t, true), filepath.Join(bin, "livego")); err != nil {
		t.Fatal(err)
	}
	d.env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	listeners := []string{"rtmp_addr", "httpflv_addr", "hls_addr", "api_addr", "rtmps_addr", "https_addr"}
	for i, port := range harness.FreePorts(t, len(listeners)) {
		d.addr[listeners[i]] = fmt.Sprintf("127.0.0.1:%d", port)
		d.env = append(d.env, fmt.Sprintf("LIVEGO_%s=%s", strings.ToUpper(listeners[i]), d.addr[listeners[i]]))
	}
	return d
}

// command returns the command that runs script.
func (d *docShell) command(script string) *exec.Cmd {
	_, port, _ := net.SplitHostPort(d.addr["api_addr"])
	cmd := exec.CommandContext(d.t.Context(), "bash", "-euc",
		strings.ReplaceAll(script, "localhost:8090", "localhost:"+port))
	cmd.Dir, cmd.Env = d.dir, d.env
	return cmd
}

// run runs a script to its end and returns its output.
func (d *docShell) run(script string) string {
	d.t.Helper()
	cmd := d.command(script)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		d.t.Fatalf("%s\n%v\n%s%s", script, err, out, stderr.String())
	}
	d.output += string(out)
	return string(out)
}

// TestDocumentedLockdown runs the five steps from open to locked down, and then tries every
// listener: each refuses clients without a credential, and accepts those with one.
func TestDocumentedLockdown(t *testing.T) {
	harness.Need(t, "ffmpeg", "openssl", "curl")
	t.Parallel()
	_, text, _ := strings.Cut(readDocument(t, "docs/keys.md"), "## From open to locked down")
	if steps := regexp.MustCompile(`(?m)^### \d\. `).FindAllString(text, -1); len(steps) != 5 || steps[4] != "### 5. " {
		t.Fatalf("the steps are %q, want five", steps)
	}
	d := newDocShell(t)
	var denied string
	src := load(t, sample.AV).File(t)
	for _, f := range testedBlocks(text) {
		switch {
		case f.keepsRunning:
			cmd := d.command("exec " + f.script)
			var log strings.Builder
			cmd.Stderr = &log
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				if t.Failed() {
					t.Logf("log of the server:\n%s", log.String())
				}
			})
			harness.Eventually(t, patience, "server", func() error {
				c, err := net.Dial("tcp", d.addr["api_addr"])
				if err == nil {
					c.Close()
				}
				return err
			})
			// is refused: it has no key
			harness.FFmpeg(t, "-re", "-i", src, "-c", "copy", "-f", "flv",
				"rtmp://"+d.addr["rtmp_addr"]+"/live/movie").Wait(patience)
		case strings.Contains(f.script, "denied"):
			denied = d.run(f.script)
		default:
			d.run(f.script)
		}
	}
	if !strings.Contains(denied, `"what":"publish"`) {
		t.Errorf("the list of refusals is %s", denied)
	}
	found := regexp.MustCompile(`(?m)^([0-9A-Za-z]{48})\n([0-9A-Za-z]{48})\n(\S+\.\S+\.\S+)$`).FindStringSubmatch(d.output)
	if found == nil {
		t.Fatalf("the commands did not print two keys and a token:\n%s", d.output)
	}
	checkLockedDown(t, d, found[1], found[3], src)
}

// checkLockedDown tries every listener, with and without a credential.
func checkLockedDown(t *testing.T, d *docShell, key, token, src string) {
	t.Helper()
	cert, err := os.ReadFile(filepath.Join(d.dir, "server.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(cert) {
		t.Fatal("server.crt contains no certificate")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	status := func(target string) int {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	checkStrictJWT(t, d, client)
	push := harness.FFmpeg(t, "-re", "-stream_loop", "-1", "-i", src, "-c", "copy", "-f", "flv",
		"rtmps://"+d.addr["rtmps_addr"]+"/live/"+key)
	https, hls := "https://"+d.addr["https_addr"]+"/live/movie", "https://"+d.addr["hls_addr"]+"/live/movie"
	harness.Eventually(t, patience, "the encoder publishes with its own key over TLS", func() error {
		if got := status(https + ".flv?token=" + token); got != 200 {
			return fmt.Errorf("HTTP %d, ffmpeg prints %s", got, push.Stderr())
		}
		return nil
	})
	for target, want := range map[string]int{
		https + ".flv": 401, https + ".m3u8": 401, hls + ".m3u8": 401, hls + ".m3u8?token=" + token: 200,
		https + ".flv?token=x": 401,
		"https://" + d.addr["api_addr"] + "/control/get?room=movie": 403,
		"https://" + d.addr["api_addr"] + "/api/v1/keys":            401,
		"https://" + d.addr["api_addr"] + "/":                       403, "https://" + d.addr["api_addr"] + "/readyz": 200,
		"http://" + d.addr["hls_addr"] + "/live/movie.m3u8": 400, "http://" + d.addr["api_addr"] + "/readyz": 400,
		"http://" + d.addr["httpflv_addr"] + "/live/movie.flv": 401,
	} {
		if got := status(target); got != want {
			t.Errorf("%.60s: HTTP %d, want %d", target, got, want)
		}
	}
	for _, name := range []string{"livego.yaml", "server.key", "livego-data/admin.token"} {
		if info, err := os.Stat(filepath.Join(d.dir, name)); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is readable by others: %v %v", name, info, err)
		}
	}
}

// checkStrictJWT requests a list with JWTs of the operator: those without an expiry or a role are
// refused.
func checkStrictJWT(t *testing.T, d *docShell, client *http.Client) {
	t.Helper()
	settings, err := os.ReadFile(filepath.Join(d.dir, "livego.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	secret := regexp.MustCompile(`(?m)^jwt:\n  secret: "(\w+)"$`).FindSubmatch(settings)
	if secret == nil {
		t.Fatalf("no jwt.secret in\n%s", settings)
	}
	exp := time.Now().Add(time.Hour).Unix()
	for claims, want := range map[string]int{
		fmt.Sprintf(`{"exp":%d,"role":"read"}`, exp): 200, fmt.Sprintf(`{"exp":%d}`, exp): 401, `{"role":"read"}`: 401,
		`{}`: 401,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
			"https://"+d.addr["api_addr"]+"/api/v1/recordings", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+harness.JWT(string(secret[1]), `{"alg":"HS256"}`, claims))
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("a JWT with %s: HTTP %d %s, want %d", claims, resp.StatusCode, body, want)
		}
	}
}

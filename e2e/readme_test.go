//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"livego/e2e/harness"
)

// TestReadme runs the marked code blocks of the README, unchanged and in order, in a copy of the
// checkout. Commands that keep running get a terminal of their own. While the stream is live, every
// address in the README must give video and audio.
func TestReadme(t *testing.T) {
	harness.Need(t, "ffmpeg", "ffprobe", "curl", "make")
	needDefaultPorts(t)
	text := readDocument(t, "README.md")
	dir := copyCheckout(t)
	for _, f := range testedBlocks(text) {
		if !f.keepsRunning {
			typed := exec.CommandContext(t.Context(), "bash", "-euc", f.script)
			typed.Dir = dir
			if out, err := typed.CombinedOutput(); err != nil {
				t.Fatalf("%s\n%v\n%s", f.script, err, out)
			} else if answer := envelopeStatus(out); answer != 200 && strings.Contains(f.script, "8090/") {
				t.Errorf("%s\nstatus %d: %s", f.script, answer, out)
			}
			continue
		}
		terminal := openTerminal(t, dir, f.script)
		if !strings.Contains(f.script, "rtmp://") {
			harness.Eventually(t, 2*time.Minute, "server ready", func() error { return terminal.whileRunning(t, serverReady) })
			continue
		}
		harness.Eventually(t, 15*time.Second, "stream live",
			func() error { return terminal.whileRunning(t, streamPublished) })
		watchDocumented(t, text)
	}
}

// TestBuildWithoutNode builds livego on a machine without Node: the build says what is missing, and so does
// the server, which has plain pages in the place of the player and the console.
func TestBuildWithoutNode(t *testing.T) {
	harness.Need(t, "make")
	t.Parallel()
	dir := copyCheckout(t)
	if err := os.RemoveAll(filepath.Join(dir, "web/dist/files")); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "make", "build")
	build.Dir, build.Env = dir, append(os.Environ(), "PATH="+harness.PathWithout(t, "npm", "node"))
	if out, err := build.CombinedOutput(); err != nil || !strings.Contains(string(out), "Node is not installed") {
		t.Fatalf("%v\n%s", err, out)
	}
	s := harness.Start(t, harness.Options{Binary: filepath.Join(dir, "bin/livego")})
	s.AwaitLog(patience, "built without the ")
	for url, want := range map[string]string{
		strings.TrimSuffix(s.FLV("movie"), ".flv"): "without the player",
		s.API("/"): "livego",
	} {
		if page := string(harness.Get(t, url)); !strings.Contains(page, want) || strings.Contains(page, "/.livego/") {
			t.Errorf("%s:\n%s", url, page)
		}
	}
}

// watchDocumented checks each address in the tour: with ffprobe, or, for WebSocket, which ffmpeg
// does not support, that an FLV file starts, or that it is the player page.
func watchDocumented(t *testing.T, text string) {
	t.Helper()
	_, tour, _ := strings.Cut(text, "## The tour")
	tour, _, _ = strings.Cut(tour, "\n## ")
	addresses := regexp.MustCompile("\\w+://[\\w.]+:\\d+/live/movie(?:\\.\\w+)?`").FindAllString(tour, -1)
	slices.Sort(addresses)
	if addresses = slices.Compact(addresses); len(addresses) != 5 {
		t.Fatalf("the tour contains %q, want five addresses", addresses)
	}
	var probes []func() (string, error)
	for _, a := range addresses {
		url := strings.TrimSuffix(a, "`")
		if strings.HasPrefix(url, "ws:") {
			probes = append(probes, async(func() (string, error) { return url + ": ", openFLV(t.Context(), url) }))
			continue
		}
		if strings.HasSuffix(url, "/movie") && strings.HasPrefix(url, "http:") {
			if resp, body := request(t, http.MethodGet, url, nil); !strings.Contains(body, "<html") {
				t.Errorf("%s is not a page: %s %s", url, resp.Status, body)
			}
			continue
		}
		probes = append(probes, async(func() (string, error) {
			out, err := exec.CommandContext(t.Context(), "ffprobe", "-v", "error", "-rw_timeout", "20000000",
				"-show_entries", "stream=codec_name", "-of", "csv=p=0", url).CombinedOutput()
			if got := strings.Join(strings.Fields(string(out)), " "); err == nil &&
				(!strings.Contains(got, "h264") || !strings.Contains(got, "aac")) {
				err = fmt.Errorf("no video or no audio")
			}
			return fmt.Sprintf("%s: %s", url, out), err
		}))
	}
	for _, wait := range probes {
		if what, err := wait(); err != nil {
			t.Errorf("%s%v", what, err)
		}
	}
}

// openFLV checks that an FLV file starts at the URL of a WebSocket.
func openFLV(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	ws, err := harness.OpenWebSocket(ctx, url, nil)
	if err != nil {
		return err
	}
	defer ws.Close()
	message, err := ws.ReadMessage()
	if err == nil && !strings.HasPrefix(string(message), "FLV\x01\x05") {
		err = fmt.Errorf("the first message starts with %.9q, want an FLV header with video and audio", message)
	}
	return err
}

// needDefaultPorts skips the test if the ports of the README are not free, and says so.
func needDefaultPorts(t *testing.T) {
	t.Helper()
	for _, addr := range []string{":1935", ":7001", ":7002", "127.0.0.1:8090"} {
		l, err := net.Listen("tcp", addr)
		if err == nil {
			l.Close()
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("the README cannot be tested, and CI=true: %v", err)
		}
		t.Skipf("THE README IS NOT TESTED HERE: its ports are not free: %v", err)
	}
}

// copyCheckout copies the files that `make run` needs, so that the test is independent of other
// files in the checkout and leaves none there. If the console is built in the checkout, the copy has
// it, and `make run` need not download its tools again.
func copyCheckout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"cmd", "internal", "scripts", "web/src", "web/public", "web/dist"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join("..", name))); err != nil {
			t.Fatal(err)
		}
	}
	files := []string{"Makefile", "go.mod", "go.sum", "docs/openapi.json"}
	for _, pattern := range []string{"*.go", "*.js*", "*.ts"} {
		matches, err := filepath.Glob("../web/" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range matches {
			files = append(files, strings.TrimPrefix(path, "../"))
		}
	}
	for _, name := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(readDocument(t, name)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	if err := os.Chtimes(filepath.Join(dir, "web/dist/files/watch.html"), now, now); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return dir
}

// A terminal is a shell with a command that runs until the end of the test, which sends SIGINT as
// Ctrl-C does.
type terminal struct {
	output *os.File
	ended  chan struct{}
}

func openTerminal(t *testing.T, dir, script string) *terminal {
	t.Helper()
	output, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	shell := exec.Command("bash", "-euc", script)
	shell.Dir, shell.Stdout, shell.Stderr = dir, output, output
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is sent to all processes of a terminal
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	term := &terminal{output, make(chan struct{})}
	go func() {
		defer close(term.ended)
		shell.Wait()
	}()
	t.Cleanup(func() {
		syscall.Kill(-shell.Process.Pid, syscall.SIGINT)
		select {
		case <-term.ended:
		case <-time.After(15 * time.Second):
			syscall.Kill(-shell.Process.Pid, syscall.SIGKILL)
			<-term.ended
			t.Errorf("Ctrl-C does not end %s", script)
		}
		output.Close()
		if t.Failed() {
			t.Logf("%s\n%s", script, term.screen())
		}
	})
	return term
}

func (m *terminal) screen() []byte {
	text, _ := os.ReadFile(m.output.Name())
	return text
}

// whileRunning returns what f returns. It fails the test if the command has exited.
func (m *terminal) whileRunning(t *testing.T, f func() error) error {
	t.Helper()
	select {
	case <-m.ended:
		t.Fatal("the command has exited")
	default:
	}
	return f()
}

const operatorURL = "http://localhost:8090"

func serverReady() error {
	resp, err := harness.Client().Get(operatorURL + "/readyz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	return nil
}

func streamPublished() error {
	resp, err := harness.Client().Get(operatorURL + "/stat/livestat")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var e struct{ Data harness.Stat }
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
		return err
	}
	if len(e.Data.Publishers) == 0 {
		return fmt.Errorf("no publisher")
	}
	return nil
}

// envelopeStatus returns the status of the envelope in the output of curl, which may contain its
// progress too.
func envelopeStatus(out []byte) int {
	m := regexp.MustCompile(`\{"status":(\d+)`).FindSubmatch(out)
	if m == nil {
		return 0
	}
	var status int
	fmt.Sscan(string(m[1]), &status)
	return status
}

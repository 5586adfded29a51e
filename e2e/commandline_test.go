package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"livego/e2e/harness"
)

// TestCompletionInShells loads the completion scripts in the shells that they are for, and completes
// a command, a value and a file.
func TestCompletionInShells(t *testing.T) {
	harness.Need(t, "bash", "zsh", "fish")
	t.Parallel()
	dir := t.TempDir()
	if err := os.Symlink(harness.Binary(t, true), filepath.Join(dir, "livego")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "film.mp4"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for shell, script := range map[string]string{
		"bash": `source <(livego completion bash)
			try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _livego; printf '%s\n' "${COMPREPLY[@]:-files}"; }
			complete -p livego | grep -q -- '-o default' || echo no default
			try livego keys ma; try livego --level = de; try livego probe fi`,
		"zsh": `compdef() { }; _describe() { print -l -- "${(@P)2%%:*}" }; _files() { print files }
			source <(livego completion zsh)
			try() { words=("$@"); CURRENT=$#; _livego }
			try livego keys ma; try livego --level de; try livego probe fi`,
		"fish": `livego completion fish | source
			for line in 'keys ma' '--level de' 'probe fi'
				complete -C "livego $line" | string replace -r '\t.*' ''
			end; true`,
	} {
		cmd := exec.Command(shell, "-c", script)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir, "TERM=dumb")
		out, err := cmd.CombinedOutput()
		got := strings.Fields(strings.ReplaceAll(string(out), "film.mp4", "files"))
		if want := "make debug files"; err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v, want %s", shell, out, err, want)
		}
	}
}

// TestManualPage formats the manual page, without a warning, and finds a command and a setting.
func TestManualPage(t *testing.T) {
	harness.Need(t, "man")
	t.Parallel()
	p := harness.Livego(t, t.TempDir(), nil, "man")
	p.WaitOK(patience)
	page := filepath.Join(t.TempDir(), "livego.1")
	if err := os.WriteFile(page, []byte(p.Stdout()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("man", "--warnings=w", "-l", page)
	cmd.Env = append(os.Environ(), "MANWIDTH=100", "LC_ALL=C.UTF-8")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || errs.Len() > 0 {
		t.Errorf("man: %v: %s", err, &errs)
	}
	for _, want := range []string{"keys make <room>", "--rtmp_addr, LIVEGO_RTMP_ADDR", "EXIT STATUS"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the page lacks %q:\n%.2000s", want, out)
		}
	}
}

// TestHealthCommand asks a server that is ready, one that stops, and none.
func TestHealthCommand(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Flags: []string{"--shutdown_delay=10s"}})
	health := func() (int, string) {
		p := harness.Livego(t, t.TempDir(), []string{"LIVEGO_API_ADDR=" + s.Addr("api_addr")}, "health")
		return p.Wait(patience), p.Stdout() + p.Stderr()
	}
	if code, out := health(); code != 0 || out != "ready\n" {
		t.Errorf("a server that is ready: exit code %d, %q", code, out)
	}
	s.Signal(syscall.SIGTERM)
	s.AwaitLog(patience, "stopping")
	if code, out := health(); code != 1 || !strings.Contains(out, "not ready: HTTP 503") {
		t.Errorf("a server that stops: exit code %d, %q", code, out)
	}
	s.Kill()
	if code, out := health(); code != 1 || !strings.Contains(out, "connection refused") {
		t.Errorf("no server: exit code %d, %q", code, out)
	}
}

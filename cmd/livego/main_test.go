package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"livego/internal/app"
	"livego/internal/ops/config"
)

// asMain makes the test binary run as livego.
const asMain = "GO_TEST_LIVEGO"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
	}
	os.Exit(m.Run())
}

// TestCommands runs command lines that start no server, in a directory with valid and invalid
// settings files.
func TestCommands(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{"good.yaml": "level: debug\n",
		"bad.yaml": "level: info\n\nrtmp_adr: :1\ngop_num: x\n",
		"bom.yaml": "\xef\xbb\xbfrtmp_addr: :1\n", "utf16.yaml": "\xff\xfer\x00t\x00", "secret": "0123456789abcdef\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const (
		good    = "the settings are valid\n"
		visible = "is visible to every user of this machine in the list of processes: use "
	)
	for _, c := range []struct {
		args   string
		env    []string
		code   int
		stdout string // prefix
		stderr string // exact
	}{
		{"check-config", nil, 0, good, ""},
		{"--check-config", nil, 0, good, ""},
		{"check-config --config_file good.yaml", nil, 0, good, ""},
		{"--config-file=good.yaml check-config", nil, 0, good, ""},
		{"check-config --rtmp_noauth --rtmp-addr :1940 --enable_tls_verify=false", nil, 0, good, ""},
		{"check-config --config_file bom.yaml", nil, 0, good, ""},
		{"check-config --config_file utf16.yaml", nil, 2, "", "livego: utf16.yaml: the file is UTF-16: save it as UTF-8\n"},
		{"check-config", []string{"LIVEGO_JWT_SECRET_FILE=secret"}, 0, good, ""},
		{"token manage", []string{"LIVEGO_JWT_SECRET_FILE=secret"}, 0, "eyJ", ""},
		{"token play live/movie --ip=", []string{"LIVEGO_TOKEN_SECRET_FILE=secret"}, 2, "",
			"livego: --ip is empty: set an address, or remove the flag\n"},
		{"check-config --jwt.secret 0123456789abcdef", nil, 0, good,
			"livego: warning: --jwt.secret " + visible + "LIVEGO_JWT_SECRET_FILE\n"},
		{"check-config --gather=50ms", nil, 0, good, "livego: warning: setting gather is deprecated: use batch_window\n"},
		{"check-config --gather=50ms --batch-window=50ms", nil, 2, "",
			"livego: --gather: deprecated name of batch_window, which is set too: remove gather\n"},
		{"check-config --redis_addr localhost:6379", nil, 0, good, ""},
		{"check-config", []string{"LIVEGO_JWT_SECRET=0123456789abcdef"}, 0, good, ""},
		{"check-config", []string{"LIVEGO_X=1", "LIVEGO_PORT=tcp://10.0.0.1:1"}, 0, good,
			"livego: warning: unknown environment variables have no effect: LIVEGO_X\n"},
		{"check-config --config_file bad.yaml", nil, 2, "",
			"livego: bad.yaml:3: rtmp_adr: unknown key (did you mean rtmp_addr?)\nlivego: bad.yaml:4: gop_num: must be a " +
				"whole number\n"},
		{"--config_file bad.yaml", nil, 2, "",
			"livego: bad.yaml:3: rtmp_adr: unknown key (did you mean rtmp_addr?)\nlivego: bad.yaml:4: gop_num: must be a " +
				"whole number\n"},
		{"serve", []string{"LIVEGO_GOP_NUM=x"}, 2, "", "livego: LIVEGO_GOP_NUM: must be a whole number, not \"x\"\n"},
		{"--takeover=maybe", nil, 2, "", "livego: --takeover: must be idle, always or never, not \"maybe\"\n"},
		{"--redis_addr=redis://u:hidden@a,b", nil, 2, "",
			"livego: warning: --redis_addr " + visible +
				"LIVEGO_REDIS_ADDR_FILE\nlivego: --redis_addr: has several hosts: use redis-sentinel or redis-cluster\n"},
		{"keys revoke", nil, 2, "", "livego: name a key by its ID, or use --room\n"},
		{"keys make ../x", nil, 2, "", "livego: room name \"../x\" has a character outside A-Z a-z 0-9 . _ -\n"},
		{"keys make movie --label=x --expires=yesterday", nil, 2, "",
			"livego: --expires must be a future time such as 2030-01-31T12:00:00Z, or a duration such as 24h\n"},
		{"--hsl_addr :1", nil, 2, "", "livego: unknown flag --hsl_addr, did you mean \"--hls_addr\"? (see livego --help)\n"},
		{"fly", nil, 2, "", "livego: unexpected argument fly (see livego --help)\n"},
		{"version", nil, 0, "livego " + app.Version() + " ", ""},
		{"--version", nil, 0, "livego " + app.Version() + " ", ""},
		{"-v", nil, 0, "livego " + app.Version() + " ", ""},
		{"--help", nil, 0, "Usage: livego", ""},
		{"-h", nil, 0, "Usage: livego", ""},
		{"help", nil, 0, "Usage: livego", ""},
		{"help help", nil, 0, "Usage: livego help", ""},
		{"help keys make", nil, 0, "Usage: livego keys make <room>", ""},
		{"--level=debug help keys", nil, 2, "", "livego: help must come first: livego help keys\n"},
		{"keys import utf16.yaml", nil, 1, "", "livego: utf16.yaml: the file is UTF-16: save it as UTF-8\n"},
		{"help keys make --help", nil, 0, "Usage: livego keys make <room>", ""},
		{"help --help", nil, 0, "Usage: livego <command>", ""},
		{"help fly", nil, 2, "", "livego: unexpected argument fly (see livego --help)\n"},
		{"keys make movie --api_addr=127.0.0.1:1", nil, 0, "", ""},
		{"keys make movie --api_addr=127.0.0.1:1", nil, 1, "",
			"livego: room movie already has a default key: give another key a label, or reset the room to replace the " +
				"default key\n" +
				"  livego keys make movie --label=NAME\n  livego keys reset movie\n"},
		{"keys export - --api_addr=127.0.0.1:1", nil, 0, "{\n", ""},
		{"bench --viewers 0", nil, 2, "",
			"livego: --viewers, --streams and --duration must be positive, " +
				"and --settle, --join, --check, --storm and --storm-join not negative\n"},
		{"push film.mp4", nil, 2, "",
			"livego: push needs one or more files, and then a room or an RTMP address\n"},
		{"push --times 0 film.mp4 movie", nil, 2, "", "livego: --times must be 1 or more\n"},
		{"push film.mp4 not/a/room", nil, 2, "",
			"livego: not/a/room: the last argument must be a room or an address (rtmp://host/app/key)\n"},
		{"probe film.mp4", nil, 4, "", "livego: film.mp4: no such file or directory\n"},
		{"probe --json good.yaml", nil, 4, "[\n", ""},
		{"check-config --help", nil, 0, "Usage: livego check-config", ""},
	} {
		t.Run(c.args, func(t *testing.T) {
			var stdout, stderr strings.Builder
			code := run(strings.Fields(c.args), c.env, &stdout, &stderr)
			if code != c.code || !strings.HasPrefix(stdout.String(), c.stdout) || stderr.String() != c.stderr {
				t.Errorf("exit code %d, want %d\nstdout %s\nstderr %s\n  want %s", code, c.code, &stdout, &stderr, c.stderr)
			}
		})
	}
}

func TestHelpShowsQuickStart(t *testing.T) {
	var stdout strings.Builder
	run([]string{"--help"}, nil, &stdout, io.Discard)
	out := stdout.String()
	for _, want := range []string{"curl 'http://localhost:8090/control/get?room=movie'", "rtmp://localhost:1935/live/KEY",
		"http://localhost:7002/live/movie.m3u8", "LIVEGO_RTMP_ADDR"} {
		if !strings.Contains(out, want) {
			t.Errorf("--help does not show %s", want)
		}
	}
	for _, s := range config.Settings() {
		if !strings.Contains(out, "--"+s.Key) {
			t.Errorf("--help does not list %s", s.Key)
		}
	}
}

// TestHelpIsPrintedOnce requests help twice in one command line.
func TestHelpIsPrintedOnce(t *testing.T) {
	for _, args := range []string{"help --help", "help push -h"} {
		var stdout strings.Builder
		run(strings.Fields(args), nil, &stdout, io.Discard)
		if n := strings.Count(stdout.String(), "Usage: "); n != 1 {
			t.Errorf("livego %s shows help %d times", args, n)
		}
	}
}

// TestHelpOfCommands checks that the help of a command lists its own flags but not the settings.
func TestHelpOfCommands(t *testing.T) {
	for command, own := range map[string]string{
		"check-config": "Usage: livego check-config", "keys": "keys import", "keys make": "--label",
		"keys import": "--rename", "token play": "--viewers",
		"push": "--loop", "probe": "--json", "bench": "--play-only", "version": "Usage: livego version",
	} {
		var stdout strings.Builder
		if code := run(strings.Fields(command+" --help"), nil, &stdout, io.Discard); code != 0 {
			t.Errorf("%s --help: exit code %d", command, code)
		}
		out := stdout.String()
		if lines := strings.Count(out, "\n"); lines > 100 || !strings.Contains(out, own) ||
			!strings.Contains(out, "livego serve --help") {
			t.Errorf("%s --help has %d lines:\n%s", command, lines, out)
		}
		for _, s := range config.Settings() {
			if strings.Contains(out, "  --"+s.Key+"=") || strings.Contains(out, "  --[no-]"+s.Key) {
				t.Errorf("%s --help lists the setting %s", command, s.Key)
			}
		}
	}
	var stdout strings.Builder
	run([]string{"serve", "--help"}, nil, &stdout, io.Discard)
	if !strings.Contains(stdout.String(), "--rtmp_addr=") {
		t.Errorf("serve --help does not list the settings:\n%s", &stdout)
	}
}

func TestSupervise(t *testing.T) {
	lost := errors.New("disk failed")
	drain := func(ctx context.Context) error { <-ctx.Done(); return nil }
	over := make(chan struct{})
	defer close(over)
	hang := func(context.Context) error { <-over; return nil }
	for _, c := range []struct {
		name    string
		run     func(context.Context) error
		signals int
		want    string
	}{
		{"fails", func(context.Context) error { return lost }, 0, lost.Error()},
		{"drains", drain, 1, ""},
		{"fails during shutdown", func(ctx context.Context) error { <-ctx.Done(); return lost }, 1, lost.Error()},
		{"two signals", hang, 2, "stopped at once by a second signal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			signals := make(chan os.Signal, 2)
			for range c.signals {
				signals <- syscall.SIGTERM
			}
			got := ""
			if err := supervise(c.run, signals); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// startLivego runs this binary as livego, with listeners on free ports.
func startLivego(t *testing.T, args ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{
		"--rtmp_addr=127.0.0.1:0", "--httpflv_addr=127.0.0.1:0", "--hls_addr=127.0.0.1:0", "--api_addr=127.0.0.1:0",
		"--data_dir=" + filepath.Join(t.TempDir(), "data"),
	}, args...)...)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{asMain + "=1"} // without variables that lead to warnings
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(stderr)
}

// TestSignal stops a real server by a signal.
func TestSignal(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no SIGTERM")
	}
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		cmd, log := startLivego(t)
		if !log.Scan() { // it is running and handles signals
			t.Fatal("no log output")
		}
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		for log.Scan() {
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("after %v: %v, want exit code 0", s, err)
		}
	}
}

// TestDeprecatedSettingIsLogged starts a server with a deprecated flag: the log has one warning.
func TestDeprecatedSettingIsLogged(t *testing.T) {
	cmd, log := startLivego(t, "--gather=10ms", "--log_format=text")
	warnings := 0
	for log.Scan() {
		if strings.Contains(log.Text(), `level=WARN msg="setting is deprecated" old=gather new=batch_window`) {
			warnings++
		}
		if strings.Contains(log.Text(), "ready") {
			break
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if warnings != 1 {
		t.Errorf("%d warnings, want 1", warnings)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd, log := startLivego(t, "--rtmp_addr="+l.Addr().String())
	last := ""
	for log.Scan() {
		last = log.Text()
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitFailed || !strings.HasPrefix(last, "livego: ") ||
		!strings.Contains(last, l.Addr().String()) {
		t.Errorf("exit code %d, last line %q", code, last)
	}
}

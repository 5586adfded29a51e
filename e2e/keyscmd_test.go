package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// TestKeysCommand manages keys by the command line: first through a running server, then in its
// store after it has stopped.
func TestKeysCommand(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.AV)
	dir := t.TempDir()
	keys := func(code int, args ...string) (stdout, stderr string) {
		t.Helper()
		p := harness.Livego(t, dir, nil,
			append([]string{"keys", "--data_dir=" + s.DataDir, "--api_addr=" + s.Addr("api_addr")}, args...)...)
		if got := p.Wait(patience); got != code {
			t.Fatalf("livego keys %v: code %d, want %d: %s", args, got, code, p.Stderr())
		}
		return strings.TrimSpace(p.Stdout()), p.Stderr()
	}
	def := s.Key("movie")
	spare, _ := keys(0, "make", "movie", "--label=spare", "--expires=24h")
	if len(spare) != 48 || spare == def {
		t.Fatalf("make prints %q", spare)
	}
	if _, stderr := keys(1, "make", "movie", "--label=spare"); !strings.Contains(stderr, "already") {
		t.Errorf("a repeated label: %s", stderr)
	}
	list, _ := keys(0, "list")
	if strings.Contains(list, def) || strings.Contains(list, spare) || strings.Count(list, "movie") != 2 {
		t.Errorf("list prints\n%s", list)
	}
	if n := pushExitCode(s, src.File(t), spare); n != 0 {
		t.Errorf("the second key does not publish: exit code %d", n)
	}
	push := s.PushTo(src.File(t), s.RTMP(spare), "-stream_loop", "-1")
	s.AwaitLive("movie")
	list, _ = keys(0, "list", "movie")
	id := regexp.MustCompile(`(?m)^(\S+)\s+movie\s+-\s+spare\s+primary\s+\S+Z\s+\S+Z\s+\S+Z`).FindStringSubmatch(list)
	if id == nil {
		t.Fatalf("after its use, the second key is listed as\n%s", list)
	}
	keys(0, "revoke", id[1])
	if push.Wait(5*time.Second) == 0 {
		t.Error("the publisher with the revoked key was not disconnected")
	}
	if pushExitCode(s, src.File(t), spare) == 0 {
		t.Error("the revoked key publishes")
	}

	brief, _ := keys(0, "make", "movie", "--label=brief", "--expires=4s")
	push = s.PushTo(src.File(t), s.RTMP(brief), "-stream_loop", "-1")
	s.AwaitLive("movie")
	if push.Wait(10*time.Second) == 0 || pushExitCode(s, src.File(t), brief) == 0 {
		t.Error("a key that has expired publishes")
	}
	list, _ = keys(0, "list", "movie")
	id = regexp.MustCompile(`(?m)^(\S+)\s+movie\s+-\s+brief`).FindStringSubmatch(list)
	if id == nil {
		t.Fatalf("the list is\n%s", list)
	}
	keys(0, "revoke", id[1])

	file := filepath.Join(dir, "keys.json")
	keys(0, "export", file)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	keys(1, "export", file) // the file exists
	fresh, _ := keys(0, "reset", "movie", "--grace=1h")
	if fresh == def || pushExitCode(s, src.File(t), def) != 0 || pushExitCode(s, src.File(t), fresh) != 0 {
		t.Error("the old or the new key is refused in the grace period")
	}

	s.Stop()
	if list, _ := keys(0, "list"); strings.Count(list, "movie") != 2 || !strings.Contains(list, " ~ ") {
		t.Errorf("without a server, list prints\n%s", list)
	}
	keys(0, "revoke", "--room=movie")
	if _, stderr := keys(0, "import", file); !strings.Contains(stderr, "1 keys added, 0 were there") {
		t.Errorf("import prints %s", stderr)
	}
	if _, stderr := keys(0, "import", file); !strings.Contains(stderr, "0 keys added, 1 were there") {
		t.Errorf("the second import prints %s", stderr)
	}
	s = harness.Start(t, harness.Options{DataDir: s.DataDir})
	if s.Key("movie") != def {
		t.Error("the imported key differs")
	}
	other := s.DataDir
	p := harness.Livego(t, dir, nil, "keys", "list", "--data_dir="+other,
		fmt.Sprintf("--api_addr=127.0.0.1:%d", harness.FreePorts(t, 1)[0]))
	if p.Wait(patience) != 1 || !strings.Contains(p.Stderr(), "in use by another process") {
		t.Errorf("on the store of a running server: %s", p.Stderr())
	}
}

// pushExitCode pushes file to its end and returns the exit code of ffmpeg.
func pushExitCode(s *harness.Server, file, key string) int {
	return s.PushTo(file, s.RTMP(key)).Wait(patience)
}

// TestImportKeysOfEarlierServer imports the keys that an earlier server left in a Redis.
func TestImportKeysOfEarlierServer(t *testing.T) {
	harness.Need(t, "ffmpeg", "redis-server", "redis-cli")
	t.Parallel()
	r := harness.StartRedis(t)
	key := strings.Repeat("aB3dEf7h", 6)
	r.Do("SET", "movie", key)
	r.Do("SET", key, "movie")
	odd := strings.Repeat("oDdKeY00", 6)
	r.Do("SET", "my room", odd)
	r.Do("SET", odd, "my room")
	r.Do("SET", "half", strings.Repeat("zzzzzzzz", 6))
	s := harness.Start(t, harness.Options{Flags: []string{"--redis_addr=" + r.Addr()}})
	importing := []string{"keys", "import", "--from-redis=" + r.Addr(), "--data_dir=" + s.DataDir,
		"--api_addr=" + s.Addr("api_addr")}
	p := harness.Livego(t, t.TempDir(), nil, importing...)
	if code := p.Wait(patience); code != 1 {
		t.Errorf("import with an invalid room name: exit code %d", code)
	}
	for _, want := range []string{
		"found 2 rooms with a key; skipped 1 entries without a counterpart", "1 keys added",
		`not imported: room name "my room" has a character outside A-Z a-z 0-9 . _ -; ` +
			`import it under another name with --rename 'my room=NEW'`,
	} {
		if !strings.Contains(p.Stderr(), want) {
			t.Errorf("import prints %s, want %s", p.Stderr(), want)
		}
	}
	p = harness.Livego(t, t.TempDir(), nil, append(importing, "--rename", "my room=my-room")...)
	p.WaitOK(patience)
	if !strings.Contains(p.Stderr(), "1 keys added, 1 were there already") || s.Key("my-room") != odd {
		t.Errorf("import with a new name prints %s", p.Stderr())
	}
	if s.Key("movie") != key {
		t.Error("the key of the room changed")
	}
	if code := pushExitCode(s, load(t, sample.AV).File(t), key); code != 0 {
		t.Errorf("the key of the earlier server does not publish: exit code %d", code)
	}
}

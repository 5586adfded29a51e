//go:build unix

package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// earlierSettings is a livego.yaml of the earlier server.
const earlierSettings = `level: info
hls_keep_after_end: false
flv_archive: false
flv_dir: "./tmp"
rtmp_noauth: false
read_timeout: 10
write_timeout: 10
gop_num: 1
enable_tls_verify: true
redis_addr: ""
redis_pwd: ""
jwt:
  secret: ""
  algorithm: HS256
server:
- appname: live
  live: true
  hls: true
  api: true
  flv: true
`

// TestUpgrading runs the commands of docs/upgrading.md beside the settings and the Redis of an
// earlier server. Encoders and scripts of that server work unchanged.
func TestUpgrading(t *testing.T) {
	harness.Need(t, "ffmpeg", "curl", "redis-server", "redis-cli")
	t.Parallel()
	r := harness.StartRedis(t)
	keys := map[string]string{"movie": strings.Repeat("aB3dEf7h", 6), "my room": strings.Repeat("oDdKeY00", 6)}
	for room, key := range keys {
		r.Do("SET", room, key)
		r.Do("SET", key, room)
	}
	d := newDocShell(t)
	if err := os.WriteFile(filepath.Join(d.dir, "livego.yaml"), []byte(earlierSettings), 0o600); err != nil {
		t.Fatal(err)
	}
	text := readDocument(t, "docs/upgrading.md")
	blocks := testedBlocks(text)
	if len(blocks) != strings.Count(text, "<!-- test") || len(blocks) < 5 {
		t.Fatalf("this test can parse %d of %d commands", len(blocks), strings.Count(text, "<!-- test"))
	}
	for _, f := range blocks {
		script := strings.ReplaceAll(f.script, "localhost:6379", r.Addr())
		if !f.keepsRunning {
			d.run(script)
			continue
		}
		cmd := d.command("exec " + strings.TrimSpace(script))
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
	}
	want := `{"status":200,"data":"` + keys["movie"] + `"}`
	if strings.Count(d.output, want) != 2 {
		t.Errorf("the commands print %s\nwant %s twice", d.output, want)
	}
	_, refusal, _ := strings.Cut(text, "```json\n")
	refusal, _, _ = strings.Cut(refusal, "\n```")
	if !strings.Contains(d.output, refusal) {
		t.Errorf("the commands print %s\nwant %s", d.output, refusal)
	}
	src := load(t, sample.AV).File(t)
	for _, key := range keys {
		push := harness.FFmpeg(t, "-i", src, "-c", "copy", "-f", "flv", "rtmp://"+d.addr["rtmp_addr"]+"/live/"+key)
		if code := push.Wait(patience); code != 0 {
			t.Errorf("a key of the earlier server does not publish: exit code %d\n%s", code, push.Stderr())
		}
	}
	if out := d.run("curl -s 'http://localhost:8090/control/get?room=my-room'"); !strings.Contains(out, keys["my room"]) {
		t.Errorf("the key of the renamed room is %s", out)
	}
}

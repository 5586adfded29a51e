package hostile

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
)

// TestManyViewersFromOneAddress has viewers of one address that is not loopback, as in a school, watch
// by HLS in both forms and by HTTP-FLV at the same time: none is refused. The server has default
// limits.
func TestManyViewersFromOneAddress(t *testing.T) {
	harness.Need(t, "ip", "curl", "bash")
	harness.NeedRights(t, "unshare", "--net", "true")
	viewers, lasts := 400, 3*time.Second
	if harness.Long() {
		viewers, lasts = 2000, 20*time.Second
	} else {
		t.Parallel()
	}
	dir := t.TempDir()
	script := fmt.Sprintf(`
		ip link set lo up; ip addr add 192.0.2.1/32 dev lo
		livego=%q
		$livego --data_dir=data --rtmp_addr=192.0.2.1:1935 --httpflv_addr=192.0.2.1:7001 --hls_addr=192.0.2.1:7002 \
			--batch_window=50ms --level=debug >log 2>&1 & server=$!
		trap 'kill $server; wait $server' EXIT
		until curl -sf -o /dev/null http://127.0.0.1:8090/readyz; do kill -0 $server; done
		key=$(curl -sf 'http://127.0.0.1:8090/control/get?room=school' | sed 's/.*"data":"\([^"]*\)".*/\1/')
		$livego bench --publish rtmp://192.0.2.1:1935/live/$key --bitrate 100 --gop 1s \
			--play http://192.0.2.1:7002/live/school.m3u8 --play http://192.0.2.1:7002/live/school.m3u8 \
			--play llhls+http://192.0.2.1:7002/live/school.m3u8 --play http://192.0.2.1:7001/live/school.flv \
			-n %d --join 2s --settle 2s -d %v --check 0 --json >result || true # it may report a busy machine`,
		harness.Binary(t, true), viewers, lasts)
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", "bash", "-euc", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	read := func(name string) string {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		return string(b)
	}
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, out, read("log"))
	}
	var m struct {
		Viewers struct {
			Joined, Lost int
			Errors       map[string]int
		}
	}
	if err := json.Unmarshal([]byte(read("result")), &m); err != nil {
		t.Fatalf("livego bench: %v: %q\n%s", err, read("result"), out)
	}
	if v := m.Viewers; v.Joined != viewers || v.Lost > 0 || len(v.Errors) > 0 {
		t.Errorf("of %d viewers: %+v", viewers, v)
	}
	if strings.Contains(read("log"), "connection refused or closed") {
		t.Error("connections of viewers were refused or closed")
	}
	if !strings.Contains(read("log"), "remote=192.0.2.1:") {
		t.Error("the viewers have another address")
	}
}

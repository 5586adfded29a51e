package main

import (
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"livego/internal/tools/bench"
)

func TestTable(t *testing.T) {
	result := func(cpu float64, void ...string) *bench.Result {
		r := &bench.Result{Protocols: []string{"flv"}, Server: &bench.ServerLoad{CPUPerViewer: cpu, KBPerViewer: 7.25}}
		r.Latency.P50, r.Latency.P99, r.FirstPicture.P50, r.Delivery.Share, r.Bench.Void = 25, 50, 1.5, 1, void
		return r
	}
	unwatched := result(0)
	unwatched.Server = nil
	secure := result(360)
	secure.Protocols = []string{"https-flv"}
	secure.PictureAfterHandshake = bench.Percentiles{Count: 1, P50: .5, P99: 2}
	rows := []row{
		{"floor, 50 ms", 500, 50, result(150)},
		{"livego", 500, 0, result(180)},
		{"livego", 500, 0, secure},
		{"livego", 1500, 0, result(180, "slow")},
		{"other", 500, 0, unwatched},
	}
	const want = "| viewers | server | protocol | CPU, us | memory, kB | p50 / p99, ms | first picture, ms | " +
		`after handshake, p50 / p99, ms | delivered | x flv | x floor 50 |
|---|---|---|---|---|---|---|---|---|---|---|
| 500 | floor, 50 ms | flv | 150 | 7.2 | 25.0 / 50.0 | 1.5 | - | 100.0 % | 0.83 | 1.00 |
| 500 | livego | flv | 180 | 7.2 | 25.0 / 50.0 | 1.5 | - | 100.0 % | 1.00 | 1.20 |
| 500 | livego | https-flv | 360 | 7.2 | 25.0 / 50.0 | 1.5 | 0.5 / 2.0 | 100.0 % | 2.00 | 2.40 |
| 1500 | livego | flv | 180 | 7.2 | 25.0 / 50.0 | 1.5 | - | 100.0 % (void: the bench was the bottleneck) | 1.00 | - |
| 500 | other | flv | - | - | 25.0 / 50.0 | 1.5 | - | 100.0 % | - | - |
`
	if got := table(rows, []int{50}); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if strings.Count(machine(), ", ") < 3 {
		t.Errorf("the machine is %q", machine())
	}
}

// TestFloorCarriesStream compiles the floor and sends a stream through it.
func TestFloorCarriesStream(t *testing.T) {
	if _, err := exec.LookPath("cc"); err != nil || runtime.GOOS != "linux" {
		t.Skip("needs a C compiler and Linux")
	}
	floor := filepath.Join(t.TempDir(), "floor")
	if out, err := exec.CommandContext(t.Context(), "cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", floor,
		"../floor.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	o := options{floor: floor, windows: []int{20}}
	s := o.servers()[0]
	stop, err := s.start(t.Context(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	at := "://127.0.0.1:" + floorPort
	result, err := bench.Run(t.Context(), bench.Options{
		Publish: []string{"tcp" + at}, Play: []string{"http" + at + "/live.flv"}, Viewers: 10, Duration: time.Second,
		Check: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	d := result.Delivery
	if result.Viewers.Joined != 10 || d.Share != 1 || d.Missing+d.Repeats+d.Corrupt != 0 || d.Checked == 0 {
		t.Errorf("%+v %+v", result.Viewers, d)
	}
	if p50 := result.Latency.P50; p50 < 1 { // most frames wait for the batching window
		t.Errorf("latency %v", result.Latency)
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-viewers=10, 20", "-windows=0", "-server=--level=warn --x=y", "-proto=hls,llhls"})
	if err != nil || len(o.viewers) != 2 || o.viewers[1] != 20 || len(o.windows) != 1 || len(o.server) != 2 ||
		len(o.protos) != 2 {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := parse([]string{"-viewers=many"}); err == nil {
		t.Error("invalid -viewers was accepted")
	}
}

package resilience

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// shortFreeze returns for how long an encoder may freeze without being lost, and the settings for
// that.
func shortFreeze() (short time.Duration, more []string) {
	if harness.Long() {
		return 5 * time.Second, []string{"--read_timeout=10s", "--publish_hold=20s"}
	}
	return time.Second, nil
}

// TestFFmpegEncoders kills and freezes ffmpeg.
func TestFFmpegEncoders(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	short, more := shortFreeze()
	server := harness.Start(t, harness.Options{NoRace: true, Flags: flags(more...)})
	warmUp(t, server, server)
	before := measureBaseline(server)
	t.Run("group", func(t *testing.T) {
		for _, r := range []testCase{
			{"killed", func(sc *scenario) {
				sc.discontinuities = 1
				e := sc.startFFmpeg(sc.s.RTMP(sc.key))
				e.Kill()
				e.Wait(maxWait)
				sc.finishStream(sc.restartFFmpeg())
			}},
			{"frozen for a short time", func(sc *scenario) {
				e := sc.startFFmpeg(sc.s.RTMP(sc.key))
				freeze(e, short)
				sc.finishStream(e)
			}},
			{"frozen beyond the read timeout", func(sc *scenario) {
				sc.discontinuities = 1
				e := sc.startFFmpeg(sc.s.RTMP(sc.key))
				e.Signal(syscall.SIGSTOP)
				sc.awaitUnpublished()
				e.Signal(syscall.SIGCONT)
				e.Wait(maxWait) // it finds its connection closed
				sc.finishStream(sc.restartFFmpeg())
			}},
		} {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				sc := newScenario(t, server, r.name)
				r.run(sc)
				sc.checkViewers()
			})
		}
	})
	before.check(t)
}

// TestNetworkLoss cuts the network between ffmpeg and the server: neither side is notified.
func TestNetworkLoss(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	link := newLink(t)
	port := harness.FreePorts(t, 1)[0]
	server := harness.Start(t, harness.Options{NoRace: true, Flags: flags(fmt.Sprintf("--rtmp_addr=:%d", port))})
	server.SetAddr("rtmp_addr", fmt.Sprintf("127.0.0.1:%d", port))
	sc := newScenario(t, server, "cut")
	sc.discontinuities = 1
	url := fmt.Sprintf("rtmp://%s:%d/live/%s", link.hostAddr, port, sc.key)
	e := sc.startFFmpegOver(link, url)
	link.set("down")
	sc.awaitUnpublished()
	link.set("up")
	e.Kill()
	e.Wait(maxWait)
	sc.finishStream(sc.pushOver(link, url))
	sc.checkViewers()
}

// startFFmpeg starts ffmpeg with viewers that start before and after it, and returns when they
// receive it.
func (sc *scenario) startFFmpeg(url string) *harness.Process { return sc.startFFmpegOver(nil, url) }

func (sc *scenario) startFFmpegOver(l *link, url string) *harness.Process {
	sc.t.Helper()
	sc.addEarlyViewers()
	e := sc.pushOver(l, url)
	sc.awaitProgress(time.Second)
	sc.addLateViewers()
	return e
}

// restartFFmpeg starts the encoder that follows the lost one.
func (sc *scenario) restartFFmpeg() *harness.Process {
	sc.t.Helper()
	return sc.pushOver(nil, sc.s.RTMP(sc.key))
}

// pushOver starts ffmpeg at the far end of l, or on this host if that is nil.
func (sc *scenario) pushOver(l *link, url string) *harness.Process {
	sc.t.Helper()
	args := []string{"-nostdin", "-v", "warning", "-re", "-stream_loop", "-1", "-i", sample.Small.File(sc.t), "-c", "copy",
		"-f", "flv", url}
	if l == nil {
		return harness.StartProgram(sc.t, "ffmpeg", args...)
	}
	return harness.StartProgram(sc.t, "ip", append([]string{"netns", "exec", l.name, "ffmpeg"}, args...)...)
}

// finishStream waits until all viewers have received more, and ends e cleanly.
func (sc *scenario) finishStream(e *harness.Process) {
	sc.t.Helper()
	sc.awaitProgress(2 * time.Second)
	e.Signal(syscall.SIGINT)
	e.Wait(maxWait)
}

// awaitUnpublished waits until the server has no publisher of the room.
func (sc *scenario) awaitUnpublished() {
	sc.t.Helper()
	harness.Eventually(sc.t, maxWait, "the encoder is lost", func() error {
		for _, p := range sc.s.Stat().Publishers {
			if p.Key == "live/"+sc.room {
				return fmt.Errorf("%s is published", p.Key)
			}
		}
		return nil
	})
}

// freeze stops the process e for d.
func freeze(e *harness.Process, d time.Duration) {
	e.Signal(syscall.SIGSTOP)
	timer := time.NewTimer(d)
	<-timer.C
	e.Signal(syscall.SIGCONT)
}

// A link is a virtual network cable to a network namespace of its own.
type link struct {
	t        *testing.T
	name     string // of the namespace and of the interface at our end
	hostAddr string // our address on the link
}

// newLink creates a link, which requires root.
func newLink(t *testing.T) *link {
	t.Helper()
	n := os.Getpid() % 16384 // so that two runs on one machine do not collide
	l := &link{t: t, name: fmt.Sprintf("lg%d", n), hostAddr: fmt.Sprintf("10.%d.%d.%d", 200+n>>12, n>>4&255, n&15<<4+1)}
	there := fmt.Sprintf("10.%d.%d.%d", 200+n>>12, n>>4&255, n&15<<4+2)
	harness.NeedRights(t, "ip", "netns", "add", l.name)
	t.Cleanup(func() { l.ip("netns", "del", l.name) })
	l.ip("link", "add", l.name, "type", "veth", "peer", "name", "eth0", "netns", l.name)
	// It is usually deleted with the other end.
	t.Cleanup(func() { exec.Command("ip", "link", "del", l.name).Run() })
	l.ip("addr", "add", l.hostAddr+"/28", "dev", l.name)
	l.ip("-n", l.name, "addr", "add", there+"/28", "dev", "eth0")
	l.ip("-n", l.name, "link", "set", "eth0", "up")
	l.set("up")
	return l
}

func (l *link) ip(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// set sets the state of our end.
func (l *link) set(state string) {
	l.t.Helper()
	l.ip("link", "set", l.name, state)
}

package scenes

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"livego/e2e/rig"
	"livego/e2e/sample"
)

// moment returns how long an encoder freezes such that it is not lost by it, and the settings for that.
func moment() (short time.Duration, more []string) {
	if rig.Long() {
		return 5 * time.Second, []string{"--read_timeout=10s", "--publish_hold=20s"}
	}
	return time.Second, nil
}

// TestRealEncoders has ffmpeg killed and frozen, and its network cut.
func TestRealEncoders(t *testing.T) {
	rig.Need(t, "ffmpeg")
	t.Parallel()
	short, more := moment()
	server := rig.Start(t, rig.Options{Plain: true, Flags: flags(more...)})
	warmUp(t, server)
	left := leftovers(server)
	t.Run("group", func(t *testing.T) {
		for _, r := range []row{
			{"killed", func(sc *scene) {
				sc.joins = 1
				e := sc.ffmpeg(sc.s.RTMP(sc.key))
				e.Kill()
				e.Wait(patience)
				sc.goOn(sc.ffmpegAgain())
			}},
			{"frozen for a moment", func(sc *scene) {
				e := sc.ffmpeg(sc.s.RTMP(sc.key))
				freeze(e, short)
				sc.goOn(e)
			}},
			{"frozen for long", func(sc *scene) {
				sc.joins = 1
				e := sc.ffmpeg(sc.s.RTMP(sc.key))
				e.Signal(syscall.SIGSTOP)
				sc.awaitLost()
				e.Signal(syscall.SIGCONT)
				e.Wait(patience) // it finds its connection gone
				sc.goOn(sc.ffmpegAgain())
			}},
		} {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				sc := newScene(t, server, r.name)
				r.play(sc)
				sc.judge()
			})
		}
	})
	left.check(t)
}

// TestNetworkIsCut has the network between ffmpeg and the server go away: nobody is told anything.
func TestNetworkIsCut(t *testing.T) {
	rig.Need(t, "ffmpeg")
	t.Parallel()
	link := newLink(t)
	port := rig.FreePorts(t, 1)[0]
	server := rig.Start(t, rig.Options{Plain: true, Flags: flags(fmt.Sprintf("--rtmp_addr=:%d", port))})
	server.SetAddr("rtmp_addr", fmt.Sprintf("127.0.0.1:%d", port))
	sc := newScene(t, server, "cut")
	sc.joins = 1
	url := fmt.Sprintf("rtmp://%s:%d/live/%s", link.here, port, sc.key)
	e := sc.ffmpegBy(link, url)
	link.set("down")
	sc.awaitLost()
	link.set("up")
	e.Kill()
	e.Wait(patience)
	sc.goOn(sc.pushBy(link, url))
	sc.judge()
}

// ffmpeg starts a real encoder in front of viewers who are there before and after, and returns when they see it.
func (sc *scene) ffmpeg(url string) *rig.Process { return sc.ffmpegBy(nil, url) }

func (sc *scene) ffmpegBy(l *link, url string) *rig.Process {
	sc.t.Helper()
	sc.early()
	e := sc.pushBy(l, url)
	sc.flows(time.Second)
	sc.late()
	return e
}

// ffmpegAgain starts the encoder that comes after the one that was lost.
func (sc *scene) ffmpegAgain() *rig.Process {
	sc.t.Helper()
	return sc.pushBy(nil, sc.s.RTMP(sc.key))
}

// pushBy starts ffmpeg at the far end of l, or here.
func (sc *scene) pushBy(l *link, url string) *rig.Process {
	sc.t.Helper()
	args := []string{"-nostdin", "-v", "warning", "-re", "-stream_loop", "-1", "-i", sample.Small.File(sc.t), "-c", "copy", "-f", "flv", url}
	if l == nil {
		return rig.Go(sc.t, "ffmpeg", args...)
	}
	return rig.Go(sc.t, "ip", append([]string{"netns", "exec", l.name, "ffmpeg"}, args...)...)
}

// goOn waits until everybody sees more, and lets e end properly.
func (sc *scene) goOn(e *rig.Process) {
	sc.t.Helper()
	sc.flows(2 * time.Second)
	e.Signal(syscall.SIGINT)
	e.Wait(patience)
}

// awaitLost waits until the server has no encoder of the room any more.
func (sc *scene) awaitLost() {
	sc.t.Helper()
	rig.Eventually(sc.t, patience, "encoder lost", func() error {
		for _, p := range sc.s.Stat().Publishers {
			if p.Key == "live/"+sc.room {
				return fmt.Errorf("%s is published", p.Key)
			}
		}
		return nil
	})
}

// freeze stops e for so long.
func freeze(e *rig.Process, d time.Duration) {
	e.Signal(syscall.SIGSTOP)
	timer := time.NewTimer(d)
	<-timer.C
	e.Signal(syscall.SIGCONT)
}

// A link is a cable to a network of its own.
type link struct {
	t    *testing.T
	name string // of the network, and of our end
	here string // our address, as it is seen from there
}

// newLink makes a link, which needs root.
func newLink(t *testing.T) *link {
	t.Helper()
	rig.Need(t, "ip")
	if os.Geteuid() != 0 {
		t.Skip("MISSING RIGHTS: only root makes networks, so that this test proves NOTHING here")
	}
	n := os.Getpid() % 16384 // so that two runs on one machine do not meet
	l := &link{t: t, name: fmt.Sprintf("lg%d", n), here: fmt.Sprintf("10.%d.%d.%d", 200+n>>12, n>>4&255, n&15<<4+1)}
	there := fmt.Sprintf("10.%d.%d.%d", 200+n>>12, n>>4&255, n&15<<4+2)
	if out, err := exec.Command("ip", "netns", "add", l.name).CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("MISSING RIGHTS: ip netns add: %v: %s, and CI=true", err, out)
		}
		t.Skipf("MISSING RIGHTS: ip netns add: %v: %s, so that this test proves NOTHING here", err, out)
	}
	t.Cleanup(func() { l.ip("netns", "del", l.name) })
	l.ip("link", "add", l.name, "type", "veth", "peer", "name", "eth0", "netns", l.name)
	t.Cleanup(func() { exec.Command("ip", "link", "del", l.name).Run() }) // mostly gone with the other end
	l.ip("addr", "add", l.here+"/28", "dev", l.name)
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

// set plugs our end in or out.
func (l *link) set(state string) {
	l.t.Helper()
	l.ip("link", "set", l.name, state)
}

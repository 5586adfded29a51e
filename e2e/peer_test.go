package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

// TestRTMPDump plays with librtmp.
func TestRTMPDump(t *testing.T) {
	harness.Need(t, "ffmpeg", "rtmpdump")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.AV)
	push := src.push(s, t, "movie")
	s.AwaitLive("movie")
	out := filepath.Join(t.TempDir(), "out.flv")
	dump := harness.StartProgram(t, "rtmpdump", "-q", "-r", s.RTMP("movie"), "--live", "-o", out)
	push.WaitOK(patience)
	dump.Wait(patience) // the exit code depends on the duration, which a live stream does not have
	check(t, "rtmpdump", src.packets, readPackets(t, out), mediacompare.Millisecond)
}

// TestGStreamerPlays plays with rtmp2src.
func TestGStreamerPlays(t *testing.T) {
	harness.Need(t, "ffmpeg", "gst-launch-1.0")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.AV)
	push := src.push(s, t, "movie")
	s.AwaitLive("movie")
	out := filepath.Join(t.TempDir(), "out.flv")
	gst := harness.StartProgram(t, "gst-launch-1.0", "-q", "rtmp2src", "location="+s.RTMP("movie"), "!", "filesink",
		"buffer-mode=unbuffered", "location="+out)
	push.WaitOK(patience)
	gst.WaitOK(patience)
	m, err := mediacompare.Compare(src.packets, readPackets(t, out), mediacompare.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	// rtmp2src drops the message that it is reading when the stream ends.
	if lost := m.Video.Missing() + m.Audio.Missing(); lost > 1 {
		t.Errorf("the end is missing: video %+v, audio %+v", m.Video, m.Audio)
	}
}

// readFLV reads an FLV file that another program wrote.
func readFLV(t *testing.T, path string) *mediacompare.FLVFile {
	t.Helper()
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	file, err := mediacompare.ReadFLV(r)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func readPackets(t *testing.T, path string) mediacompare.Stream {
	t.Helper()
	packets, err := readFLV(t, path).Packets()
	if err != nil {
		t.Fatal(err)
	}
	return packets
}

// TestGStreamerPushes publishes with GStreamer's own RTMP client and with librtmp. The muxer frames
// NAL units in its own way, so the units that a decoder gets are compared.
func TestGStreamerPushes(t *testing.T) {
	harness.Need(t, "ffmpeg", "gst-launch-1.0")
	server := harness.Start(t, harness.Options{})
	src := load(t, sample.AV)
	for _, sink := range []struct{ name, suffix string }{
		{"rtmp2sink", ""},
		{"rtmpsink", " live=1"}, // librtmp reads options after the address
	} {
		t.Run(sink.name, func(t *testing.T) {
			t.Parallel()
			s := server.WithT(t)
			out := filepath.Join(t.TempDir(), "out.flv")
			viewer := harness.FFmpeg(t, append([]string{"-v", "debug"},
				append(copyArgs(s.RTMP(sink.name)), "-f", "flv", out)...)...)
			viewer.AwaitStderr(patience, func(s string) bool { return strings.Contains(s, "Sending play command") })
			push := harness.StartProgram(t, "gst-launch-1.0", "-q", "filesrc", "location="+src.File(t), "!", "flvdemux",
				"name=d",
				"d.video", "!", "queue", "!", "h264parse", "!", "m.video",
				"d.audio", "!", "queue", "!", "aacparse", "!", "m.audio",
				"flvmux", "name=m", "streamable=true", "!", sink.name, "sync=true",
				"location="+s.RTMP(s.Key(sink.name))+sink.suffix)
			push.WaitOK(patience)
			viewer.WaitOK(patience)
			got, err := readFLV(t, out).DecoderUnits()
			if err != nil {
				t.Fatal(err)
			}
			check(t, sink.name, src.decoderUnits, got, mediacompare.Millisecond)
		})
	}
}

// TestNginx relays through nginx-rtmp in both directions: nginx pushes a stream to livego, and
// pulls one from livego.
func TestNginx(t *testing.T) {
	harness.Need(t, "ffmpeg", "nginx")
	t.Parallel()
	// nginx does not end the stream when it ends a push, so livego holds it.
	s, src := harness.Start(t, harness.Options{Flags: []string{"--publish_hold=1s"}}), load(t, sample.AV)
	addr := startNginx(t, fmt.Sprintf(`
		application pushes { live on; push %s; }
		application pulls { live on; pull %s name=movie; }`, s.RTMP(s.Key("pushed")), s.RTMP("movie")))

	viewer := watchRTMPEarly(t, s.RTMP("pushed"))
	push := s.PushTo(src.File(t), "rtmp://"+addr+"/pushes/movie")
	push.WaitOK(patience)
	check(t, "nginx pushes", src.packets, frames(t, viewer), mediacompare.Millisecond)

	push = src.push(s, t, "movie")
	s.AwaitLive("movie")
	viewer = watchRTMP(t, "rtmp://"+addr+"/pulls/movie")
	push.WaitOK(patience)
	check(t, "nginx pulls", src.packets, frames(t, viewer), mediacompare.Millisecond)
}

// startNginx starts nginx with the RTMP module and these applications, and returns its address.
func startNginx(t *testing.T, applications string) string {
	t.Helper()
	dir := t.TempDir()
	addr := fmt.Sprintf("127.0.0.1:%d", harness.FreePorts(t, 1)[0])
	conf := fmt.Sprintf(`
		load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
		daemon off; master_process off; pid %s/pid; error_log stderr warn;
		events {}
		rtmp { server { listen %s; %s } }`, dir, addr, applications)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	nginx := harness.StartProgram(t, "nginx", "-c", file, "-p", dir)
	harness.Eventually(t, 10*time.Second, "nginx", func() error {
		select {
		case <-nginx.Done():
			return fmt.Errorf("ended: %s", nginx.Stderr())
		default:
		}
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err
	})
	return addr
}

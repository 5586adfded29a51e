package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"livego/e2e/essence"
	"livego/e2e/rig"
	"livego/e2e/sample"
)

// carries returns what a form of HLS, "MP4" or "TS", has of a sample whose name lists its codecs, as docs/codecs.md says.
func (src source) carries(t *testing.T, form string) (video, audio bool) {
	t.Helper()
	doc, err := os.ReadFile("../docs/codecs.md")
	if err != nil {
		t.Fatal(err)
	}
	letters := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }
	clean := func(s string) string { return strings.Join(strings.FieldsFunc(strings.ToLower(s), letters), "") }
	forms := map[string]string{} // by codec
	for line := range strings.Lines(string(doc)) {
		if cells := strings.Split(line, "|"); len(cells) == 6 {
			for name := range strings.SplitSeq(cells[1], ",") {
				forms[clean(name)] = cells[4]
			}
		}
	}
	has := func(codec string) bool {
		for name, in := range forms {
			if strings.HasPrefix(name, codec) {
				return strings.Contains(in, form)
			}
		}
		t.Fatalf("docs/codecs.md has no %s", codec)
		return false
	}
	codecs := strings.Split(src.Name, "-")
	if src.Video {
		video, codecs = has(codecs[0]), codecs[1:]
	}
	return video, src.Audio && has(codecs[0])
}

// checkForms fetches what HLS has of a room that has ended, in both forms, and compares it with the source. Nothing that reads it may
// find a fault.
func (src source) checkForms(t *testing.T, s *rig.Server, room string) {
	t.Helper()
	// Fragmented MP4 has the packets of FLV.
	mp4 := endedHLS(t, s.HLS(room)+"?format=fmp4", "index.m3u8")
	copied := rig.NewerFFmpeg(t, mp4, append(copyArgs("pipe:0"), "-f", "framemd5", "pipe:1")...)
	check(t, "HLS, MP4", src.packets, frames(t, copied), essence.Millisecond)
	defer src.play(t, mp4, "out.mp4", src.Video, src.Audio)()

	// MPEG-TS frames pictures in its own way: what is decoded is the same.
	video, audio := src.carries(t, "TS")
	if !video && !audio {
		resp, body, err := fetch(t.Context(), rig.Client(), strings.TrimSuffix(s.HLS(room), ".m3u8")+"/ts.m3u8")
		if err != nil || resp.StatusCode != http.StatusNotFound || !strings.Contains(string(body), "no track that this form of HLS can carry") {
			t.Errorf("HLS, TS, which cannot carry it: %v, %s", err, body)
		}
		return
	}
	ts := endedHLS(t, s.HLS(room)+"?format=ts", "ts.m3u8")
	defer src.play(t, ts, "out.ts", video, audio)()
	var want essence.Stream
	if video {
		want = pictures(t, src.bytes(t)).Of(essence.Video)
	}
	if audio {
		want = append(want, src.packets.Of(essence.Audio)...)
	}
	var more []string
	if strings.Contains(room, "aac") {
		more = []string{"-bsf:a", "aac_adtstoasc"}
	}
	check(t, "HLS, TS", want, pictures(t, ts, more...), essence.TSTick)
}

// pictures returns what is in a file, pictures decoded and sound as it is.
func pictures(t *testing.T, file []byte, more ...string) essence.Stream {
	t.Helper()
	args := append([]string{"-copyts", "-i", "pipe:0", "-fps_mode", "passthrough", "-enc_time_base:v", "demux", "-c:a", "copy"}, more...)
	s := frames(t, rig.NewerFFmpeg(t, file, append(args, "-f", "framemd5", "pipe:1")...))
	for i := range s {
		s[i].Key = true
	}
	return s
}

// play has ffprobe, GStreamer and VLC play a file. What it returns checks that they did so to its end and without a complaint.
func (src source) play(t *testing.T, file []byte, name string, video, audio bool) func() {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	probe := rig.Go(t, "ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames", path)
	gst := rig.Go(t, "gst-launch-1.0", "-q", "playbin", "uri=file://"+path, "video-sink=fakesink", "audio-sink=fakesink")
	vlc := rig.VLC(t, path)
	return func() {
		probe.OK(patience)
		gst.OK(patience)
		if said := probe.Stderr() + gst.Stderr(); said != "" {
			t.Errorf("%s: ffprobe and GStreamer say %s", name, said)
		}
		const (
			size, rate = 160 * 120 * 3 / 2, 48000 * 2
			held       = 3 // pictures that VLC does not show at the end
		)
		pictures, sound := vlc()
		// VLC shows pictures by the clock. On a busy machine it ends with the sound, and the last pictures are not shown.
		for range 3 {
			if !video || pictures >= int64((len(src.packets.Of(essence.Video))-held)*size) {
				break
			}
			pictures, sound = rig.VLC(t, path)()
		}
		if n := len(src.packets.Of(essence.Video)); video && pictures < int64((n-held)*size) || !video && pictures > 0 {
			t.Errorf("%s: VLC shows %d bytes of %d pictures", name, pictures, n)
		}
		units := src.packets.Of(essence.Audio)
		if lasts := units[len(units)-1].DTS.Seconds(); audio && float64(sound) < .95*lasts*rate || !audio && sound > 0 {
			t.Errorf("%s: VLC plays %d bytes of %.1f s of sound", name, sound, lasts)
		}
	}
}

// endedHLS returns all that a playlist has that has ended, to which master leads, initialization section first.
func endedHLS(t *testing.T, master, want string) []byte {
	t.Helper()
	media, err := mediaURL(t.Context(), rig.Client(), master)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(media, "/"+want) {
		t.Fatalf("%s leads to %s", master, media)
	}
	var l lowLatencyList
	rig.Eventually(t, patience, "the end of "+media, func() error {
		text := rig.Get(t, media)
		if !bytes.Contains(text, []byte("#EXT-X-ENDLIST")) {
			return errors.New("it goes on")
		}
		l, err = parseLowLatency(text)
		return err
	})
	uris := []string{}
	if l.init != "" {
		uris = append(uris, l.init)
	}
	for _, s := range l.segments {
		uris = append(uris, s.uri)
	}
	var all []byte
	for _, uri := range uris {
		at, err := resolve(media, uri)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rig.Get(t, at)...)
	}
	return all
}

// TestNumbersSurviveKill kills the server while it serves, again and again: no name of a segment comes twice, and the numbers rise.
func TestNumbersSurviveKill(t *testing.T) {
	rig.Need(t, "ffmpeg")
	t.Parallel()
	dir, names, highest := t.TempDir(), map[string]bool{}, -1
	for range 3 {
		s := rig.Start(t, rig.Options{DataDir: dir})
		push := s.Push(sample.AV.File(t), "movie", "-stream_loop", "-1")
		s.AwaitLive("movie")
		media, err := mediaURL(t.Context(), rig.Client(), s.HLS("movie"))
		if err != nil {
			t.Fatal(err)
		}
		var l hlsPlaylist
		rig.Eventually(t, patience, "three segments", func() error {
			if l, err = parseMedia(rig.Get(t, media)); err == nil && len(l.segments) < 3 {
				err = fmt.Errorf("%d segments", len(l.segments))
			}
			return err
		})
		s.Kill()
		push.Wait(patience)
		if l.sequence <= highest {
			t.Errorf("numbers begin at %d, after %d", l.sequence, highest)
		}
		highest = l.sequence + len(l.segments) // the open one had a number too
		for _, seg := range l.segments {
			if names[seg.uri] {
				t.Errorf("%s again", seg.uri)
			}
			names[seg.uri] = true
		}
	}
}

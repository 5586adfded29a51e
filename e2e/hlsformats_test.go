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

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

// carriedTracks reports whether a format of HLS, "MP4" or "TS", carries the video and the audio of
// a sample, by the table in docs/codecs.md. The name of the sample lists its codecs.
func (src source) carriedTracks(t *testing.T, form string) (video, audio bool) {
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
		t.Fatalf("docs/codecs.md does not list %s", codec)
		return false
	}
	codecs := strings.Split(src.Name, "-")
	if src.Video {
		video, codecs = has(codecs[0]), codecs[1:]
	}
	return video, src.Audio && has(codecs[0])
}

// checkHLSFormats downloads a stream that has ended in both formats of HLS, and compares it with
// the source. No player may report an error.
func (src source) checkHLSFormats(t *testing.T, s *harness.Server, room string) {
	t.Helper()
	// Fragmented MP4 has the same packets as FLV.
	mp4 := downloadEndedHLS(t, s.HLS(room)+"?format=fmp4", "index.m3u8")
	copied := harness.NewerFFmpeg(t, mp4, append(copyArgs("pipe:0"), "-f", "framemd5", "pipe:1")...)
	check(t, "HLS, MP4", src.packets, frames(t, copied), mediacompare.Millisecond)
	defer src.startPlayers(t, mp4, "out.mp4", src.Video, src.Audio)()

	// MPEG-TS frames pictures in another way: the decoded pictures are the same.
	video, audio := src.carriedTracks(t, "TS")
	if !video && !audio {
		resp, body, err := fetch(t.Context(), harness.Client(), strings.TrimSuffix(s.HLS(room), ".m3u8")+"/ts.m3u8")
		if err != nil || resp.StatusCode != http.StatusNotFound ||
			!strings.Contains(string(body), "no track that this HLS format can carry") {
			t.Errorf("HLS, TS, which cannot carry it: %v, %s", err, body)
		}
		return
	}
	ts := downloadEndedHLS(t, s.HLS(room)+"?format=ts", "ts.m3u8")
	defer src.startPlayers(t, ts, "out.ts", video, audio)()
	var want mediacompare.Stream
	if video {
		want = decodedFrames(t, src.bytes(t)).Of(mediacompare.Video)
	}
	if audio {
		want = append(want, src.packets.Of(mediacompare.Audio)...)
	}
	var more []string
	if strings.Contains(room, "aac") {
		more = []string{"-bsf:a", "aac_adtstoasc"}
	}
	check(t, "HLS, TS", want, decodedFrames(t, ts, more...), mediacompare.TSTick)
}

// decodedFrames returns the contents of a file: its pictures decoded, its audio as it is.
func decodedFrames(t *testing.T, file []byte, more ...string) mediacompare.Stream {
	t.Helper()
	args := append([]string{"-copyts", "-i", "pipe:0", "-fps_mode", "passthrough", "-enc_time_base:v", "demux", "-c:a",
		"copy"}, more...)
	s := frames(t, harness.NewerFFmpeg(t, file, append(args, "-f", "framemd5", "pipe:1")...))
	for i := range s {
		s[i].Key = true
	}
	return s
}

// startPlayers has ffprobe, GStreamer and VLC play a file. The function that it returns checks that
// they played it to the end without an error.
func (src source) startPlayers(t *testing.T, file []byte, name string, video, audio bool) func() {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	probe := harness.StartProgram(t, "ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames",
		path)
	gst := harness.StartProgram(t, "gst-launch-1.0", "-q", "playbin", "uri=file://"+path, "video-sink=fakesink",
		"audio-sink=fakesink")
	vlc := harness.PlayWithVLC(t, path)
	return func() {
		probe.WaitOK(patience)
		gst.WaitOK(patience)
		if printed := probe.Stderr() + gst.Stderr(); printed != "" {
			t.Errorf("%s: ffprobe and GStreamer print %s", name, printed)
		}
		const (
			size, rate = 160 * 120 * 3 / 2, 48000 * 2
			held       = 3 // pictures that VLC does not show at the end
		)
		pictures, sound := vlc()
		// VLC shows pictures by the clock. On a busy machine it ends with the audio, and does not
		// show the last pictures.
		for range 3 {
			if !video || pictures >= int64((len(src.packets.Of(mediacompare.Video))-held)*size) {
				break
			}
			pictures, sound = harness.PlayWithVLC(t, path)()
		}
		if n := len(src.packets.Of(mediacompare.Video)); video && pictures < int64((n-held)*size) || !video && pictures > 0 {
			t.Errorf("%s: VLC decoded %d bytes of %d pictures", name, pictures, n)
		}
		units := src.packets.Of(mediacompare.Audio)
		if lasts := units[len(units)-1].DTS.Seconds(); audio && float64(sound) < .95*lasts*rate || !audio && sound > 0 {
			t.Errorf("%s: VLC decoded %d bytes of %.1f s of audio", name, sound, lasts)
		}
	}
}

// downloadEndedHLS returns all segments of an ended playlist, to which the multivariant playlist
// master leads, after the init segment. want is the name of the media playlist.
func downloadEndedHLS(t *testing.T, master, want string) []byte {
	t.Helper()
	media, err := mediaURL(t.Context(), harness.Client(), master)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(media, "/"+want) {
		t.Fatalf("%s leads to %s", master, media)
	}
	var l lowLatencyPlaylist
	harness.Eventually(t, patience, "the end of "+media, func() error {
		text := harness.Get(t, media)
		if !bytes.Contains(text, []byte("#EXT-X-ENDLIST")) {
			return errors.New("the playlist has not ended")
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
		all = append(all, harness.Get(t, at)...)
	}
	return all
}

// TestSequenceNumbersRiseAfterKill kills the server while it serves, several times: no segment name
// repeats, and the media sequence numbers rise.
func TestSequenceNumbersRiseAfterKill(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	dir, names, highest := t.TempDir(), map[string]bool{}, -1
	for range 3 {
		s := harness.Start(t, harness.Options{DataDir: dir})
		push := s.Push(sample.AV.File(t), "movie", "-stream_loop", "-1")
		s.AwaitLive("movie")
		media, err := mediaURL(t.Context(), harness.Client(), s.HLS("movie"))
		if err != nil {
			t.Fatal(err)
		}
		var l hlsPlaylist
		harness.Eventually(t, patience, "three segments", func() error {
			if l, err = parseMedia(harness.Get(t, media)); err == nil && len(l.segments) < 3 {
				err = fmt.Errorf("%d segments", len(l.segments))
			}
			return err
		})
		s.Kill()
		push.Wait(patience)
		if l.sequence <= highest {
			t.Errorf("sequence numbers start at %d, after %d", l.sequence, highest)
		}
		highest = l.sequence + len(l.segments) // the open segment had a number too
		for _, seg := range l.segments {
			if names[seg.uri] {
				t.Errorf("segment name %s repeats", seg.uri)
			}
			names[seg.uri] = true
		}
	}
}

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

// TestPushList plays a list of five different files twice, and watches it by every protocol: no
// viewer is disconnected, and everything that arrives can be decoded.
func TestPushList(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{Flags: []string{
		// so that a viewer that joins late gets all of it
		"--hls_window=1000", "--hls_keep_after_end", "--gop_num=100", "--ring_time=1m",
	}})
	dir := t.TempDir()
	list, pictures := "ffconcat version 1.0\n# five unlike files\n", 0
	for i, m := range sample.MixedMedia(t) {
		link := filepath.Join(dir, fmt.Sprintf("it's %d%s", i, filepath.Ext(m.Name)))
		if err := os.Symlink(m.File(t), link); err != nil {
			t.Fatal(err)
		}
		list += fmt.Sprintf("file 'it'\\''s %d%s'\n", i, filepath.Ext(m.Name))
		pictures += 2 * m.Pictures(t)
	}
	files := filepath.Join(dir, "files.txt")
	if err := os.WriteFile(files, []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	rtmpOut, flvOut := filepath.Join(dir, "rtmp.flv"), filepath.Join(dir, "http.flv")
	viewer := recordRTMP(t, s.RTMP("channel"), rtmpOut)
	awaitWaiting(s, "channel")
	p := push(t, s, "--times=2", files, "channel")
	s.AwaitLive("channel")
	flv := harness.FFmpeg(t, append(copyArgs(s.FLV("channel")), "-f", "flv", flvOut)...)
	hls := async(func() (map[int][]byte, error) { return recordHLS(t.Context(), s.HLS("channel")) })
	p.WaitOK(patience)
	viewer.WaitOK(patience)
	flv.WaitOK(patience)
	if !strings.Contains(p.Stderr(), "players get new parameters there") ||
		strings.Count(p.Stderr(), "players get new") != 4 {
		t.Errorf("push did not print what differs:\n%s", p.Stderr())
	}
	for _, path := range []string{rtmpOut, flvOut} {
		checkChannel(t, path, 2*5*2, pictures)
	}
	// ffmpeg handles new parameters within MPEG-TS, but not within fragmented MP4.
	if n := countDecoded(t, strings.TrimSuffix(s.HLS("channel"), ".m3u8")+"/ts.m3u8", "-live_start_index",
		"0"); n != pictures {
		t.Errorf("HLS: ffmpeg decodes %d pictures, want %d", n, pictures)
	}
	parts, err := hls()
	if err != nil {
		t.Fatal(err)
	}
	if len(parts) < 10 { // one for each file of both rounds
		t.Errorf("HLS: %d discontinuity periods, want at least 10", len(parts))
	}
	decoded := 0
	for n, b := range parts {
		out := filepath.Join(dir, fmt.Sprintf("hls%d", n))
		if err := os.WriteFile(out, b, 0o600); err != nil {
			t.Fatal(err)
		}
		decoded += countDecoded(t, out)
	}
	if decoded != pictures {
		t.Errorf("HLS: %d pictures, want %d", decoded, pictures)
	}
}

// recordHLS downloads all segments of a stream until its playlist ends. It returns the segments
// between two discontinuities as one file, by the number of discontinuities before them.
func recordHLS(ctx context.Context, master string) (map[int][]byte, error) {
	c, parts, seen := harness.Client(), map[int][]byte{}, map[string]bool{}
	list, err := mediaURL(ctx, c, master)
	for err == nil {
		var body []byte
		if _, body, err = pollFetch(ctx, c, list); err != nil {
			break
		}
		part, init := 0, ""
		for line := range strings.Lines(string(body)) {
			line = strings.TrimSpace(line)
			tag, value, _ := strings.Cut(line, ":")
			switch {
			case tag == "#EXT-X-DISCONTINUITY-SEQUENCE":
				part, err = strconv.Atoi(value)
			case tag == "#EXT-X-DISCONTINUITY":
				part++
			case tag == "#EXT-X-MAP":
				_, init, _ = strings.Cut(value, `URI="`)
				init, _, _ = strings.Cut(init, `"`)
			case tag == "#EXT-X-ENDLIST":
				return parts, nil
			case line != "" && line[0] != '#' && !seen[line]:
				seen[line] = true
				if parts[part] == nil && init != "" {
					parts[part], err = fetchHLS(ctx, c, list, init)
				}
				var b []byte
				if err == nil {
					b, err = fetchHLS(ctx, c, list, line)
				}
				parts[part] = append(parts[part], b...)
			}
			if err != nil {
				return nil, err
			}
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, err
}

func fetchHLS(ctx context.Context, c *http.Client, list, ref string) ([]byte, error) {
	at, err := resolve(list, ref)
	if err != nil {
		return nil, err
	}
	_, b, err := pollFetch(ctx, c, at)
	return b, err
}

// checkChannel checks that the timestamps of a recording rise without gaps for this many seconds,
// and that all of it decodes to this many pictures. Each part between two changes of parameters is
// decoded separately.
func checkChannel(t *testing.T, path string, seconds float64, pictures int) {
	t.Helper()
	file := readFLV(t, path)
	last := map[byte]uint32{}
	var first, end uint32
	part := &mediacompare.FLVFile{HasVideo: true, HasAudio: true}
	parts, decoded := 0, 0
	flush := func() {
		if len(part.Tags) > 10 {
			out := filepath.Join(t.TempDir(), fmt.Sprintf("part%d.flv", parts))
			f, err := os.Create(out)
			if err == nil {
				err = part.Write(f)
				f.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			decoded += countDecoded(t, out)
			parts++
		}
	}
	headers := map[byte]mediacompare.FLVTag{}
	for i, tag := range file.Tags {
		if tag.Type == mediacompare.TagScript {
			continue
		}
		if before, ok := last[tag.Type]; ok && !tag.IsHeader() && (tag.Time < before || tag.Time > before+400) {
			t.Errorf("%s: tag %d of type %d at %d ms, after one at %d", path, i, tag.Type, tag.Time, before)
		}
		if tag.IsHeader() {
			headers[tag.Type] = tag
			if tag.Type == mediacompare.TagVideo {
				flush()
				part = &mediacompare.FLVFile{HasVideo: true, HasAudio: true,
					Tags: []mediacompare.FLVTag{headers[mediacompare.TagVideo], headers[mediacompare.TagAudio]}}
				if headers[mediacompare.TagAudio].Body == nil {
					part.Tags = part.Tags[:1]
				}
				continue
			}
		} else {
			if len(last) == 0 {
				first = tag.Time
			}
			last[tag.Type], end = tag.Time, tag.Time
		}
		part.Tags = append(part.Tags, tag)
	}
	flush()
	if got := float64(end-first) / 1000; got < seconds-3 || got > seconds+1 {
		t.Errorf("%s: %v s, want %v", path, got, seconds)
	}
	if decoded != pictures {
		t.Errorf("%s: %d pictures, want %d", path, decoded, pictures)
	}
	if want := 8; parts != want { // two of the five have the same video
		t.Errorf("%s: %d parts, want %d", path, parts, want)
	}
}

// countDecoded decodes a file or a stream to its end, and returns the number of pictures. ffmpeg
// must print no error.
func countDecoded(t *testing.T, from string, more ...string) (pictures int) {
	t.Helper()
	p := harness.FFmpeg(t, slices.Concat([]string{"-v", "error"}, more,
		[]string{"-i", from, "-fps_mode", "passthrough", "-f", "framecrc", "-"})...)
	if p.Wait(patience); strings.Contains(p.Stderr(), "Cannot determine format of input stream") {
		return 0 // a few milliseconds of audio between the new audio header and the new video header
	}
	p.WaitOK(patience)
	for line := range strings.Lines(p.Stderr()) {
		// the audio of two files overlaps within a millisecond
		if !strings.Contains(line, "non monotonically increasing dts") {
			t.Errorf("%s: %s", from, line)
		}
	}
	video := "none"
	for line := range strings.Lines(p.Stdout()) {
		if n, ok := strings.CutSuffix(strings.TrimSpace(line), ": video"); ok {
			video = strings.TrimPrefix(n, "#media_type ") + ","
		}
		if strings.HasPrefix(line, video) {
			pictures++
		}
	}
	return pictures
}

// TestPushConcat plays a list of files with the same codecs and time base, as ffmpeg's concat
// demuxer needs them, and compares the stream with ffmpeg's output for the list.
func TestPushConcat(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, dir := harness.Start(t, harness.Options{}), t.TempDir()
	list := "ffconcat version 1.0\n"
	const files = 3
	for _, name := range [files]string{"av.mp4", "vfr.mp4", "av.mp4"} {
		list += "file '" + sample.MediaOf(t, name).File(t) + "'\n"
	}
	text, joined, out := filepath.Join(dir, "files.txt"), filepath.Join(dir, "joined.flv"), filepath.Join(dir, "out.flv")
	if err := os.WriteFile(text, []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.FFmpeg(t, "-f", "concat", "-safe", "0", "-i", text, "-c", "copy", joined).WaitOK(patience)
	viewer := recordRTMP(t, s.RTMP("channel"), out)
	awaitWaiting(s, "channel")
	push(t, s, text, "channel").WaitOK(patience)
	viewer.WaitOK(patience)
	want, err := readFLV(t, joined).DecoderUnits()
	if err != nil {
		t.Fatal(err)
	}
	got, err := readFLV(t, out).DecoderUnits()
	if err != nil {
		t.Fatal(err)
	}
	// ffmpeg starts a file when the longest track of the file before it ends, livego when its video
	// ends: they differ by some milliseconds per file.
	const join = 60 * time.Millisecond
	check(t, "pictures", want.Of(mediacompare.Video), got.Of(mediacompare.Video), files*join/2)
	sound, n := want.Of(mediacompare.Audio), 0
	for _, u := range got.Of(mediacompare.Audio) {
		i := slices.IndexFunc(sound[n:], func(w mediacompare.Unit) bool { return w.Sum == u.Sum })
		if i < 0 {
			t.Fatalf("audio frame that is not in the list, or out of order: %v", u)
		}
		n += i + 1
	}
	// At each join, the audio that is longer than the video replaces the priming of the next file.
	if missing := len(sound) - len(got.Of(mediacompare.Audio)); missing < 0 || missing > 4*files {
		t.Errorf("%d audio frames are missing", missing)
	}
	last := map[mediacompare.Kind]time.Duration{}
	for _, u := range got {
		if u.DTS < last[u.Kind] {
			t.Errorf("%v comes after a unit at %v", u, last[u.Kind])
		}
		last[u.Kind] = u.DTS
	}
}

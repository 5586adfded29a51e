package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

// A recording is an entry of /api/v1/recordings.
type recording struct {
	ID, App, Room, File, State, Reason, Error string
	Bytes                                     int64
	Duration                                  float64
	Gaps                                      int
}

// recordingOf returns the newest recording of a room.
func recordingOf(t testing.TB, s *harness.Server, room string) (recording, error) {
	t.Helper()
	var list struct{ Recordings []recording }
	if err := json.Unmarshal(harness.Get(t, s.API("/api/v1/recordings")), &list); err != nil {
		t.Fatal(err)
	}
	for _, r := range list.Recordings {
		if r.Room == room {
			return r, nil
		}
	}
	return recording{}, fmt.Errorf("no recording of %s: %+v", room, list)
}

// awaitRecording waits until the newest recording of a room has this state and at least this
// duration, in seconds.
func awaitRecording(t testing.TB, s *harness.Server, room, state string, lasts float64,
	limit time.Duration) (r recording) {
	t.Helper()
	harness.Eventually(t, limit, "recording "+state, func() (err error) {
		if r, err = recordingOf(t, s, room); err == nil && (r.State != state || r.Duration < lasts) {
			err = fmt.Errorf("%+v", r)
		}
		return err
	})
	return r
}

// startRecording starts a server that records all streams, and returns the directory of the
// recordings.
func startRecording(t testing.TB, o harness.Options) (s *harness.Server, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "recordings")
	o.Flags = append([]string{"--flv_archive", "--flv_dir=" + dir}, o.Flags...)
	return harness.Start(t, o), dir
}

// startEventWebhook starts a receiver of events, and returns it and the options of a server that
// sends events to it.
func startEventWebhook(t testing.TB) (*webhookReceiver, harness.Options) {
	t.Helper()
	program := &webhookReceiver{}
	srv := httptest.NewServer(program)
	t.Cleanup(srv.Close)
	return program, harness.Options{Flags: []string{"--hook.events=" + srv.URL + "/events"},
		Env: []string{"LIVEGO_HOOK_SECRET=" + hookSecret}}
}

// ffprobeDuration returns the duration of a file in seconds, as ffprobe reports it.
func ffprobeDuration(t testing.TB, path string) float64 {
	t.Helper()
	p := harness.StartProgram(t, "ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", path)
	p.WaitOK(patience)
	d, err := strconv.ParseFloat(strings.TrimSpace(p.Stdout()), 64)
	if err != nil {
		t.Errorf("%s: ffprobe: %q %v", path, p.Stdout(), err)
	}
	return d
}

// checkRecording compares the recording of a room, which has ended, with the source.
func (src source) checkRecording(t *testing.T, s *harness.Server, dir, room string) *mediacompare.FLVFile {
	t.Helper()
	r := awaitRecording(t, s, room, "finished", 0, 2*time.Second)
	path := filepath.Join(dir, r.File)
	got := readFLV(t, path)
	packets, err := got.Packets()
	if err != nil {
		t.Fatal(err)
	}
	// by one if ffmpeg interleaves in another order
	if m := check(t, r.File, src.packets, packets, mediacompare.Millisecond); m.Video.First != 0 ||
		m.Audio.First > src.audioBeforeVideo()+1 {
		t.Errorf("%s: the start is missing: %+v", r.File, m)
	}
	end := time.Duration(0)
	for _, u := range packets {
		end = max(end, u.DTS)
	}
	duration := ffprobeDuration(t, path)
	if packets[0].DTS != 0 || math.Abs(duration-r.Duration) > 0.01 || duration < end.Seconds() ||
		duration > end.Seconds()+0.2 {
		t.Errorf("%s starts at %v, ends with a frame at %v, and has a duration of %v s by ffprobe and %v s by the list",
			r.File,
			packets[0].DTS, end, duration, r.Duration)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != r.Bytes || r.Reason != "ended" || r.Gaps != 0 ||
		r.Error != "" {
		t.Errorf("%+v, %v", r, err)
	}
	return got
}

// TestRecordingSeeks has ffmpeg seek in a recording: it must find the right keyframe by the index,
// without reading all data before it. An encoder that sends faster than real time is recorded
// completely.
func TestRecordingSeeks(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, dir := startRecording(t, harness.Options{})
	harness.FFmpeg(t, "-readrate", "4", "-i", sample.HighBitrate.File(t), "-c", "copy", "-f", "flv",
		s.RTMP(s.Key("movie"))).WaitOK(patience)
	r := awaitRecording(t, s, "movie", "finished", 19.9, 2*time.Second)
	path := filepath.Join(dir, r.File)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the recording has mode %v, %v, want 0640", info.Mode(), err)
	}
	for _, c := range []struct{ to, at string }{{"0", "0.000000"}, {"7.5", "7.000000"}, {"18.9", "18.000000"}} {
		p := harness.StartProgram(t, "ffprobe", "-v", "debug", "-read_intervals", c.to+"%+#1", "-select_streams", "v",
			"-show_entries", "packet=dts_time,flags", "-of", "csv=p=0", path)
		p.WaitOK(patience)
		if got := strings.TrimSpace(p.Stdout()); got != c.at+",K_" {
			t.Errorf("a seek to %s s leads to %s, want %s", c.to, got, c.at)
		}
		read := regexp.MustCompile(`Statistics: (\d+) bytes read`).FindStringSubmatch(p.Stderr())
		if read == nil || strings.Contains(p.Stderr(), "index") {
			t.Fatalf("ffprobe prints\n%s", p.Stderr())
		}
		if n, _ := strconv.Atoi(read[1]); int64(n) > r.Bytes/2 {
			t.Errorf("a seek to %s s reads %d bytes of %d", c.to, n, r.Bytes)
		}
	}
}

// TestPushRecording pushes a recording.
func TestPushRecording(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, dir := startRecording(t, harness.Options{})
	s.Push(sample.AV.File(t), "movie").WaitOK(patience)
	path := filepath.Join(dir, awaitRecording(t, s, "movie", "finished", 3.9, 2*time.Second).File)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the recording has mode %v, %v", info.Mode(), err)
	}
	viewer := watchRTMPEarly(t, s.RTMP("again"))
	p := push(t, s, path, "again")
	p.WaitOK(patience)
	if strings.Contains(p.Stderr(), "no sense") {
		t.Errorf("livego push prints\n%s", p.Stderr())
	}
	want, err := readFLV(t, path).Packets()
	if err != nil {
		t.Fatal(err)
	}
	check(t, "pushed recording", want, frames(t, viewer), mediacompare.Millisecond)
	awaitRecording(t, s, "again", "finished", 3.9, 2*time.Second)
}

// TestRecordingRepairedAfterKill kills the server while it records: ffprobe can read the file as it
// is, at most one second is missing, and the next start repairs the file and sends the event.
func TestRecordingRepairedAfterKill(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	program, o := startEventWebhook(t)
	s, dir := startRecording(t, o)
	src := load(t, sample.Small)
	push := src.push(s, t, "movie")
	awaitRecording(t, s, "movie", "recording", 3, patience)
	out := filepath.Join(t.TempDir(), "seen.flv")
	viewer := recordRTMP(t, s.RTMP("movie"), out)
	r := awaitRecording(t, s, "movie", "recording", 7, patience) // the start of the file was rewritten
	s.Kill()
	push.Wait(patience)
	viewer.Wait(patience)
	path := filepath.Join(dir, r.File)
	open := harness.StartProgram(t, "ffprobe", "-v", "error", "-show_streams", path)
	open.WaitOK(patience)
	if n := strings.Count(open.Stdout(), "[STREAM]"); n != 2 {
		t.Errorf("ffprobe finds %d streams in the unfinished file:\n%s", n, open.Stderr())
	}
	o.DataDir, o.Flags = s.DataDir, append(o.Flags, "--flv_archive", "--flv_dir="+dir)
	again := harness.Start(t, o)
	mended := awaitRecording(t, again, "movie", "finished", 0, 5*time.Second)
	if mended.File != r.File || mended.Reason != "mended" || math.Abs(ffprobeDuration(t, path)-mended.Duration) > 0.01 {
		t.Errorf("%+v, duration by ffprobe: %v s", mended, ffprobeDuration(t, path))
	}
	end := func(path string) mediacompare.Range { // returns the part of the source that is in the file
		got, err := readFLV(t, path).Packets()
		if err != nil {
			t.Fatal(err)
		}
		m, err := mediacompare.Compare(src.packets, got, mediacompare.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		return m.Video
	}
	recorded, seen := end(path), end(out)
	if missing := seen.First + seen.Len - recorded.First - recorded.Len; recorded.First != 0 || missing > 25 {
		t.Errorf("the file has the pictures %+v, a viewer received %+v", recorded, seen)
	}
	harness.Eventually(t, 10*time.Second, "events", func() error {
		if _, events, bad := program.received(); bad != nil || !strings.HasSuffix(events, "recording.finished live/movie") {
			return fmt.Errorf("%s, %v", events, bad)
		}
		return nil
	})
}

// TestRecordingClosedOnShutdown stops the server by SIGTERM while it records: the file is closed,
// and the event is sent.
func TestRecordingClosedOnShutdown(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	program, o := startEventWebhook(t)
	s, dir := startRecording(t, o)
	src := load(t, sample.Small)
	push := src.push(s, t, "movie")
	r := awaitRecording(t, s, "movie", "recording", 3, patience)
	running := s.API("/api/v1/recordings/" + r.ID)
	sofar, err := mediacompare.ReadFLV(bytes.NewReader(harness.Get(t, running+"/file")))
	if err == nil {
		_, err = sofar.Packets()
	}
	if err != nil {
		t.Errorf("download of the running recording: %v", err)
	}
	if resp, body := request(t, http.MethodDelete, running, nil); resp.StatusCode != http.StatusConflict {
		t.Errorf("DELETE of the running recording: %s %s", resp.Status, body)
	}
	s.Stop()
	push.Wait(patience)
	path := filepath.Join(dir, r.File)
	if duration := ffprobeDuration(t, path); duration < 3 {
		t.Errorf("the recording has a duration of %v s", duration)
	}
	packets, err := readFLV(t, path).Packets()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := mediacompare.Compare(src.packets, packets, mediacompare.Millisecond); err != nil || m.Video.First != 0 {
		t.Errorf("%+v, %v", m, err)
	}
	o.DataDir = s.DataDir // the next process sends its events
	harness.Start(t, o)
	harness.Eventually(t, 10*time.Second, "events", func() error {
		if _, events, bad := program.received(); bad != nil || !strings.Contains(events, "recording.finished live/movie") {
			return fmt.Errorf("%s, %v", events, bad)
		}
		return nil
	})
}

// TestRecordingsAreManaged lists, downloads and deletes a recording after a restart without
// flv_archive. A copy of it stays.
func TestRecordingsAreManaged(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, dir := startRecording(t, harness.Options{})
	s.Push(sample.AV.File(t), "movie").WaitOK(patience)
	before := awaitRecording(t, s, "movie", "finished", 3.9, 2*time.Second)
	content, err := os.ReadFile(filepath.Join(dir, before.File))
	if err != nil {
		t.Fatal(err)
	}
	s.Stop()
	own := filepath.Join(dir, "live", "best_1.flv")
	if err := os.WriteFile(own, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s = harness.Start(t, harness.Options{DataDir: s.DataDir, Flags: []string{"--flv_dir=" + dir, "--record_keep=1s"}})
	s.AwaitStderr(patience, func(log string) bool { return strings.Contains(log, "recording deleted") })
	if _, err := os.Stat(filepath.Join(dir, before.File)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("record_keep: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, before.File), content, 0o600); err != nil { // it is back from a backup
		t.Fatal(err)
	}
	s.Stop()
	s = harness.Start(t, harness.Options{DataDir: s.DataDir, Flags: []string{"--flv_dir=" + dir}})
	if after := awaitRecording(t, s, "movie", "finished", 0, 2*time.Second); after != before {
		t.Errorf("%+v, before %+v", after, before)
	}
	if _, err := recordingOf(t, s, "best"); err == nil {
		t.Error("a copy is listed")
	}
	path := s.API("/api/v1/recordings/" + before.ID)
	if got := harness.Get(t, path+"/file"); !bytes.Equal(got, content) {
		t.Errorf("the download has %d bytes, want %d", len(got), len(content))
	}
	resp, body := request(t, http.MethodGet, path+"/file",
		func(r *http.Request) { r.Header.Set("Range", "bytes=100-1099") })
	if resp.StatusCode != http.StatusPartialContent || body != string(content[100:1100]) {
		t.Errorf("a range: %s, %d bytes", resp.Status, len(body))
	}
	if duration := ffprobeDuration(t, path+"/file"); math.Abs(duration-before.Duration) > 0.01 {
		t.Errorf("ffprobe of the URL: %v s", duration)
	}
	for _, want := range []int{http.StatusNoContent, http.StatusNotFound} {
		if resp, body := request(t, http.MethodDelete, path, nil); resp.StatusCode != want {
			t.Errorf("%s %s, want %d", resp.Status, body, want)
		}
	}
	for file, want := range map[string]bool{filepath.Join(dir, before.File): false, own: true} {
		if _, err := os.Stat(file); (err == nil) != want {
			t.Errorf("%s exists: %v, want %v", file, err == nil, want)
		}
	}
}

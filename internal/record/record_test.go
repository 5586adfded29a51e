package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

var (
	movie = domain.Name{App: "live", Room: "movie"}
	avc   = &media.Track{Kind: media.Video, Codec: media.H264, Timescale: 90000,
		Config: []byte("\x01\x42\xC0\x0D\xFF\xE1\x00\x0A\x67\x42\xC0\x0D\xDA\x05" +
			"\x07\xEC\x04\x40\x01\x00\x04\x68\xCE\x0F\xC8")}
	lc = &media.Track{Kind: media.Audio, Codec: media.AAC, Timescale: 44100, SampleRate: 44100, Channels: 2,
		Config: []byte{0x12, 0x10}}
)

// A memDisk is a disk in memory.
type memDisk struct {
	mu           sync.Mutex
	files        map[string]*memFile
	freeFraction float64       // free share
	maxFileSize  int           // limit of a file in bytes; 0: none
	stall        chan struct{} // blocks writes until closed; nil: writes do not block
	blocked      int           // number of blocked writes
	sync         chan struct{} // blocks Sync until closed
	panicRoom    string        // writes to files of this room panic
}

type memFile struct {
	disk   *memDisk
	room   string
	data   []byte
	closed bool
}

func newMemDisk() *memDisk { return &memDisk{files: map[string]*memFile{}, freeFraction: 1} }

func (d *memDisk) create(name domain.Name, now time.Time) (file, string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := path.Join(name.App, fmt.Sprintf("%s_%d.flv", name.Room, now.Unix()))
	if d.files[p] != nil {
		return nil, "", fmt.Errorf("%s is there", p)
	}
	d.files[p] = &memFile{disk: d, room: name.Room}
	return d.files[p], p, nil
}

func (d *memDisk) remove(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, path)
}

func (d *memDisk) free() (free, size int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	const terabyte = 1 << 40
	return int64(d.freeFraction * terabyte), terabyte, nil
}

// set changes the disk under its lock.
func (d *memDisk) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// get returns the content of a file, which must be closed.
func (d *memDisk) get(t *testing.T, path string) []byte {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[path]
	if f == nil || !f.closed {
		t.Fatalf("%s is not there, or not closed", path)
	}
	return f.data
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	stall, panics := f.disk.stall, f.disk.panicRoom == f.room
	f.disk.mu.Unlock()
	if panics {
		panic("recording fails")
	}
	if stall != nil {
		f.disk.set(func() { f.disk.blocked++ })
		<-stall
		f.disk.set(func() { f.disk.blocked-- })
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	end, err := int(off)+len(b), error(nil)
	if room := f.disk.maxFileSize; room > 0 && end > room {
		end, err = room, &os.PathError{Op: "write", Path: "secret", Err: syscall.ENOSPC}
	}
	if end > len(f.data) {
		f.data = append(f.data, make([]byte, end-len(f.data))...)
	}
	return copy(f.data[min(int(off), end):end], b), err
}

func (f *memFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.data = f.data[:size]
	return nil
}

func (f *memFile) Sync() error {
	f.disk.mu.Lock()
	stall := f.disk.sync
	f.disk.mu.Unlock()
	if stall != nil {
		<-stall
	}
	return nil
}

func (f *memFile) Close() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.closed = true
	return nil
}

// A fixture is a running Recorder in a synctest bubble, with a publisher.
type fixture struct {
	*testing.T
	hub      *stream.Hub
	rec      *Recorder
	disk     *memDisk
	log      *bytes.Buffer
	finished []domain.Recording

	enc          *stream.Publisher
	video, audio *media.Track
	at           time.Duration // time of the publisher's next picture
	frame        int
}

// withRecorder runs f with a Recorder, and checks that it stops.
func withRecorder(t *testing.T, f func(s *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &fixture{T: t, hub: stream.NewHub(stream.Options{Hold: 20 * time.Second}), disk: newMemDisk(),
			log: new(bytes.Buffer), video: avc, audio: lc}
		var mu sync.Mutex
		limits := Limits{MinFree: Space{Percent: 2}}
		s.rec = New(s.hub, Options{Dir: t.TempDir(), Limits: limits, Finished: func(r domain.Recording) {
			mu.Lock()
			defer mu.Unlock()
			s.finished = append(s.finished, r)
		}, Log: slog.New(slog.NewTextHandler(s.log, nil))})
		s.rec.disk = s.disk
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.rec.Run(ctx)
		}()
		synctest.Wait()
		s.publish()
		f(s)
		s.hub.Close()
		s.rec.Drain(context.Background())
		stop()
		<-done
		for p, f := range s.disk.files {
			if !f.closed {
				t.Errorf("%s is not closed", p)
			}
		}
		if strings.Contains(s.log.String(), "secret") {
			t.Errorf("the log contains a path:\n%s", s.log)
		}
	})
}

func (s *fixture) publish() {
	s.Helper()
	var err error
	if s.enc, err = s.hub.Publish(s.Context(), movie, stream.PublishOptions{Proto: "test"}); err != nil {
		s.Fatal(err)
	}
}

// send publishes this much in real time, with a keyframe every second.
func (s *fixture) send(d time.Duration) {
	s.Helper()
	for range d / (40 * time.Millisecond) {
		v := &media.Frame{Track: s.video, DTS: s.at, PTS: s.at, Arrived: time.Now(),
			Payload: []byte{0, 0, 0, 3, 0x41, byte(s.frame), byte(s.frame >> 8)}}
		if s.frame%25 == 0 {
			v.RAP, v.Payload[4] = media.Keyframe, 0x65
		}
		a := &media.Frame{Track: s.audio, DTS: s.at, PTS: s.at, Arrived: time.Now(), RAP: media.Keyframe, Payload: []byte{1}}
		before := time.Now()
		for _, f := range []*media.Frame{v, a} {
			if err := s.enc.Write(f); err != nil {
				s.Fatal(err)
			}
		}
		if time.Since(before) != 0 {
			s.Fatal("Publisher.Write blocked")
		}
		s.frame, s.at = s.frame+1, s.at+40*time.Millisecond
		time.Sleep(40 * time.Millisecond)
	}
	synctest.Wait()
}

// pictures returns the numbers of the pictures in a file, and the times of the first and the
// last.
func (s *fixture) pictures(data []byte) (numbers []int, first, last time.Duration) {
	s.Helper()
	f, err := flv.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		s.Fatal(err)
	}
	for {
		m, err := f.Next()
		if err != nil {
			return numbers, first, last
		}
		if m.Track.Kind == media.Video {
			if numbers == nil {
				first = m.DTS
			}
			numbers, last = append(numbers, int(m.Payload[5])|int(m.Payload[6])<<8), m.DTS
		}
	}
}

// checkPictures checks that data has the pictures from, ..., to-1, the first at time 0.
func (s *fixture) checkPictures(data []byte, from, to int) {
	s.Helper()
	got, first, _ := s.pictures(data)
	if len(got) != to-from || got[0] != from || got[len(got)-1] != to-1 || first != 0 {
		s.Errorf("%d pictures, %v to %v, the first at %v; want %d to %d", len(got), got[0], got[len(got)-1], first, from,
			to-1)
	}
}

// only returns the only recording in this state.
func (s *fixture) only(state domain.RecordingState) domain.Recording {
	s.Helper()
	var found []domain.Recording
	for _, r := range slices.Concat(s.rec.current(), s.finished) {
		if r.State == state {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		s.Fatalf("%d recordings are %s, want 1: %+v, finished %+v", len(found), state, s.rec.current(), s.finished)
	}
	return found[0]
}

// TestReconnectContinuesFile records a stream that is lost, held and resumed, as one file. At any
// time less than a second is not yet written.
func TestReconnectContinuesFile(t *testing.T) {
	withRecorder(t, func(s *fixture) {
		start := time.Now()
		for range 10 {
			s.send(time.Second)
			r := s.only(domain.RecordingActive)
			if behind := s.at - r.Duration; behind >= time.Second {
				s.Errorf("%v are not in the file", behind)
			}
			if data := s.disk.files[r.File].data; int64(len(data)) != r.Bytes {
				s.Errorf("%d bytes, the list says %d", len(data), r.Bytes)
			}
		}
		s.enc.End(stream.Lost)
		time.Sleep(10 * time.Second)
		s.at = 0 // the timestamps start again
		video, audio := *avc, *lc
		s.video, s.audio = &video, &audio // with the same configuration
		s.publish()
		s.send(5 * time.Second)
		s.enc.End(stream.Clean)
		synctest.Wait()
		r := s.only(domain.RecordingFinished)
		if want := fmt.Sprintf("live/movie_%d.flv", r.Started.Unix()); r.File != want || r.Started.Sub(start) > time.Second {
			s.Errorf("%s, want %s", r.File, want)
		}
		s.checkPictures(s.disk.get(s.T, r.File), 0, 375)
		if r.Reason != domain.EndOfStream || r.Gaps != 0 || r.Duration < 15*time.Second ||
			r.Duration > 15100*time.Millisecond || len(s.finished) != 1 || s.finished[0] != r {
			s.Errorf("%+v, reported %+v", r, s.finished)
		}
		s.publish()
		s.frame = 0
		s.send(time.Second) // another session: another file
		s.only(domain.RecordingActive)
	})
}

// TestCodecChangeStartsNewFile records a stream that changes its video and, between two
// keyframes, its audio: each change starts a new file.
func TestCodecChangeStartsNewFile(t *testing.T) {
	withRecorder(t, func(s *fixture) {
		s.send(2 * time.Second)
		other, wide := *avc, *lc
		other.Config = append([]byte(nil), avc.Config...)
		other.Config[3] = 0x0E
		s.video = &other
		s.send(2400 * time.Millisecond)
		wide.Config = []byte{0x12, 0x08}
		s.audio = &wide
		s.send(2600 * time.Millisecond)
		s.enc.End(stream.Clean)
		synctest.Wait()
		if len(s.finished) != 3 || s.finished[0].Reason != domain.CodecChanged ||
			s.finished[1].Reason != domain.CodecChanged || s.finished[2].Reason != domain.EndOfStream {
			s.Fatalf("%+v", s.finished)
		}
		s.checkPictures(s.disk.get(s.T, s.finished[0].File), 0, 50)
		s.checkPictures(s.disk.get(s.T, s.finished[1].File), 50, 111) // including the picture beside the new audio
		last, first, _ := s.pictures(s.disk.get(s.T, s.finished[2].File))
		if len(last) != 50 || last[0] != 125 || first != 600*time.Millisecond || s.finished[2].Gaps != 1 {
			s.Errorf("the last file has %d pictures from %d, the first at %v: %+v", len(last), last[0], first, s.finished[2])
		}
		bytes := s.finished[0].Bytes + s.finished[1].Bytes + s.finished[2].Bytes
		if n := s.rec.Statistics(); n.Files[domain.CodecChanged] != 2 || n.Files[domain.EndOfStream] != 1 || n.Gaps != 1 ||
			n.Bytes != bytes || len(n.States) != 0 {
			s.Errorf("statistics %+v, want %d bytes", n, bytes)
		}
	})
}

// TestLongDiskStallLeavesGap stalls the disk for half a minute: the publisher is not delayed,
// nothing is kept outside of the ring, and the file has a gap.
func TestLongDiskStallLeavesGap(t *testing.T) {
	withRecorder(t, func(s *fixture) {
		s.send(3 * time.Second)
		stall := make(chan struct{})
		s.disk.set(func() { s.disk.stall = stall })
		s.send(30 * time.Second)
		if r := s.only(domain.RecordingStalled); r.Gaps != 0 {
			s.Errorf("%+v", r)
		}
		list, _, err := s.rec.List(s.Context(), domain.RecordingFilter{State: domain.RecordingStalled}, "", 10)
		if err != nil || len(list) != 1 || list[0].Name != movie {
			s.Errorf("listed: %+v, %v", list, err)
		}
		s.disk.set(func() { s.disk.stall = nil })
		close(stall)
		s.send(3 * time.Second)
		s.enc.End(stream.Clean)
		synctest.Wait()
		r := s.only(domain.RecordingFinished)
		got, _, last := s.pictures(s.disk.get(s.T, r.File))
		if r.Gaps != 1 || r.Error != "" || last != 36*time.Second-40*time.Millisecond ||
			!strings.Contains(s.log.String(), "has a gap") {
			s.Errorf("%+v, the last picture is at %v", r, last)
		}
		for i := range 75 {
			if got[i] != i || got[len(got)-1-i] != 899-i {
				s.Fatalf("pictures before or after the gap are missing: %v", got)
			}
		}
	})
}

// TestShortDiskStallLosesNothing stalls the disk for as long as the ring lasts.
func TestShortDiskStallLosesNothing(t *testing.T) {
	withRecorder(t, func(s *fixture) {
		s.send(3 * time.Second)
		stall := make(chan struct{})
		s.disk.set(func() { s.disk.stall = stall })
		s.send(4500 * time.Millisecond)
		s.disk.set(func() { s.disk.stall = nil })
		close(stall)
		s.send(time.Second)
		s.enc.End(stream.Clean)
		synctest.Wait()
		r := s.only(domain.RecordingFinished)
		s.checkPictures(s.disk.get(s.T, r.File), 0, 212)
		if r.Gaps != 0 {
			s.Errorf("%+v", r)
		}
	})
}

// TestDiskStallWhileClosing stalls the disk while a file is closed.
func TestDiskStallWhileClosing(t *testing.T) {
	withRecorder(t, func(s *fixture) {
		s.send(3 * time.Second)
		stall := make(chan struct{})
		s.disk.set(func() { s.disk.sync = stall })
		s.enc.End(stream.Clean)
		time.Sleep(stalledAfter)
		s.only(domain.RecordingStalled)
		close(stall)
		synctest.Wait()
		if r := s.only(domain.RecordingFinished); len(s.finished) != 1 || s.finished[0] != r {
			s.Errorf("%+v, reported %+v", r, s.finished)
		}
	})
}

// TestManyStreamsOnStalledDisk records more streams than there may be disk operations: the others
// wait without a thread each, and none has a gap.
func TestManyStreamsOnStalledDisk(t *testing.T) {
	withRecorder(t, func(s *fixture) {
		stall := make(chan struct{})
		s.disk.set(func() { s.disk.stall = stall })
		const more = 2 * maxDiskOps
		for i := range more {
			enc, err := s.hub.Publish(s.Context(), domain.Name{App: "live", Room: fmt.Sprint(i)},
				stream.PublishOptions{Proto: "test"})
			if err != nil {
				s.Fatal(err)
			}
			for at := range time.Duration(25) {
				at *= 40 * time.Millisecond
				for _, f := range []*media.Frame{{Track: avc, RAP: media.Keyframe, Payload: []byte{0, 0, 0, 1, 0x65}},
					{Track: lc, RAP: media.Keyframe, Payload: []byte{1}}} {
					f.DTS, f.PTS, f.Arrived = at, at, time.Now()
					if err := enc.Write(f); err != nil {
						s.Fatal(err)
					}
				}
			}
		}
		s.send(5 * time.Second)
		if s.disk.set(func() {}); s.disk.blocked != maxDiskOps {
			s.Errorf("%d disk operations, want %d", s.disk.blocked, maxDiskOps)
		}
		stalled := 0
		for _, r := range s.rec.current() {
			if r.State == domain.RecordingStalled {
				stalled++
			}
		}
		if stalled != more+1 {
			s.Errorf("%d recordings are stalled, want %d", stalled, more+1)
		}
		s.disk.set(func() { s.disk.stall = nil })
		close(stall)
		s.send(time.Second)
		s.hub.Close()
		synctest.Wait()
		if len(s.finished) != more+1 ||
			slices.ContainsFunc(s.finished,
				func(r domain.Recording) bool { return r.Gaps > 0 || r.Duration < 960*time.Millisecond }) {
			s.Errorf("reported %+v", s.finished)
		}
	})
}

// TestUnresponsiveDiskDoesNotBlockStop stops the server while the disk never responds.
func TestUnresponsiveDiskDoesNotBlockStop(t *testing.T) {
	withRecorder(t, func(s *fixture) {
		stall := make(chan struct{})
		s.disk.set(func() { s.disk.stall = stall })
		s.send(3 * time.Second)
		ctx, cancel := context.WithTimeout(s.Context(), 5*time.Second)
		defer cancel()
		s.hub.Close()
		before := time.Now()
		s.rec.Drain(ctx)
		var none sync.WaitGroup
		none.Add(1)
		s.rec.waitForClose(&none)
		if took := time.Since(before); took != 5*time.Second+closeTimeout {
			s.Errorf("waited %v", took)
		}
		none.Done()
		close(stall)
	})
}

// TestPanicEndsOnlyItsRecording makes the recorder of one stream panic at every write, as a hostile
// stream might. It is restarted three times and then off, until the stream starts again. The stream
// itself and the recording of another stream continue.
func TestPanicEndsOnlyItsRecording(t *testing.T) {
	withRecorder(t, func(s *fixture) {
		film := s.enc
		other, err := s.hub.Publish(s.Context(), domain.Name{App: "live", Room: "other"}, stream.PublishOptions{})
		if err != nil {
			s.Fatal(err)
		}
		s.send(2 * time.Second)
		s.only(domain.RecordingActive)
		s.disk.set(func() { s.disk.panicRoom = movie.Room })
		for range 10 {
			s.enc = film
			s.send(2 * time.Second)
			s.enc = other
			s.send(2 * time.Second)
		}
		if r := s.only(domain.RecordingActive); r.Name != other.Name() || r.Gaps != 0 {
			s.Errorf("%+v", r)
		}
		if in, _ := s.hub.Info(movie); !slices.Equal(in.Off, []string{"recorder"}) || in.Held {
			s.Errorf("the stream: %+v", in)
		}
		if n := len(s.disk.files); n != 1+4 {
			s.Errorf("%d files, want one of the other stream, and one for each attempt", n)
		}
		for name, f := range s.disk.files {
			if f.room == movie.Room && !f.closed {
				s.Errorf("%s is still open", name)
			}
		}
		if n := strings.Count(s.log.String(), "level=ERROR"); n != 2 {
			s.Errorf("%d errors in the log:\n%s", n, s.log)
		}

		s.disk.set(func() { s.disk.panicRoom = "" })
		film.End(stream.Clean)
		s.publish()
		s.frame = 0
		s.send(3 * time.Second)
		s.enc.End(stream.Clean)
		synctest.Wait()
		s.checkPictures(s.disk.get(s.T, s.only(domain.RecordingFinished).File), 0, 75)
		other.End(stream.Clean)
	})
}

// TestDiskFullAndRecovery fills the disk and frees space: at 3 % no file is started, at 5 %
// another one is.
func TestDiskFullAndRecovery(t *testing.T) {
	withRecorder(t, func(s *fixture) {
		s.send(3 * time.Second)
		r := s.only(domain.RecordingActive)
		s.disk.set(func() { s.disk.maxFileSize = int(r.Bytes) + 100 })
		s.send(3 * time.Second)
		full := s.only(domain.RecordingFinished)
		s.pictures(s.disk.get(s.T, full.File))
		if full.Reason != domain.DiskFailed || full.Error != "write: no space left on device" ||
			full.Duration < 2*time.Second || full.Bytes > r.Bytes+100 {
			s.Errorf("%+v", full)
		}
		for _, share := range []float64{0.01, 0.02, 0.04, 0.03} {
			s.disk.set(func() { s.disk.maxFileSize, s.disk.freeFraction = 0, share })
			s.send(10 * time.Second)
		}
		// One is for the write error, one for the free space.
		if n := strings.Count(s.log.String(), "cannot record the stream"); n != 2 {
			s.Errorf("logged %d times:\n%s", n, s.log)
		}
		if r := s.only(domain.RecordingWaiting); r.File != "" || !strings.Contains(r.Error, "3.0 % is free") {
			s.Errorf("%+v", r)
		}
		if n := s.rec.Statistics(); n.States[domain.RecordingWaiting] != 1 || n.Files[domain.DiskFailed] != 1 {
			s.Errorf("statistics %+v", n)
		}
		s.disk.set(func() { s.disk.freeFraction = 0.05 })
		s.send(10 * time.Second)
		r = s.only(domain.RecordingActive)
		if r.Error != "" || r.Duration < 4*time.Second || r.File == full.File {
			s.Errorf("%+v", r)
		}
		s.enc.End(stream.Clean)
		synctest.Wait()
		if _, first, _ := s.pictures(s.disk.get(s.T, r.File)); first != 0 || len(s.finished) != 2 {
			s.Errorf("the second file starts at %v; reported %+v", first, s.finished)
		}
	})
}

// TestLowSpaceEndsRecording ends a running recording when the free space falls below the floor: its
// file is complete, and the next one starts when two and a half times the floor is free.
func TestLowSpaceEndsRecording(t *testing.T) {
	withRecorder(t, func(s *fixture) {
		s.send(10 * time.Second)
		for _, share := range []float64{0.0199, 0.021, 0.049} {
			s.disk.set(func() { s.disk.freeFraction = share })
			s.send(10 * time.Second)
		}
		r := s.only(domain.RecordingFinished)
		if r.Reason != domain.DiskFull || !strings.Contains(r.Error, "2.0 % is free") || r.Duration < 9*time.Second ||
			r.Duration > 12*time.Second {
			s.Errorf("%+v", r)
		}
		data := s.disk.get(s.T, r.File)
		if i, err := flv.ReadFileInfo(bytes.NewReader(data), int64(len(data))); err != nil || !i.Complete ||
			i.Duration != r.Duration || i.Mark.Reason != "full" || i.Mark.Error != r.Error {
			s.Errorf("the file has %+v, %v", i, err)
		}
		s.only(domain.RecordingWaiting)
		s.disk.set(func() { s.disk.freeFraction = 0.051 })
		s.send(10 * time.Second)
		if r := s.only(domain.RecordingActive); r.Duration < 4*time.Second || r.Error != "" {
			s.Errorf("%+v", r)
		}
	})
}

// TestNearlyFullDiskStartsNoFile starts no file on a disk with less than 2 % free space, and
// keeps no empty file.
func TestNearlyFullDiskStartsNoFile(t *testing.T) {
	withRecorder(t, func(s *fixture) {
		s.disk.set(func() { s.disk.freeFraction, s.disk.maxFileSize = 0.019, 10 })
		s.enc.End(stream.Clean)
		s.publish()
		s.send(3 * time.Second)
		s.only(domain.RecordingWaiting)
		if len(s.disk.files) != 0 {
			s.Errorf("files: %v", s.disk.files)
		}
		s.disk.set(func() { s.disk.freeFraction = 1 })
		s.send(17 * time.Second) // an exceeded quota
		if r := s.only(domain.RecordingWaiting); len(s.disk.files) != 0 || len(s.finished) != 0 ||
			!strings.Contains(r.Error, "no space") {
			s.Errorf("%+v, files %v, reported %+v", r, s.disk.files, s.finished)
		}
		if n := strings.Count(s.log.String(), "msg="); n != 2 { // not one line for each attempt
			s.Errorf("the log has %d lines:\n%s", n, s.log)
		}
		s.enc.End(stream.Clean)
		time.Sleep(retryInterval)
		synctest.Wait()
		if list := s.rec.current(); len(list) != 0 {
			s.Errorf("%+v", list)
		}
	})
}

// TestDirectoryCreate creates files, removes them, and does not follow links out of the
// directory.
func TestDirectoryCreate(t *testing.T) {
	dir, elsewhere := filepath.Join(t.TempDir(), "a", "b"), t.TempDir()
	d, now := directory{dir, defaultMode}, time.Unix(1_900_000_000, 0)
	for _, want := range []string{"live/movie_1900000000.flv", "live/movie_1900000001.flv"} {
		f, path, err := d.create(movie, now)
		if err != nil || path != want {
			t.Fatalf("%s, %v, want %s", path, err, want)
		}
		if err := f.Sync(); err != nil {
			t.Error(err)
		}
		d.remove(path)
		if err := f.Sync(); !errors.Is(err, errRemoved) {
			t.Errorf("Sync of a removed file: %v", err)
		}
		f.Close()
		if err := os.WriteFile(filepath.Join(dir, path), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if free, size, err := d.free(); err != nil || free <= 0 || free > size {
		t.Errorf("%d of %d bytes are free, %v", free, size, err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(dir, "linked")); err != nil {
		t.Fatal(err)
	}
	if _, path, err := d.create(domain.Name{App: "linked", Room: "movie"}, now); err == nil {
		t.Errorf("created through a link: %s", path)
	}
	if in, err := os.ReadDir(elsewhere); err != nil || len(in) != 0 {
		t.Errorf("%v, %v", in, err)
	}
}

// TestParseFileName parses names of files.
func TestParseFileName(t *testing.T) {
	for _, c := range []struct {
		app, file, room string // room is "" for other files
	}{
		{"live", "movie_1900000000.flv", "movie"},
		{"live", "a_b_1.flv", "a_b"},
		{"live", "_1.flv", ""},
		{"live", "movie.flv", ""},
		{"live", "movie_1.mp4", ""},
		{"live", "movie_x.flv", ""},
		{"live", "movie_-1.flv", ""},
		{"live", ".._1.flv", ""},
		{"control", "movie_1.flv", ""},
	} {
		n, ok := parseFileName(c.app, c.file)
		if ok != (c.room != "") || ok && n.stream != (domain.Name{App: c.app, Room: c.room}) {
			t.Errorf("%s/%s: %v, %v", c.app, c.file, n, ok)
		}
		if back, err := parseID(domain.Recording{File: n.path}.ID()); ok && (err != nil || back != n) {
			t.Errorf("%s/%s: by its ID %v, %v", c.app, c.file, back, err)
		}
	}
}

// TestFileMode checks that new files and directories get the mode of the settings, regardless of
// the umask, and that existing ones keep theirs.
func TestFileMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no file modes on Windows")
	}
	for mode, wantDir := range map[fs.FileMode]fs.FileMode{0o600: 0o700, 0o640: 0o750, 0o644: 0o755, 0o666: 0o755} {
		dir := t.TempDir()
		old := filepath.Join(dir, "vod")
		if err := os.Mkdir(old, 0o711); err != nil {
			t.Fatal(err)
		}
		d := directory{dir, mode}
		for app, want := range map[string]fs.FileMode{"live": wantDir, "vod": 0o711} {
			f, path, err := d.create(domain.Name{App: app, Room: "movie"}, time.Unix(1_900_000_000, 0))
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			info, err := os.Stat(filepath.Join(dir, path))
			if err != nil || info.Mode().Perm() != mode {
				t.Errorf("%o: the file has %v, %v", mode, info.Mode(), err)
			}
			info, err = os.Stat(filepath.Join(dir, app))
			if err != nil || info.Mode().Perm()&^0o022 != want {
				t.Errorf("%o: the directory %s has %v, %v", mode, app, info.Mode(), err)
			}
		}
	}
}

// TestRepairAfterCrash repairs the files that a crash left, and changes no others.
func TestRepairAfterCrash(t *testing.T) {
	dir := t.TempDir()
	d, now := directory{dir, defaultMode}, time.Unix(1_900_000_000, 0)
	write := func(room string, cut int64) (file, string) {
		f, path, err := d.create(domain.Name{App: "live", Room: room}, now)
		if err != nil {
			t.Fatal(err)
		}
		w := &flv.FileWriter{Mark: flv.Mark{File: path, Started: now}}
		for i := range 5 { // written in as many pieces: the metadata covers the first only
			at := time.Duration(i) * time.Second
			w.Append(&media.Frame{Track: avc, DTS: at, RAP: media.Keyframe, Payload: []byte{0, 0, 0, 1, 0x65}})
			if err := w.Flush(f); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Truncate(w.Size() - cut); err != nil {
			t.Fatal(err)
		}
		return f, path
	}
	killed, mended := write("killed", 3)
	killed.Close()
	alive, writing := write("alive", 3) // written by another server
	defer alive.Close()
	nothing, empty := write("nothing", 200)
	if err := nothing.Truncate(20000); err != nil {
		t.Fatal(err)
	}
	nothing.Close()
	foreign := "live/foreign_1.flv"
	if err := os.WriteFile(filepath.Join(dir, foreign), flv.FileHeader(true, true), 0o600); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(t.TempDir(), "target")
	if err := os.Rename(filepath.Join(dir, mended), target); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(dir, "live", "link_1.flv")); err != nil {
		t.Fatal(err)
	}
	content := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	before := content(target)
	if err := os.WriteFile(filepath.Join(dir, mended), []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	aliveBefore := content(filepath.Join(dir, writing))
	var told []domain.Recording
	r := New(nil, Options{Dir: dir, Finished: func(r domain.Recording) { told = append(told, r) },
		Log: slog.New(slog.DiscardHandler)})
	r.repairFiles(t.Context())
	if info, err := os.Stat(filepath.Join(dir, mended)); err != nil ||
		runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the repaired file has %v, %v, want the mode that it had", info, err)
	}
	if len(told) != 1 || told[0].File != mended || told[0].Name.Room != "killed" || told[0].Reason != domain.AfterCrash ||
		told[0].Duration != 3*time.Second {
		t.Errorf("reported %+v", told)
	}
	if info, err := os.Stat(filepath.Join(dir, mended)); err != nil || info.Size() != told[0].Bytes ||
		content(filepath.Join(dir, mended)) == before[:info.Size()] {
		t.Errorf("%v, %v: the file was not repaired", info, err)
	}
	if content(target) != before || content(filepath.Join(dir, writing)) != aliveBefore ||
		content(filepath.Join(dir, foreign)) != string(flv.FileHeader(true, true)) {
		t.Error("a file that must not be repaired was changed")
	}
	if _, err := os.Stat(filepath.Join(dir, empty)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty file was not removed: %v", err)
	}
}

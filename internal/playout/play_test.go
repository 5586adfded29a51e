package playout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/container/flv"
)

const (
	avcC = "\x01\x42\xC0\x0D\xFF\xE1\x00\x15\x67\x42\xC0\x0D\xDA\x05\x07" +
		"\xEC\x04\x40\x00\x00\xFA\x40\x00\x3A\x98\x03\xC5\x0A\xA8\x01\x00\x04\x68\xCE\x0F\xC8"
	asc = "\x12\x10"
)

// writeFilm writes an FLV file with a picture every 40 ms, every 25th of them a keyframe, and an
// audio frame with each. Each frame contains its number.
func writeFilm(t testing.TB, length time.Duration) string {
	t.Helper()
	b := flv.FileHeader(true, true)
	b = flv.AppendTag(b, flv.TypeVideo, 0, []byte("\x17\x00\x00\x00\x00"+avcC))
	b = flv.AppendTag(b, flv.TypeAudio, 0, []byte("\xAF\x00"+asc))
	for i := range int(length / (40 * time.Millisecond)) {
		head, unit := "\x27\x01\x00\x00\x00\x00\x00\x00\x0A", byte(0x41)
		if i%25 == 0 {
			head, unit = "\x17\x01\x00\x00\x00\x00\x00\x00\x0A", 0x65
		}
		b = flv.AppendTag(b, flv.TypeVideo, uint32(40*i), fmt.Appendf(append([]byte(head), unit), "%09d", i))
		b = flv.AppendTag(b, flv.TypeAudio, uint32(40*i), fmt.Appendf([]byte("\xAF\x01"), "%09d", i))
	}
	path := filepath.Join(t.TempDir(), "film.flv")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A server records the messages sent to it, and fails when failAt says so.
type server struct {
	began      time.Time
	messages   []flv.Tag
	at         []time.Duration // arrival times since began
	failAt     int             // index of the message whose write fails; 0: none
	streamEnds int
	closed     int
}

func (s *server) Write(tag flv.Tag) error {
	if s.failAt > 0 && len(s.messages) >= s.failAt {
		s.failAt = 0
		return errors.New("connection reset")
	}
	s.messages = append(s.messages, tag)
	s.at = append(s.at, time.Since(s.began))
	return nil
}

func (s *server) Multitrack() bool { return false }

func (s *server) EndStream() error { s.streamEnds++; return nil }
func (s *server) Close() error     { s.closed++; return nil }

// pictures returns the numbers of the received pictures, and the difference between their arrival
// and their timestamp.
func (s *server) pictures() (numbers []string, off []time.Duration) {
	for i, m := range s.messages {
		if m.Type == flv.TypeVideo && m.Body[1] == 1 {
			numbers = append(numbers, strings.TrimLeft(string(m.Body[10:]), "0"))
			off = append(off, s.at[i]-time.Duration(m.Timestamp)*time.Millisecond)
		}
	}
	return numbers, off
}

// play publishes to a server in synctest's time.
func play(t *testing.T, o *Options, s *server, connect func(attempt int) error) (Result, error) {
	t.Helper()
	if o.Speed == 0 {
		o.Speed = 1
	}
	if _, err := Preflight(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	attempt := 0
	o.Connect = func(context.Context) (Sink, error) {
		attempt++
		if connect != nil {
			if err := connect(attempt); err != nil {
				return nil, err
			}
		}
		return s, nil
	}
	s.began = time.Now()
	return Play(t.Context(), o)
}

// checkHeaders checks that a connection starts with the headers of all tracks: servers admit viewers
// when all announced tracks have arrived.
func checkHeaders(t *testing.T, head []flv.Tag) {
	t.Helper()
	if !bytes.Contains(head[0].Body, []byte("videocodecid")) || !bytes.Contains(head[0].Body, []byte("audiocodecid")) ||
		string(head[1].Body) != "\x17\x00\x00\x00\x00"+avcC || string(head[2].Body) != "\xAF\x00"+asc {
		t.Errorf("the connection starts with %q, %q, %q", head[0].Body, head[1].Body, head[2].Body)
	}
}

// TestFramesAreSentOnTime plays ten minutes: each frame is sent sendAhead before it is due.
func TestFramesAreSentOnTime(t *testing.T) {
	path := writeFilm(t, 100*time.Second)
	for _, speed := range []float64{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{}
			result, err := play(t, &Options{Entries: []Entry{{Path: path}}, Times: 6, Speed: speed}, s, nil)
			if err != nil {
				t.Fatal(err)
			}
			checkHeaders(t, s.messages)
			_, off := s.pictures()
			if len(off) != 6*2500 || s.streamEnds != 1 || s.closed != 1 {
				t.Fatalf("%d pictures, %d stream ends, %d closed", len(off), s.streamEnds, s.closed)
			}
			for i, d := range off {
				if due := time.Duration(float64(i)*40/speed) * time.Millisecond; speed == 1 && d != 0 ||
					s.at[len(s.at)-1] < due-50*time.Millisecond {
					t.Fatalf("picture %d is off by %v", i, d)
				}
			}
			want := time.Duration(600 / speed * float64(time.Second))
			if (time.Since(s.began) - want).Abs() > 50*time.Millisecond {
				t.Errorf("it took %v, want %v", time.Since(s.began), want)
			}
			if result.Late > 0 || result.Early < sendAhead || result.Early > sendAhead+batchWindow ||
				result.Frames != 2*6*2500 || result.Sent < 599*time.Second {
				t.Errorf("%+v", result)
			}
		})
	}
}

// TestReconnectResumesAtKeyframe loses the server in the middle of a GOP. Nothing is missing: the
// new connection starts with the keyframe before it and continues in real time.
func TestReconnectResumesAtKeyframe(t *testing.T) {
	path := writeFilm(t, 4*time.Second)
	synctest.Test(t, func(t *testing.T) {
		const sent = 2 + 1 + 2*60 // headers and metadata, then 60 pictures with their audio
		s := &server{failAt: sent}
		var warned []string
		o := &Options{Entries: []Entry{{Path: path}}, Times: 1, Retry: time.Minute,
			Warn: func(text string) { warned = append(warned, text) }}
		result, err := play(t, o, s, func(attempt int) error {
			if 1 < attempt && attempt < 4 {
				return errors.New("connection refused")
			}
			return nil
		})
		if err != nil || result.Reconnects != 1 || len(warned) != 1 || !strings.Contains(warned[0], "connection reset") {
			t.Fatalf("%+v, %v, %q", result, err, warned)
		}
		numbers, _ := s.pictures()
		got := strings.Join(numbers[55:70], " ")
		if want := "55 56 57 58 59 50 51 52 53 54 55 56 57 58 59"; got != want &&
			!strings.HasPrefix(got, "55 56 57 58 59 60 50 51 52") {
			t.Errorf("%s", got)
		}
		if last := numbers[len(numbers)-1]; last != "99" {
			t.Errorf("the stream ends with picture %s", last)
		}
		checkHeaders(t, s.messages[sent:])
		// 0.5, 1 and 2 s between the attempts, and 0.4 s sent again.
		if took := time.Since(s.began); took < 7*time.Second || took > 9*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestReconnectSendsNewestHeaders loses the server after the audio of a file has changed: the new
// connection does not start with the header from before.
func TestReconnectSendsNewestHeaders(t *testing.T) {
	const tagHeaderSize, mono = 11, "\xAF\x00\x11\x88"
	path := writeFilm(t, 4*time.Second)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte("\xAF\x01000000025")) - tagHeaderSize
	b = slices.Insert(b, at, flv.AppendTag(nil, flv.TypeAudio, 1000, []byte(mono))...)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		const sent = 2 + 1 + 1 + 2*60 // with the second header of audio
		s := &server{failAt: sent}
		if _, err := play(t, &Options{Entries: []Entry{{Path: path}}, Times: 1, Retry: time.Minute}, s, nil); err != nil {
			t.Fatal(err)
		}
		if got := string(s.messages[sent+2].Body); got != mono {
			t.Errorf("the connection starts with the audio header %q", got)
		}
	})
}

func TestConnectErrorsEndPlayback(t *testing.T) {
	path := writeFilm(t, 4*time.Second)
	refused := errors.New("connection refused")
	for _, tt := range []struct {
		name  string
		retry time.Duration
		from  int // first attempt that fails
		took  time.Duration
	}{
		{"never reached", time.Minute, 1, 0},
		{"lost until the retry time ends", 10 * time.Second, 2, 16 * time.Second},
		{"no retry", 0, 2, time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{failAt: 50}
			began := time.Now()
			_, err := play(t, &Options{Entries: []Entry{{Path: path}}, Times: 1, Retry: tt.retry}, s, func(attempt int) error {
				if attempt >= tt.from {
					return refused
				}
				return nil
			})
			lost, isLost := errors.AsType[*LostError](err)
			if err == nil || isLost != (tt.from > 1) || tt.retry > 0 && !errors.Is(err, refused) {
				t.Errorf("%s: %v, %v", tt.name, err, lost)
			}
			if took := time.Since(began); took < tt.took-time.Second || took > tt.took+5*time.Second {
				t.Errorf("%s: it took %v, want %v", tt.name, took, tt.took)
			}
		})
	}
}

// TestInpointOutpointAndStart plays parts of a list: by inpoint and outpoint, and from a start
// position.
func TestInpointOutpointAndStart(t *testing.T) {
	path := writeFilm(t, 4*time.Second)
	for _, tt := range []struct {
		name        string
		o           Options
		first, last string
		n           int
	}{
		{"all", Options{Entries: []Entry{{Path: path}}}, "", "99", 100},
		{"in and out", Options{Entries: []Entry{{Path: path, In: time.Second, Out: 3 * time.Second}}}, "25", "74", 50},
		{"start in the second file", Options{Entries: []Entry{{Path: path}, {Path: path}}, Start: 6 * time.Second}, "50",
			"99", 50},
		{"start, then the list again", Options{Entries: []Entry{{Path: path}}, Start: 3 * time.Second, Times: 2}, "75", "99",
			125},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, o := &server{}, tt.o
			o.Times = max(o.Times, 1)
			if _, err := play(t, &o, s, nil); err != nil {
				t.Fatal(err)
			}
			numbers, off := s.pictures()
			if len(numbers) != tt.n || numbers[0] != tt.first || numbers[len(numbers)-1] != tt.last {
				t.Errorf("%s: %d pictures from %s to %s", tt.name, len(numbers), numbers[0], numbers[len(numbers)-1])
			}
			for i, d := range off {
				if d != 0 {
					t.Fatalf("%s: picture %d is off by %v", tt.name, i, d)
				}
			}
		})
	}
}

// TestPreflightReportsDifferences compares files before they are played.
func TestPreflightReportsDifferences(t *testing.T) {
	path := writeFilm(t, time.Second)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mono := filepath.Join(t.TempDir(), "mono.flv")
	if err := os.WriteFile(mono, bytes.Replace(b, []byte("\xAF\x00\x12\x10"), []byte("\xAF\x00\x11\x88"), 1),
		0o600); err != nil {
		t.Fatal(err)
	}
	o := &Options{Entries: []Entry{{Path: path}, {Path: mono}, {Path: path}}}
	differences, err := Preflight(t.Context(), o)
	if want := mono + " has 48000 Hz instead of 44100, 1 channels instead of 2"; err != nil || len(differences) != 1 ||
		differences[0] != want {
		t.Errorf("%q, %v, want %q", differences, err, want)
	}
}

// TestBlockedTerminalDoesNotDelayStream plays while the progress callback blocks: the stream
// continues.
func TestBlockedTerminalDoesNotDelayStream(t *testing.T) {
	path := writeFilm(t, 10*time.Second)
	synctest.Test(t, func(t *testing.T) {
		s, held := &server{}, make(chan struct{})
		time.AfterFunc(time.Minute, func() { close(held) })
		told := 0
		o := &Options{Entries: []Entry{{Path: path}}, Times: 1, Progress: func(Progress) { told++; <-held }}
		result, err := play(t, o, s, nil)
		if err != nil || result.Late > 0 || told != 2 {
			t.Errorf("%+v, %v, %d reports, want the first and the last", result, err, told)
		}
	})
}

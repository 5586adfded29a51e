package app

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"livego/internal/container/flv"
	"livego/internal/container/ts"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
)

// TestTimestampsOverSixtyDays publishes for sixty days, across the points at which a clock of some
// format wraps, and checks RTMP, FLV and MPEG-TS: each frame keeps the encoder's timestamp, and
// there is no discontinuity. Between these points it sends a few keyframes, with the largest gaps
// that are kept.
func TestTimestampsOverSixtyDays(t *testing.T) {
	const (
		days   = 60 * 24 * time.Hour
		dense  = 5 * time.Second // before and after an edge
		sparse = 9 * time.Second
	)
	edges := []time.Duration{
		0xffffff * time.Millisecond,                                  // 24 bits of RTMP and FLV: 4 h 39 m
		((1 << 33) * time.Second / 90000).Truncate(time.Millisecond), // PTS of MPEG-TS: 26 h 30 m
		(1 << 31) * time.Millisecond,                                 // 24.9 d, where a signed 32-bit clock ends
		(1 << 32) * time.Millisecond,                                 // 49.7 d
		days,
	}
	l := newLongRun(t)
	at := time.Duration(0)
	for _, edge := range edges {
		for ; at < edge-dense; at += min(sparse, edge-dense-at) {
			l.video(at, true)
		}
		l.dense = nil
		for n := 0; at < edge+dense; n++ {
			l.video(at, n%25 == 0)
			l.audio(at + 10*time.Millisecond)
			at += 40 * time.Millisecond
		}
		l.checkTS(edge)
	}
	if l.frames < 500_000 {
		t.Errorf("only %d frames were received", l.frames)
	}
}

// A longRun is an encoder and a viewer.
type longRun struct {
	t       *testing.T
	demux   flv.Demuxer
	pub     *stream.Publisher
	sub     *stream.Subscriber
	started time.Time
	frames  int
	dense   []*media.Frame // frames around the edge
}

func newLongRun(t *testing.T) *longRun {
	t.Helper()
	hub := stream.NewHub(stream.Options{})
	t.Cleanup(hub.Close)
	name := domain.Name{App: "live", Room: "movie"}
	pub, err := hub.Publish(context.Background(), name, stream.PublishOptions{Proto: "rtmp"})
	if err != nil {
		t.Fatal(err)
	}
	l := &longRun{t: t, pub: pub, started: time.Now()}
	avcC := "\x01\x42\xC0\x0D\xFF\xE1\x00\x0A\x67\x42\xC0\x0D\xDA\x05\x07\xEC\x04\x40\x01\x00\x04\x68\xCE\x0F\xC8"
	l.message(flv.TypeVideo, 0, []byte("\x17\x00\x00\x00\x00"+avcC))
	l.message(flv.TypeAudio, 0, []byte("\xaf\x00\x12\x10"))
	l.publish(flv.TypeVideo, 0, []byte("\x17\x01\x00\x00\x00\x00\x00\x00\x02\x65\x88"))
	l.publish(flv.TypeAudio, 0, []byte("\xaf\x01a"))
	l.sub, err = hub.Subscribe(context.Background(), name, stream.SubscribeOptions{Wait: time.Second, GOPs: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.sub.Leave)
	l.readFrames(0) // the first frames
	return l
}

// message passes a message to the demuxer, as the encoder sends it at that time.
func (l *longRun) message(typ uint8, at time.Duration, body []byte) []*media.Frame {
	l.t.Helper()
	fs, err := l.demux.Message(typ, uint32(at.Milliseconds()), body, l.started.Add(at))
	if err != nil {
		l.t.Fatalf("at %v: %v", at, err)
	}
	return fs
}

func (l *longRun) publish(typ uint8, at time.Duration, body []byte) {
	l.t.Helper()
	for _, f := range l.message(typ, at, body) {
		if err := l.pub.Write(f); err != nil {
			l.t.Fatalf("at %v: %v", at, err)
		}
	}
}

func (l *longRun) video(at time.Duration, key bool) {
	l.t.Helper()
	if at == 0 {
		return // already sent
	}
	body := []byte("\x27\x01\x00\x00\x00\x00\x00\x00\x02\x41\x9a")
	if key {
		body = []byte("\x17\x01\x00\x00\x00\x00\x00\x00\x02\x65\x88")
	}
	l.publish(flv.TypeVideo, at, body)
	l.readFrames(at)
}

func (l *longRun) audio(at time.Duration) {
	l.t.Helper()
	l.publish(flv.TypeAudio, at, []byte("\xaf\x01a"))
	l.readFrames(at)
}

// readFrames checks the frames that the viewer receives, which were sent at that time.
func (l *longRun) readFrames(at time.Duration) {
	l.t.Helper()
	var buf [4]*media.Frame
	n, err := l.sub.Poll(buf[:])
	if err != nil || n == 0 {
		l.t.Fatalf("at %v: %d frames: %v", at, n, err)
	}
	for _, f := range buf[:n] {
		l.frames++
		if f.DTS != at || f.PTS != at || f.Program.Discontinuity != 0 {
			l.t.Fatalf("the frame of %v has DTS %v, PTS %v, discontinuity %d", at, f.DTS, f.PTS, f.Program.Discontinuity)
		}
		want := uint32(at.Milliseconds())
		if got := l.rtmpTime(f); got != want {
			l.t.Fatalf("the frame of %v has the RTMP timestamp %d ms, want %d", at, got, want)
		}
		if got := l.flvTime(f); got != want {
			l.t.Fatalf("the frame of %v has the FLV timestamp %d ms, want %d", at, got, want)
		}
		l.dense = append(l.dense, f)
	}
}

// rtmpTime returns the timestamp of f on the wire: a type 0 chunk, with an extended timestamp if 24
// bits are too few (RTMP 1.0 section 5.3.1.3).
func (l *longRun) rtmpTime(f *media.Frame) uint32 {
	head, payload := flv.Dialect{}.TagBody(f)
	h := rtmp.Header{Type: flv.MessageType(f.Track.Kind), Timestamp: flv.Timestamp(f), StreamID: 1}
	wire := bytes.Join(rtmp.AppendMessage(nil, h, head, payload), nil)
	if wire[0]>>6 != 0 {
		l.t.Fatalf("a chunk of type %d", wire[0]>>6)
	}
	time := uint32(wire[1])<<16 | uint32(wire[2])<<8 | uint32(wire[3])
	if time == 0xffffff {
		time = binary.BigEndian.Uint32(wire[12:])
	}
	return time
}

func (l *longRun) flvTime(f *media.Frame) uint32 {
	l.t.Helper()
	tag := bytes.Join(flv.Dialect{}.EncodeTag(f), nil)
	r := flv.NewReader(io.MultiReader(bytes.NewReader(flv.FileHeader(true, true)), bytes.NewReader(tag)), 1<<10)
	got, err := r.Next()
	if err != nil {
		l.t.Fatal(err)
	}
	return got.Timestamp
}

// checkTS makes a segment of the frames around an edge and checks the timestamps of its PES
// packets, which count 90 kHz in 33 bits.
func (l *longRun) checkTS(edge time.Duration) {
	l.t.Helper()
	var video, audio *media.Track
	for _, f := range l.dense {
		if f.Track.Kind == media.Video {
			video = f.Track
		} else {
			audio = f.Track
		}
	}
	segment, left := ts.AppendSegment(nil, video, audio, l.dense)
	if left != 0 {
		l.t.Fatalf("around %v: %d frames were not muxed", edge, left)
	}
	last := map[int]int64{}
	steps := 0
	for ; len(segment) > 0; segment = segment[188:] {
		pid := int(segment[1]&0x1f)<<8 | int(segment[2])
		pts, err := pesTime(segment[:188])
		if err != nil {
			continue
		}
		if before, ok := last[pid]; ok {
			step := (pts - before) & (1<<33 - 1)
			if steps++; step == 0 || step > 90000/5 {
				l.t.Fatalf("around %v: PID %d goes from %d to %d", edge, pid, before, pts)
			}
		}
		last[pid] = pts
	}
	if len(last) != 2 || steps < 250 {
		l.t.Errorf("around %v: %d PIDs, %d steps", edge, len(last), steps)
	}
}

var errNoPES = errors.New("no PES packet begins here")

// pesTime returns the PTS of the PES packet that starts in an MPEG-TS packet (ISO/IEC 13818-1
// section 2.4.3.7).
func pesTime(packet []byte) (int64, error) {
	payload := packet[4:]
	if packet[3]&0x20 != 0 { // adaptation field
		payload = payload[1+payload[0]:]
	}
	if packet[1]&0x40 == 0 || len(payload) < 14 || !bytes.HasPrefix(payload, []byte{0, 0, 1}) || payload[7]&0x80 == 0 {
		return 0, errNoPES
	}
	p := payload[9:]
	return int64(p[0]>>1&7)<<30 | int64(p[1])<<22 | int64(p[2]>>1)<<15 | int64(p[3])<<7 | int64(p[4]>>1), nil
}

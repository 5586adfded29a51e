package bench

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"

	"livego/internal/container/amf0"
	"livego/internal/container/flv"
)

// An item is one message of a source.
type item struct {
	at   time.Duration // since the start of its cycle
	typ  uint8
	body []byte
	mark int    // offset of the marker; 0 for none
	sum  uint32 // checksum of the bytes after the marker
}

// A cycle is a list of messages that repeats.
type cycle struct {
	items  []item
	period time.Duration
}

// A source is what publishers send. It is shared by all of them and immutable.
type source struct {
	name   string
	header []item // sent once, first
	cycles []cycle
	fps    float64 // video frames per second
	bits   float64 // bit/s
}

// Limits of the built-in stream. Below the lowest bitrate there is no room for the macroblock types
// of a keyframe.
const (
	minBitrate      = 64_000
	maxBitrate      = 100_000_000
	maxAudioBitrate = 128_000
)

// synthesize returns the built-in stream: total bitrate in bit/s, frames per second, and keyframe
// interval.
func synthesize(bitrate, fps int, gop time.Duration) (*source, error) {
	frames := int(gop.Seconds()*float64(fps) + .5)
	switch {
	case bitrate < minBitrate || bitrate > maxBitrate:
		return nil, fmt.Errorf("invalid bitrate of %d kbit/s: it must be from %d to %d", bitrate/1000, minBitrate/1000,
			maxBitrate/1000)
	case fps < 1 || fps > 240:
		return nil, fmt.Errorf("invalid frame rate of %d/s: it must be from 1 to 240", fps)
	case frames < 2 || frames > 10*240:
		return nil, fmt.Errorf("invalid keyframe interval of %d frames: it must be from 2 to 2400", frames)
	}
	sound := min(maxAudioBitrate, bitrate/4)
	period := time.Duration(frames) * time.Second / time.Duration(fps)
	video := cycle{period: period}
	for i, p := range pictures(frames, int(float64(bitrate-sound)/8*period.Seconds())-frames*(markerSize+5)) {
		head := []byte{0x27, 1, 0, 0, 0} // inter frame, AVC, NAL units, composition time 0
		if i == 0 {
			head[0] = 0x17
		}
		at := time.Duration(i) * time.Second / time.Duration(fps)
		video.items = append(video.items, newMarked(at, append(head, p...), len(head)))
	}
	audio := cycle{period: audioFramePeriod, items: []item{{
		typ:  flv.TypeAudio,
		body: append([]byte{0xAF, 1}, audioFrame(int(float64(sound)/8*audioFramePeriod.Seconds())-2)...),
	}}}
	s := &source{name: "built-in", cycles: []cycle{video, audio}, fps: float64(fps)}
	s.header = []item{
		{typ: flv.TypeScriptData, body: metaData(bitrate, sound, fps)},
		{typ: flv.TypeVideo, body: append([]byte{0x17, 0, 0, 0, 0}, avcC(fps)...)},
		{typ: flv.TypeAudio, body: append([]byte{0xAF, 0}, audioConfig...)},
	}
	s.computeBitrate()
	return s, nil
}

// metaData returns onMetaData of the built-in stream, as encoders send it.
func metaData(bitrate, sound, fps int) []byte {
	return amf0.Append(nil, "onMetaData", amf0.ECMAArray{
		{Key: "width", Value: pictureWidth}, {Key: "height", Value: pictureHeight}, {Key: "framerate", Value: fps},
		{Key: "videodatarate", Value: float64(bitrate-sound) / 1000}, {Key: "videocodecid", Value: 7},
		{Key: "audiosamplerate", Value: sampleRate}, {Key: "audiosamplesize", Value: 16}, {Key: "stereo", Value: true},
		{Key: "audiodatarate", Value: float64(sound) / 1000}, {Key: "audiocodecid", Value: 10},
		{Key: "encoder", Value: "livego bench"},
	})
}

func newMarked(at time.Duration, body []byte, mark int) item {
	return item{at: at, typ: flv.TypeVideo, body: body, mark: mark, sum: crc32.Checksum(body[mark:], castagnoli)}
}

// maxFileTag is the largest message of a file that is sent, in bytes.
const maxFileTag = 8 << 20

// readSource reads a whole FLV file, to be played in a loop with continuous timestamps.
func readSource(path string) (*source, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s, err := parseSource(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.name = path
	return s, nil
}

func parseSource(file []byte) (*source, error) {
	s := &source{}
	c := cycle{}
	var first, last, lastVideo time.Duration
	frames, canMark := 0, true
	r := flv.NewReader(bytes.NewReader(file), maxFileTag)
	for {
		tag, err := r.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // some files are truncated
			break
		}
		if err != nil {
			return nil, err
		}
		if isHeader(tag.Type, tag.Body) || tag.Type == flv.TypeScriptData {
			if err := s.addHeader(tag); err != nil {
				return nil, err
			}
			canMark = canMark && (tag.Type != flv.TypeVideo || fourByteLengths(tag.Body))
			continue
		}
		at := time.Duration(tag.Timestamp) * time.Millisecond
		if len(c.items) == 0 {
			first = at
		}
		last = max(last, at)
		it := item{at: max(at-first, 0), typ: tag.Type, body: tag.Body}
		if tag.Type == flv.TypeVideo {
			frames, lastVideo = frames+1, at
			if b := tag.Body; canMark && len(b) > 5 && b[0]&0x8F == 7 && b[1] == 1 {
				it = newMarked(it.at, b, 5)
			}
		}
		c.items = append(c.items, it)
	}
	if len(c.items) < 2 || last <= first {
		return nil, errors.New("too few frames to play in a loop")
	}
	frame := 40 * time.Millisecond
	if frames > 1 && lastVideo > first {
		frame = (lastVideo - first) / time.Duration(frames-1)
	}
	c.period = last - first + frame
	s.cycles = []cycle{c}
	s.fps = float64(frames) / c.period.Seconds()
	s.computeBitrate()
	return s, nil
}

// addHeader adds a tag to the header. A second one of a kind must equal the first: a loop cannot
// return to an earlier configuration.
func (s *source) addHeader(t flv.Tag) error {
	for _, h := range s.header {
		if h.typ != t.Type {
			continue
		}
		if t.Type != flv.TypeScriptData && !bytes.Equal(h.body, t.Body) {
			return errors.New("the codec configuration changes: the file cannot be played in a loop")
		}
		return nil
	}
	s.header = append(s.header, item{typ: t.Type, body: t.Body})
	return nil
}

// isHeader reports whether a body is a codec configuration.
func isHeader(typ uint8, b []byte) bool {
	if len(b) < 2 {
		return false
	}
	switch {
	case typ == flv.TypeVideo && b[0]&0x80 != 0, typ == flv.TypeAudio && b[0]>>4 == 9: // FourCC form
		return b[0]&0xF == 0
	case typ == flv.TypeVideo:
		return (b[0]&0xF == 7 || b[0]&0xF == 12) && b[1] == 0
	case typ == flv.TypeAudio:
		return b[0]>>4 == 10 && b[1] == 0
	}
	return false
}

// fourByteLengths reports whether an H.264 configuration has NAL unit length fields of four bytes,
// as the marker has.
func fourByteLengths(header []byte) bool { return len(header) > 9 && header[9]&3 == 3 }

// computeBitrate sets the bitrate.
func (s *source) computeBitrate() {
	for _, c := range s.cycles {
		size := 0
		for _, it := range c.items {
			size += len(it.body)
			if it.mark > 0 {
				size += markerSize
			}
		}
		s.bits += 8 * float64(size) / c.period.Seconds()
	}
}

// A playhead is one publisher's position in a source.
type playhead struct {
	src  *source
	next []int // by cycle, the number of messages sent
}

func newPlayhead(s *source) *playhead { return &playhead{s, make([]int, len(s.cycles))} }

// due returns when the next message is due, since the start.
func (p *playhead) due() time.Duration {
	at, _ := p.peek()
	return at
}

// peek returns the time and the cycle of the next message.
func (p *playhead) peek() (at time.Duration, cycle int) {
	for i, c := range p.src.cycles {
		n := p.next[i]
		t := time.Duration(n/len(c.items))*c.period + c.items[n%len(c.items)].at
		if i == 0 || t < at {
			at, cycle = t, i
		}
	}
	return at, cycle
}

// advance returns the next message and its time since the start.
func (p *playhead) advance() (*item, time.Duration) {
	at, i := p.peek()
	items := p.src.cycles[i].items
	it := &items[p.next[i]%len(items)]
	p.next[i]++
	return it, at
}

// appendBody appends the body as it is sent now, with its marker if it has one.
func (it *item) appendBody(dst []byte, sent int64, seq uint32) []byte {
	if it.mark == 0 {
		return append(dst, it.body...)
	}
	dst = append(dst, it.body[:it.mark]...)
	dst = appendMarker(dst, marker{sent, seq, it.sum})
	return append(dst, it.body[it.mark:]...)
}

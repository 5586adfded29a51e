package hostile

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
)

// avcHeader is the body of a video message with an AVCDecoderConfigurationRecord: baseline, NAL
// unit lengths of four bytes, and minimal parameter sets.
var avcHeader = join([]byte{0x17, 0, 0, 0, 0},
	[]byte{1, 0x42, 0, 0x1e, 0xff, 0xe1, 0, 4, 0x67, 0x42, 0, 0x1e, 1, 0, 2, 0x68, 0xce})

// aacHeader is the body of an audio message with an AudioSpecificConfig: AAC-LC, 44.1 kHz, stereo.
var aacHeader = []byte{0xaf, 0, 0x12, 0x10}

// nal returns a NAL unit after its length.
func nal(b ...[]byte) []byte {
	unit := join(b...)
	return join(be32(uint32(len(unit))), unit)
}

// keyFrame returns the body of a video message with an IDR picture of that content.
func keyFrame(content []byte) []byte {
	return join([]byte{0x17, 1, 0, 0, 0}, nal([]byte{0x65}, content))
}

// interFrame returns the body of a video message with a picture that is not a keyframe.
func interFrame(content []byte) []byte {
	return join([]byte{0x27, 1, 0, 0, 0}, nal([]byte{0x41}, content))
}

// newKeyFrame sends a unique keyframe, and returns the body of its message.
func (p *peer) newKeyFrame() []byte {
	p.t.Helper()
	body := keyFrame(fmt.Appendf(nil, "%s, frame %d", p.room, p.sent))
	p.frame(body)
	return body
}

// frame sends the body of a video message, 40 ms after the last one.
func (p *peer) frame(body []byte) {
	p.t.Helper()
	p.send(p.video(body).Chunks(p.ChunkSize))
}

// video returns the message of the next frame.
func (p *peer) video(body []byte) message {
	p.time += 40
	p.sent++
	return message{CSID: 6, Type: video, StreamID: p.StreamID, Time: p.time, Payload: body}
}

// A viewer watches a room by HTTP-FLV.
type viewer struct {
	t    testing.TB
	r    *bufio.Reader
	head bool // the file header was read

	bodies [][]byte // all tag bodies that were read

	reconnect func() *viewer
}

// A tag is one tag of an FLV file.
type tag struct {
	typ  byte
	time uint32
	body []byte
}

// watch starts a viewer of a live room.
func (s *target) watch(t testing.TB, room string) *viewer {
	t.Helper()
	return s.watchAt(t, s.FLV(room))
}

// watchAt is watch for a URL.
func (s *target) watchAt(t testing.TB, url string) *viewer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longTimeout)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("watching %s: HTTP %d", url, resp.StatusCode)
	}
	return &viewer{t: t, r: bufio.NewReader(resp.Body), reconnect: func() *viewer { return s.watchAt(t, url) }}
}

// follow starts a viewer that has received the newest keyframe, so that it misses no later frame.
func (p *peer) follow() *viewer {
	p.t.Helper()
	body := p.newKeyFrame()
	v := p.on.watch(p.t, p.room)
	v.await(body)
	return v
}

// next returns the next tag.
func (v *viewer) next() (tag, error) {
	if !v.head {
		if _, err := v.r.Discard(9 + 4); err != nil {
			return tag{}, err
		}
		v.head = true
	}
	head := make([]byte, 11)
	if _, err := io.ReadFull(v.r, head); err != nil {
		return tag{}, err
	}
	got := tag{typ: head[0], time: be24(head[4:]) | uint32(head[7])<<24, body: make([]byte, be24(head[1:]))}
	if _, err := io.ReadFull(v.r, got.body); err != nil {
		return tag{}, err
	}
	var size [4]byte
	if _, err := io.ReadFull(v.r, size[:]); err != nil {
		return tag{}, err
	}
	if n := binary.BigEndian.Uint32(size[:]); n != uint32(11+len(got.body)) {
		return tag{}, fmt.Errorf("previous tag size %d after a body of %d bytes", n, len(got.body))
	}
	v.bodies = append(v.bodies, got.body)
	return got, nil
}

// await reads up to a tag with this body and returns it. If a track comes that the file header
// lacks, the server ends the viewer and it reconnects, as a player does, once for each kind of
// track.
func (v *viewer) await(body []byte) tag {
	v.t.Helper()
	var seen []string
	for ended := 0; ; {
		got, err := v.next()
		if errors.Is(err, io.EOF) && ended < 2 {
			ended++
			*v = *v.reconnect()
			continue
		}
		if err != nil {
			v.t.Fatalf("the viewer never got %.60q: %v; before it came %.60q", body, err, seen)
		}
		if bytes.Equal(got.body, body) {
			return got
		}
		seen = append(seen, string(got.body))
	}
}

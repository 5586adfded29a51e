package httpflv

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// Parts of a frame's head (RFC 6455 section 5.2).
const (
	finalFrame = 0x80 // first byte
	rsvBits    = 0x70
	opcodeBits = 0x0f
	maskedBit  = 0x80 // second byte
	lengthBits = 0x7f

	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10

	maxControl = 125 // bytes of a control frame (section 5.5)
)

// A closeError ends a WebSocket: with a close frame of the viewer, or because the viewer has
// violated a rule.
type closeError struct {
	code     int // of the reply
	reason   string
	byViewer bool
}

// Error implements error.
func (e *closeError) Error() string {
	if e.byViewer {
		return "the viewer closed the WebSocket"
	}
	return e.reason
}

func violation(code int, reason string) *closeError { return &closeError{code: code, reason: reason} }

// A frameReader parses the frames of a viewer, in pieces of any size. It holds at most one head, the
// payload of one control frame and one text message, which are short.
type frameReader struct {
	head    []byte // the incomplete head of a frame
	control []byte // payload of a control frame
	text    []byte // payload of a text message
	op      byte   // of the current frame
	final   bool   // it ends its message
	mask    [4]byte
	at      int  // position in the payload, for the mask
	left    int  // bytes of the payload that are missing
	inFrame bool // the head is complete
	message byte // opcode of the current message; 0 between messages
	size    int  // bytes of the current message
}

// A frameEvent is what a viewer has sent.
type frameEvent struct {
	op      byte   // opPing, opPong, or opText and opBinary for a complete message
	payload []byte // of a ping; valid until the next call
}

// next parses b up to the next event, and returns the rest of b. An event with opcode 0 means that b
// has been parsed without any.
func (r *frameReader) next(b []byte) (e frameEvent, rest []byte, err *closeError) {
	for {
		if !r.inFrame {
			for len(r.head) < headSize(r.head) {
				if len(b) == 0 {
					return frameEvent{}, nil, nil
				}
				r.head = append(r.head, b[0])
				b = b[1:]
			}
			if err := r.startFrame(); err != nil {
				return frameEvent{}, nil, err
			}
		}
		n := min(r.left, len(b))
		r.addPayload(b[:n])
		b = b[n:]
		if r.left > 0 {
			return frameEvent{}, nil, nil
		}
		r.inFrame, r.head = false, r.head[:0]
		if e, err := r.endFrame(); e.op != 0 || err != nil {
			return e, b, err
		}
	}
}

// headSize returns how long a head is, as far as its first bytes tell.
func headSize(head []byte) int {
	if len(head) < 2 {
		return 2
	}
	size := 2
	switch head[1] & lengthBits {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if head[1]&maskedBit != 0 {
		size += 4
	}
	return size
}

// startFrame checks the complete head.
func (r *frameReader) startFrame() *closeError {
	h := r.head
	r.op, r.final = h[0]&opcodeBits, h[0]&finalFrame != 0
	size := uint64(h[1] & lengthBits)
	isControl := r.op >= opClose
	switch {
	case h[0]&rsvBits != 0:
		return violation(websocket.CloseProtocolError, "invalid frame: RSV bit set")
	case h[1]&maskedBit == 0:
		return violation(websocket.CloseProtocolError, "invalid frame: not masked")
	case r.op > opPong || r.op > opBinary && r.op < opClose:
		return violation(websocket.CloseProtocolError, "invalid frame: reserved opcode")
	case isControl && (!r.final || size > maxControl):
		return violation(websocket.CloseProtocolError, "invalid control frame: fragmented or too long")
	case r.op == opContinuation && r.message == 0:
		return violation(websocket.CloseProtocolError, "invalid frame: continuation of no message")
	case (r.op == opText || r.op == opBinary) && r.message != 0:
		return violation(websocket.CloseProtocolError, "invalid frame: message in a message")
	}
	switch size {
	case 126:
		size = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		size = binary.BigEndian.Uint64(h[2:])
	}
	if !isControl {
		if r.op != opContinuation {
			r.message, r.size, r.text = r.op, 0, nil
		}
		if size > maxInbound-uint64(r.size) {
			return violation(websocket.CloseMessageTooBig, "message too long: more than 4096 bytes")
		}
		r.size += int(size)
	}
	copy(r.mask[:], h[len(h)-len(r.mask):])
	r.control, r.at, r.left, r.inFrame = r.control[:0], 0, int(size), true
	return nil
}

// addPayload adds a part of the payload.
func (r *frameReader) addPayload(b []byte) {
	r.left -= len(b)
	to := &r.control
	switch {
	case r.op < opClose && r.message == opText:
		to = &r.text
	case r.op < opClose: // binary messages have no use
		r.at += len(b)
		return
	}
	for _, c := range b {
		*to = append(*to, c^r.mask[r.at%len(r.mask)])
		r.at++
	}
}

// endFrame returns the event of a complete frame.
func (r *frameReader) endFrame() (frameEvent, *closeError) {
	switch r.op {
	case opPing:
		return frameEvent{opPing, r.control}, nil
	case opPong:
		return frameEvent{op: opPong}, nil
	case opClose:
		return frameEvent{}, closeReply(r.control)
	}
	if !r.final {
		return frameEvent{}, nil
	}
	e, valid := frameEvent{op: r.message}, r.message != opText || utf8.Valid(r.text)
	r.message, r.text = 0, nil
	if !valid {
		return frameEvent{}, violation(websocket.CloseInvalidFramePayloadData, "invalid text message: not UTF-8")
	}
	return e, nil
}

// closeReply returns the reply to a close frame with this payload (section 5.5.1).
func closeReply(payload []byte) *closeError {
	switch {
	case len(payload) == 0:
		return &closeError{code: websocket.CloseNoStatusReceived, byViewer: true}
	case len(payload) == 1:
		return violation(websocket.CloseProtocolError, "invalid close frame: 1 byte")
	}
	code := int(binary.BigEndian.Uint16(payload))
	switch {
	case !validCloseCode(code):
		return violation(websocket.CloseProtocolError, "invalid close code")
	case !utf8.Valid(payload[2:]):
		return violation(websocket.CloseProtocolError, "invalid close reason: not UTF-8")
	}
	return &closeError{code: code, byViewer: true}
}

// validCloseCode reports whether a viewer may send code (section 7.4).
func validCloseCode(code int) bool {
	return code >= websocket.CloseNormalClosure && code <= websocket.CloseUnsupportedData ||
		code >= websocket.CloseInvalidFramePayloadData && code <= websocket.CloseTryAgainLater ||
		code >= 3000 && code <= 4999
}

// appendClose appends a close frame with code and as much of reason as it holds.
func appendClose(b []byte, code int, reason string) []byte {
	if code == websocket.CloseNoStatusReceived {
		return appendFrameHead(b, opClose, 0)
	}
	reason = strings.ToValidUTF8(reason[:min(len(reason), maxControl-2)], "")
	b = appendFrameHead(b, opClose, 2+len(reason))
	return append(binary.BigEndian.AppendUint16(b, uint16(code)), reason...)
}

package bench

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A statusError is a response with another status than the expected one.
type statusError string

func (e statusError) Error() string { return fmt.Sprintf("HTTP response %q", string(e)) }

// A responseReader reads successive responses on a persistent connection, or one whose body may be
// endless.
type responseReader struct {
	stream  string // the status of an endless response; "" for successive ones
	head    []byte // a head that arrives in pieces
	inBody  bool   // reading the body
	left    int64  // bytes left of a body; -1: its length is unknown
	chunked *chunkedDecoder
	close   bool // the server closes after this response
}

// feed processes received bytes of one response, and passes its body to body in pieces. It reports
// whether the response is complete.
func (a *responseReader) feed(p []byte, body func([]byte) error) (whole bool, err error) {
	if !a.inBody {
		if p, err = a.readHead(p); err != nil || !a.inBody {
			return false, err
		}
	}
	if a.chunked != nil {
		if err := a.chunked.feed(p, body); !errors.Is(err, io.EOF) {
			return false, err
		}
		a.chunked, a.inBody = nil, false
		return true, nil
	}
	if a.left < 0 {
		return false, body(p)
	}
	if int64(len(p)) > a.left {
		return false, errors.New("invalid HTTP response: longer than its Content-Length")
	}
	if a.left -= int64(len(p)); a.left == 0 {
		a.inBody = false
	}
	if len(p) > 0 {
		err = body(p)
	}
	return a.left == 0, err
}

// started reports whether a part of the next response has been read.
func (a *responseReader) started() bool {
	return a.inBody || len(bytes.TrimLeft(a.head, "\r\n")) > 0 // a line end may be left of a chunked body
}

var endOfHead = []byte("\r\n\r\n")

// readHead reads the response head if it is complete, and returns what follows it.
func (a *responseReader) readHead(p []byte) ([]byte, error) {
	if len(a.head) > 0 || !bytes.HasPrefix(p, []byte("HTTP/1.1 ")) {
		a.head = append(a.head, p...)
		p = bytes.TrimLeft(a.head, "\r\n") // may be left of a chunked body
	}
	head, rest, found := bytes.Cut(p, endOfHead)
	if !found {
		if len(a.head) == 0 {
			a.head = append(a.head, p...)
		}
		if len(p) > maxHTTPHead {
			return nil, errors.New("HTTP response head too long")
		}
		return nil, nil
	}
	a.head, a.inBody = a.head[:0], true
	return rest, a.parseHead(head)
}

// parseHead parses a response head.
func (a *responseReader) parseHead(head []byte) error {
	line, fields, _ := bytes.Cut(head, []byte("\r\n"))
	status, ok := bytes.CutPrefix(line, []byte("HTTP/1.1 "))
	if !ok || !bytes.HasPrefix(status, []byte(cmp.Or(a.stream, "200"))) {
		return statusError(status)
	}
	a.left = -1
	for len(fields) > 0 {
		var field []byte
		field, fields, _ = bytes.Cut(fields, []byte("\r\n"))
		name, value, _ := bytes.Cut(field, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case is(name, "Content-Length"):
			n, err := strconv.ParseInt(string(value), 10, 62)
			if err != nil || n < 0 {
				return fmt.Errorf("invalid HTTP response: Content-Length %q", value)
			}
			a.left = n
		case is(name, "Transfer-Encoding") && is(value, "chunked"):
			a.chunked = &chunkedDecoder{}
		case is(name, "Connection") && is(value, "close"):
			a.close = true
		}
	}
	if a.left < 0 && a.chunked == nil && a.stream == "" {
		return errors.New("invalid HTTP response: unknown length")
	}
	return nil
}

// is compares without regard to case.
func is(b []byte, name string) bool { return len(b) == len(name) && strings.EqualFold(string(b), name) }

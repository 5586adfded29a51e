package http2

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// maxKeptFields is the most bytes of header fields that a connection keeps for comparison with the
// next request: players send the same ones in each.
const maxKeptFields = 2 << 10

// newRequest returns the request of f, and false if it is malformed (RFC 9113 section 8.1.1). The
// framer has checked the syntax of the fields, and the order of the pseudo-header fields.
func (c *Conn) newRequest(ctx context.Context, st *stream, f *h2.MetaHeadersFrame) (*http.Request, bool) {
	header, host, ok := c.parseFields(f.RegularFields())
	if !ok {
		return nil, false
	}
	authority := f.PseudoValue("authority")
	if authority != "" && host != "" && authority != host { // section 8.3.1
		return nil, false
	}
	if authority == "" {
		authority = host
	}
	method, scheme, target := f.PseudoValue("method"), f.PseudoValue("scheme"), f.PseudoValue("path")
	var u *url.URL
	switch {
	case f.PseudoValue("protocol") != "": // of RFC 8441, which is not offered
		return nil, false
	case method == http.MethodConnect: // section 8.5
		if authority == "" || scheme != "" || target != "" {
			return nil, false
		}
		u, target = &url.URL{Host: authority}, authority
	case method == "" || scheme != "http" && scheme != "https":
		return nil, false
	default:
		var err error
		if u, err = url.ParseRequestURI(target); err != nil {
			return nil, false
		}
	}
	r := (&http.Request{Method: method, URL: u, RequestURI: target, Host: authority, Header: header, TLS: c.tls,
		Proto: "HTTP/2.0", ProtoMajor: 2, RemoteAddr: c.remote, Body: http.NoBody}).WithContext(ctx)
	length, ok := contentLength(header)
	if !ok {
		return nil, false
	}
	if st.remoteClosed = f.StreamEnded(); st.remoteClosed {
		return r, length <= 0
	}
	r.Body, r.ContentLength, st.expected = body{st}, length, length
	return r, true
}

// contentLength returns the value of Content-Length; -1 if there is none. It reports false if it is
// invalid.
func contentLength(h http.Header) (int64, bool) {
	v := h["Content-Length"]
	if len(v) == 0 {
		return -1, true
	}
	n, err := strconv.ParseUint(v[0], 10, 63)
	return int64(n), err == nil && len(v) == 1
}

// parseFields returns the header of fields without Host, and the host. The header is shared with the
// request before if that had the same fields. It reports false for fields that must not be in a
// request (RFC 9113 section 8.2.2).
func (c *Conn) parseFields(fields []hpack.HeaderField) (header http.Header, host string, ok bool) {
	if c.header != nil && slices.Equal(fields, c.fields) {
		return c.header, c.host, true
	}
	c.fields, c.header = nil, nil
	header = make(http.Header, len(fields))
	size := 0
	for _, f := range fields {
		size += len(f.Name) + len(f.Value)
		switch f.Name {
		case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
			return nil, "", false
		case "te":
			if f.Value != "trailers" {
				return nil, "", false
			}
		case "host":
			if host != "" {
				return nil, "", false
			}
			host = f.Value
			continue
		}
		key := http.CanonicalHeaderKey(f.Name)
		header[key] = append(header[key], f.Value)
	}
	if cookies := header["Cookie"]; len(cookies) > 1 { // section 8.2.3
		header["Cookie"] = []string{strings.Join(cookies, "; ")}
	}
	if size <= maxKeptFields {
		c.fields, c.header, c.host = fields, header, host
	}
	return header, host, true
}

// tooLarge answers a request whose header is too large.
var tooLarge = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
	_, _ = io.WriteString(w, "<h1>HTTP Error 431</h1><p>Request Header Field(s) Too Large</p>") // as net/http does
})

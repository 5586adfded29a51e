package http1

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// Line ends and known words of a head. These variables are never modified.
var (
	endOfHead = []byte("\r\n\r\n")
	endOfLine = []byte("\r\n")
	version   = []byte(" HTTP/1.1")
	methods   = [...]string{http.MethodGet, http.MethodHead}
)

// looksLikeRequest reports whether b, the start of a head, can become one that parse accepts. Any
// other is passed to net/http at once, which may have a response before the head is complete.
func looksLikeRequest(b []byte) bool {
	line, rest, complete := bytes.Cut(b, endOfLine)
	if complete {
		if _, _, ok := requestLine(line); !ok {
			return false
		}
	} else if !hasMethodPrefix(line) {
		return false
	}
	for {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			return bytes.IndexByte(line, '\n') < 0
		}
		if i < 2 || rest[i-1] != '\r' { // LF without CR, or the end of the head
			return false
		}
		rest = rest[i+1:]
	}
}

// hasMethodPrefix reports whether b starts with one of methods, or is the start of one.
func hasMethodPrefix(b []byte) bool {
	for _, m := range methods {
		n := min(len(b), len(m))
		if string(b[:n]) == m[:n] && (len(b) <= n || b[n] == ' ') {
			return true
		}
	}
	return false
}

// requestLine parses the first line of a head (RFC 9112 section 3), without its line end. The
// target must be a path and a query in ASCII.
func requestLine(line []byte) (method string, target []byte, ok bool) {
	line, ok = bytes.CutSuffix(line, version)
	if !ok {
		return "", nil, false
	}
	for _, m := range methods {
		if len(line) > len(m) && string(line[:len(m)]) == m && line[len(m)] == ' ' {
			method, target = m, line[len(m)+1:]
		}
	}
	if len(target) == 0 || target[0] != '/' {
		return "", nil, false
	}
	for _, b := range target {
		if b <= ' ' || b >= 0x7f {
			return "", nil, false
		}
	}
	return method, target, true
}

// parse parses head into c.req. It reports false for any request that is not plain, which net/http
// then serves. Those that it accepts are parsed as http.ReadRequest does.
func (c *conn) parse(head []byte) bool {
	if bytes.Index(head, endOfHead) != len(head)-len(endOfHead) { // none, or more than one request
		return false
	}
	line, lines, _ := bytes.Cut(head, endOfLine)
	method, target, ok := requestLine(line)
	if !ok {
		return false
	}
	if c.fields == nil || !bytes.Equal(lines, c.rawFields) {
		fields, host, ok := parseFields(lines[:len(lines)-len(endOfLine)])
		if !ok {
			return false
		}
		c.fields, c.host, c.rawFields = fields, host, append(c.rawFields[:0], lines...)
	}
	r := c.req
	r.Method, r.RequestURI, r.Host, r.Header = method, string(target), c.host, c.fields
	return c.parseTarget()
}

// parseTarget parses the request target into c.req.URL, as url.ParseRequestURI does. Most paths have
// nothing to unescape.
func (c *conn) parseTarget() bool {
	uri := c.req.RequestURI
	path, query, found := strings.Cut(uri, "?")
	for i := range len(path) {
		if !isAlphanumeric(path[i]) && strings.IndexByte("/-_.~", path[i]) < 0 {
			u, err := url.ParseRequestURI(uri)
			c.req.URL = u
			return err == nil
		}
	}
	c.url = url.URL{Path: path, RawQuery: query, ForceQuery: found && query == ""}
	c.req.URL = &c.url
	return true
}

// parseFields parses header fields, each with its line end (RFC 9112 section 5). It reports false
// for fields that affect the framing of the message or the connection, and for those that net/http
// might refuse.
func parseFields(lines []byte) (fields http.Header, host string, ok bool) {
	fields = make(http.Header)
	for len(lines) > 0 {
		var line []byte
		line, lines, _ = bytes.Cut(lines, endOfLine)
		name, value, found := bytes.Cut(line, []byte(":"))
		if !found || !isToken(name) || !isPlain(value) {
			return nil, "", false
		}
		key, text := textproto.CanonicalMIMEHeaderKey(string(name)), string(bytes.Trim(value, " \t"))
		switch key {
		case "Host":
			if host != "" || !isHost(text) {
				return nil, "", false
			}
			host = text
			continue
		case "Connection":
			if !strings.EqualFold(text, "keep-alive") || fields[key] != nil {
				return nil, "", false
			}
		case "Content-Length", "Transfer-Encoding", "Trailer", "Expect", "Upgrade", "Http2-Settings":
			return nil, "", false
		}
		fields[key] = append(fields[key], text)
	}
	// As net/http does, for requests of HTTP/1.0 caches.
	if p := fields["Pragma"]; len(p) > 0 && p[0] == "no-cache" && fields["Cache-Control"] == nil {
		fields["Cache-Control"] = []string{"no-cache"}
	}
	return fields, host, host != ""
}

// isToken reports whether b is a token (RFC 9110 section 5.6.2).
func isToken(b []byte) bool {
	for _, c := range b {
		if !isAlphanumeric(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return len(b) > 0
}

// isPlain reports whether b is a field value in ASCII (RFC 9110 section 5.5).
func isPlain(b []byte) bool {
	for _, c := range b {
		if (c < ' ' || c >= 0x7f) && c != '\t' {
			return false
		}
	}
	return true
}

// isHost reports whether s has only the characters of common hosts, with a port or without.
func isHost(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && strings.IndexByte("-.:[]_", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

package hls

import (
	"net/http"
	"net/url"
	"strings"

	"livego/internal/live"
)

// isPrivate reports whether all of name takes a session, which the gate gives at the multivariant playlist.
func (s *Server) isPrivate(name live.Name) bool { return s.opt.Private != nil && s.opt.Private(name) }

// checkSession refuses who asks for a piece of a private stream without a session of it.
func (s *Server) checkSession(r *http.Request, name live.Name) error {
	if _, ok := s.audience.open(r.URL.Query().Get("s"), name); !ok {
		return live.Errorf(live.Denied, "this takes a session: start at %s%s", name, playlistExt)
	}
	return nil
}

// withSession returns playlist with the session put to each address: of lines that are one, and of attributes URI="...".
func withSession(playlist []byte, session string) []byte {
	query := "s=" + url.QueryEscape(session)
	var out strings.Builder
	for line := range strings.Lines(string(playlist)) {
		text := strings.TrimRight(line, "\r\n")
		switch {
		case text == "":
		case text[0] != '#':
			text = addQuery(text, query)
		default:
			if before, rest, ok := strings.Cut(text, `URI="`); ok {
				if uri, after, ok := strings.Cut(rest, `"`); ok {
					text = before + `URI="` + addQuery(uri, query) + `"` + after
				}
			}
		}
		out.WriteString(text + "\n")
	}
	return []byte(out.String())
}

func addQuery(uri, query string) string {
	if strings.Contains(uri, "?") {
		return uri + "&" + query
	}
	return uri + "?" + query
}

package rtmp

import (
	"net/url"
	"slices"

	"livego/internal/container/flv"
	"livego/internal/live"
	"livego/internal/media"
	"livego/internal/rtmp"
)

// dialectOf returns what a player wants otherwise than everybody: by the query behind the name, or by what he can do.
func dialectOf(req *rtmp.Request) flv.Dialect {
	q, _ := url.ParseQuery(req.Query) // which rtmp has put together
	return flv.Dialect{
		Tracks: req.CapsEx&rtmp.CapsMultitrack != 0 || q.Get("tracks") == "all",
		HEVC12: q.Get("hevc") == "12",
	}
}

// ordinary reports whether the player gets whatever the stream has in the form that everybody gets.
func (ss *session) ordinary() bool {
	return ss.dialect == flv.Dialect{} && ss.req.StreamID == sharedStream &&
		takes(ss.req.VideoCodecs, "*") && takes(ss.req.AudioCodecs, "*")
}

// check returns why the player cannot be sent t, nil where he can: he is refused only what his own list of codecs lacks.
func (ss *session) check(t *media.Track) error {
	codecs := ss.req.VideoCodecs
	if t.Kind == media.Audio {
		codecs = ss.req.AudioCodecs
	}
	if code := ss.dialect.Needs(t); code != "" && !takes(codecs, code) {
		return live.Errorf(live.Invalid, "the stream has %v (%s), which is not among the codecs that this player listed", t.Codec, code)
	}
	return nil
}

// takes reports whether who listed codecs can be sent what code names. Who listed none can be sent everything.
func takes(codecs []string, code string) bool {
	return codecs == nil || slices.Contains(codecs, "*") || slices.Contains(codecs, code)
}

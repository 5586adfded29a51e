package rtmp

import (
	"net/url"
	"slices"

	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/proto/rtmp"
)

// dialectOf returns what a player wants otherwise than everybody: by the query behind the name, or by what he can do.
func dialectOf(req *rtmp.Request) flv.Dialect {
	q, _ := url.ParseQuery(req.Query) // which rtmp has put together
	return flv.Dialect{
		Multitrack: req.CapsEx&rtmp.CapsMultitrack != 0 || q.Get("tracks") == "all",
		LegacyHEVC: q.Get("hevc") == "12",
	}
}

// usesDefaultForm reports whether the player gets whatever the stream has in the form that everybody gets.
func (ss *session) usesDefaultForm() bool {
	return ss.dialect == flv.Dialect{} && ss.req.StreamID == defaultStreamID &&
		acceptsCodec(ss.req.VideoCodecs, "*") && acceptsCodec(ss.req.AudioCodecs, "*")
}

// checkCodec returns why the player cannot be sent t, nil where he can: he is refused only what his
// own list of codecs lacks.
func (ss *session) checkCodec(t *media.Track) error {
	codecs := ss.req.VideoCodecs
	if t.Kind == media.Audio {
		codecs = ss.req.AudioCodecs
	}
	if code := ss.dialect.RequiredFourCC(t); code != "" && !acceptsCodec(codecs, code) {
		return domain.Errorf(domain.Invalid, "the stream has %v (%s), which is not among the codecs that this player listed",
			t.Codec, code)
	}
	return nil
}

// acceptsCodec reports whether who listed codecs can be sent what code names. Who listed none can be sent everything.
func acceptsCodec(codecs []string, code string) bool {
	return codecs == nil || slices.Contains(codecs, "*") || slices.Contains(codecs, code)
}

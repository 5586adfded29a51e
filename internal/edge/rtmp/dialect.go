package rtmp

import (
	"net/url"
	"slices"

	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/proto/rtmp"
)

// dialectOf returns the dialect that a player asks for, by the query of the stream name or by its
// capabilities.
func dialectOf(req *rtmp.Request) flv.Dialect {
	q, _ := url.ParseQuery(req.Query) // encoded by the rtmp package
	return flv.Dialect{
		Multitrack: req.CapsEx&rtmp.CapsMultitrack != 0 || q.Get("tracks") == "all",
		LegacyHEVC: q.Get("hevc") == "12",
	}
}

// usesDefaultForm reports whether the player can be sent the default form of any stream.
func (ss *session) usesDefaultForm() bool {
	return ss.dialect == flv.Dialect{} && ss.req.StreamID == defaultStreamID &&
		acceptsCodec(ss.req.VideoCodecs, "*") && acceptsCodec(ss.req.AudioCodecs, "*")
}

// checkCodec returns an error if the player cannot be sent t, because its list of codecs lacks the
// codec of t.
func (ss *session) checkCodec(t *media.Track) error {
	codecs := ss.req.VideoCodecs
	if t.Kind == media.Audio {
		codecs = ss.req.AudioCodecs
	}
	if code := ss.dialect.RequiredFourCC(t); code != "" && !acceptsCodec(codecs, code) {
		return domain.Errorf(domain.Invalid, "codec not supported by the player: %v (%s)", t.Codec, code)
	}
	return nil
}

// acceptsCodec reports whether a player with this list of codecs can be sent the codec with the
// FourCC code. Nil is a player that listed none, and can be sent all.
func acceptsCodec(codecs []string, code string) bool {
	return codecs == nil || slices.Contains(codecs, "*") || slices.Contains(codecs, code)
}

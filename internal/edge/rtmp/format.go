package rtmp

import (
	"net/url"
	"slices"
	"strings"

	"livego/internal/container/flv"
	"livego/internal/deliver/fanout"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/proto/rtmp"
)

// A format is how a stream is sent to players: RTMP chunks in a dialect, on a message stream. A
// player is not sent what its lists of codecs lack.
type format struct {
	dialect      flv.Dialect
	streamID     uint32
	video, audio codecList
}

// formatOf returns the format that a player asks for, by the query of the stream name or by its
// capabilities.
func formatOf(req *rtmp.Request) format {
	q, _ := url.ParseQuery(req.Query) // encoded by the rtmp package
	return format{
		dialect: flv.Dialect{
			Multitrack: req.CapsEx&rtmp.CapsMultitrack != 0 || q.Get("tracks") == "all",
			LegacyHEVC: q.Get("hevc") == "12",
		},
		streamID: req.StreamID, video: newCodecList(req.VideoCodecs), audio: newCodecList(req.AudioCodecs),
	}
}

// A codecList is the FourCCs of the codecs that a player can be sent, sorted and separated by
// spaces; anyCodec for all.
type codecList string

const anyCodec codecList = "*"

// newCodecList returns the list of a player. Nil is a player that listed none, and can be sent all.
func newCodecList(codecs []string) codecList {
	if codecs == nil || slices.Contains(codecs, string(anyCodec)) {
		return anyCodec
	}
	return codecList(strings.Join(slices.Compact(slices.Sorted(slices.Values(codecs))), " "))
}

func (l codecList) accepts(code string) bool {
	return l == anyCodec || slices.Contains(strings.Split(string(l), " "), code)
}

// check returns an error if a player cannot be sent t, because its list of codecs lacks the codec of
// t.
func (f format) check(t *media.Track) error {
	codecs := f.video
	if t.Kind == media.Audio {
		codecs = f.audio
	}
	if code := f.dialect.RequiredFourCC(t); code != "" && !codecs.accepts(code) {
		return domain.Errorf(domain.Invalid, "codec not supported by the player: %v (%s)", t.Codec, code)
	}
	return nil
}

// NewEncoder implements fanout.Format.
func (f format) NewEncoder() fanout.Encoder {
	return &encoder{format: f, pre: flv.Preamble{Dialect: f.dialect}}
}

// AllTracks implements fanout.Format.
func (f format) AllTracks() bool { return f.dialect.Multitrack }

// An encoder encodes a stream as RTMP chunks.
type encoder struct {
	format
	pre  flv.Preamble
	tags []flv.Tag
}

// StartHeader implements fanout.Encoder. It returns onMetaData and the sequence headers.
func (e *encoder) StartHeader(f *media.Frame, program *media.Program) []byte {
	return slices.Concat(e.appendTags(nil, e.dialect.Preamble(f, program))...)
}

// ResumeHeader implements fanout.Encoder.
func (e *encoder) ResumeHeader(f *media.Frame, program *media.Program) []byte {
	return e.StartHeader(f, program)
}

// AppendFrames implements fanout.Encoder. It fails for a codec that the players did not list.
func (e *encoder) AppendFrames(parts [][]byte, frames []*media.Frame, program *media.Program) ([][]byte, error) {
	for _, f := range frames {
		if !e.pre.Ready(f) {
			if err := e.check(f.Track); err != nil {
				return parts, err
			}
			// players that start here have the first ones from StartHeader
			e.tags = e.pre.AppendChanges(e.tags[:0], f, program)
			parts = e.appendTags(parts, e.tags)
		}
		head, payload := e.dialect.TagBody(f)
		h := rtmp.Header{Type: flv.MessageType(f.Track.Kind), Timestamp: flv.Timestamp(f), StreamID: e.streamID}
		parts = rtmp.AppendMessage(parts, h, head, payload)
	}
	return parts, nil
}

func (f format) appendTags(parts [][]byte, tags []flv.Tag) [][]byte {
	for _, t := range tags {
		parts = rtmp.AppendMessage(parts, rtmp.Header{Type: t.Type, Timestamp: t.Timestamp, StreamID: f.streamID}, t.Body)
	}
	return parts
}

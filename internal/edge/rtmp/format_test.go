package rtmp

import (
	"strings"
	"testing"

	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/proto/rtmp"
)

func TestFormat(t *testing.T) {
	common := format{streamID: 1, video: anyCodec, audio: anyCodec} // that of most players
	for _, tt := range []struct {
		req      rtmp.Request
		want     flv.Dialect
		isCommon bool
	}{
		{rtmp.Request{StreamID: 1}, flv.Dialect{}, true},
		{rtmp.Request{StreamID: 1, Query: "token=x&tracks=1&hevc=13", CapsEx: rtmp.CapsReconnect | rtmp.CapsModEx},
			flv.Dialect{}, true},
		{rtmp.Request{StreamID: 2}, flv.Dialect{}, false},
		{rtmp.Request{StreamID: 1, Query: "hevc=12"}, flv.Dialect{LegacyHEVC: true}, false},
		{rtmp.Request{StreamID: 1, Query: "token=x&tracks=all"}, flv.Dialect{Multitrack: true}, false},
		{rtmp.Request{StreamID: 1, CapsEx: rtmp.CapsMultitrack}, flv.Dialect{Multitrack: true}, false},
		{rtmp.Request{StreamID: 1, VideoCodecs: []string{"*"}, AudioCodecs: []string{"Opus", "*"}}, flv.Dialect{}, true},
		{rtmp.Request{StreamID: 1, VideoCodecs: []string{"hvc1"}}, flv.Dialect{}, false},
		{rtmp.Request{StreamID: 1, AudioCodecs: []string{}}, flv.Dialect{}, false},
	} {
		if got := formatOf(&tt.req); got.dialect != tt.want || (got == common) != tt.isCommon {
			t.Errorf("%+v: %+v", tt.req, got)
		}
	}
}

// TestCheckCodec: a track is refused only if it needs a FourCC that the player's list lacks.
func TestCheckCodec(t *testing.T) {
	track := func(k media.Kind, c media.Codec) *media.Track { return &media.Track{Kind: k, Codec: c} }
	hevc, opus, h264 := track(media.Video, media.HEVC), track(media.Audio, media.Opus), track(media.Video, media.H264)
	second := &media.Track{ID: 1, Kind: media.Video, Codec: media.H264}
	for _, tt := range []struct {
		name    string
		req     rtmp.Request
		track   *media.Track
		refused bool
	}{
		{"no list", rtmp.Request{}, hevc, false},
		{"listed", rtmp.Request{VideoCodecs: []string{"av01", "hvc1"}}, hevc, false},
		{"not listed", rtmp.Request{VideoCodecs: []string{"av01"}}, hevc, true},
		{"none listed", rtmp.Request{VideoCodecs: []string{}}, hevc, true},
		{"any codec", rtmp.Request{VideoCodecs: []string{"*"}}, hevc, false},
		{"a list of the other kind", rtmp.Request{VideoCodecs: []string{"av01"}}, opus, false},
		{"audio not listed", rtmp.Request{AudioCodecs: []string{"fLaC"}}, opus, true},
		{"legacy form without a FourCC", rtmp.Request{VideoCodecs: []string{"av01"}}, h264, false},
		{"legacy codec ID of HEVC", rtmp.Request{VideoCodecs: []string{"av01"}, Query: "hevc=12"}, hevc, false},
		{"a second track needs a FourCC", rtmp.Request{VideoCodecs: []string{"av01"}, CapsEx: rtmp.CapsMultitrack}, second,
			true},
		{"data", rtmp.Request{VideoCodecs: []string{}, AudioCodecs: []string{}}, track(media.Data, media.ScriptData), false},
	} {
		err := formatOf(&tt.req).check(tt.track)
		if (err != nil) != tt.refused || tt.refused && !strings.Contains(domain.Reason(err), flv.FourCC(tt.track.Codec)) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// Package fmp4 encodes media.Frames as fragmented MP4 (ISO/IEC 14496-12) in the form that HLS
// requires: CMAF (ISO/IEC 23000-19), except that audio and video share a file. An init segment
// depends on its tracks only and a fragment on its frames only, so every server encodes the same
// bytes; a segment is the concatenation of its parts. The package knows neither playlists nor HTTP,
// and it does not read MP4.
//
// Sample entries:
//
//	codec      sample entry, its box, clause                    Track.Config
//	H.264      avc1 avcC  ISO/IEC 14496-15 5.4.2                AVCDecoderConfigurationRecord, with SPS and PPS
//	HEVC       hvc1 hvcC  ISO/IEC 14496-15 8.4.1                HEVCDecoderConfigurationRecord
//	AV1        av01 av1C  AV1 in ISOBMFF 2.2 and 2.3            AV1CodecConfigurationRecord
//	VP9        vp09 vpcC  VP Codec ISO Media File Format        VPCodecConfigurationRecord; version and flags optional
//	AAC        mp4a esds  ISO/IEC 14496-14 5.6, type 0x40       AudioSpecificConfig
//	MP3        mp4a esds  type 0x6B from 32 kHz on, else 0x69   none
//	Opus       Opus dOps  Opus in ISOBMFF 4.3                   OpusHead
//	FLAC       fLaC dfLa  FLAC in ISOBMFF 3.3                   "fLaC" and metadata blocks, STREAMINFO first
//	AC-3       ac-3 dac3  ETSI TS 102 366 F.3 and F.4           content of AC3SpecificBox
//	E-AC-3     ec-3 dec3  ETSI TS 102 366 F.5 and F.6           content of EC3SpecificBox
//
// Track IDs follow from kind and ID: 1 is the first video track, 2 the first audio track, 3 the
// second video track and so on. So they do not depend on which other tracks there are, or when a
// viewer joins.
//
// There are no edit lists: decoding times are those of the stream, and a composition time before
// its decoding time is a negative offset (trun version 1). So the encoder delay of audio (1024
// samples of AAC, the pre-skip that dOps repeats) is not cut off but stays in the stream, whose
// timestamps count it. Nor are there 'roll' sample groups, which say how much audio a decoder needs
// before its output is exact (a frame of AAC, 80 ms of Opus): HLS players start at segments and
// play from there.
package fmp4

import (
	"errors"
	"fmt"

	"livego/internal/codec/aac"
	"livego/internal/codec/h264"
	"livego/internal/codec/h265"
	"livego/internal/media"
)

// maxConfig is the largest configuration that is accepted. Real ones have some hundred bytes.
const maxConfig = 1 << 20

// Carries reports whether frames of t can be put into fragmented MP4.
func Carries(t *media.Track) bool { return check(t) == nil }

// check returns why t cannot be carried, nil if it can.
func check(t *media.Track) error {
	err := checkConfig(t)
	switch {
	case err != nil:
		return fmt.Errorf("fmp4: %s: %w", t.Codec, err)
	case t.Timescale == 0:
		return fmt.Errorf("fmp4: %s: no timescale", t.Codec)
	case t.Kind == media.Audio && (t.SampleRate <= 0 || t.Channels <= 0):
		return fmt.Errorf("fmp4: %s: unknown sample rate or channel count", t.Codec)
	}
	return nil
}

var (
	errNoSampleEntry = errors.New("no sample entry for this codec")
	errMalformed     = errors.New("malformed configuration")
)

// checkConfig validates the codec of t, and as much of its configuration as the sample entry
// depends on.
func checkConfig(t *media.Track) error {
	b := t.Config
	if len(b) > maxConfig || t.Kind != kindOf(t.Codec) {
		return errNoSampleEntry
	}
	ok := true
	switch t.Codec {
	case media.H264:
		c, err := h264.ParseConfig(b)
		if err != nil {
			return err
		}
		ok = len(c.SPS) > 0 && len(c.PPS) > 0 // avc1 has them nowhere else
	case media.HEVC:
		_, err := h265.ParseConfig(b)
		return err
	case media.AV1:
		ok = len(b) >= 4 && b[0] == 0x81 // marker and version
	case media.VP9:
		ok = len(vpcRecord(b)) >= 8
	case media.AAC:
		_, err := aac.ParseConfig(b)
		return err
	case media.Opus:
		ok = checkOpusHead(b)
	case media.FLAC:
		ok = len(b) >= 8+streamInfo && string(b[:4]) == "fLaC" && b[4]&0x7F == 0
	case media.AC3:
		ok = len(b) == 3
	case media.EAC3:
		ok = len(b) >= 5
	}
	if !ok {
		return errMalformed
	}
	return nil
}

// kindOf returns the kind of tracks for which c has a sample entry, 0 if it has none.
func kindOf(c media.Codec) media.Kind {
	switch c {
	case media.H264, media.HEVC, media.AV1, media.VP9:
		return media.Video
	case media.AAC, media.MP3, media.Opus, media.FLAC, media.AC3, media.EAC3:
		return media.Audio
	}
	return 0
}

// trackID returns t's track_ID: odd for video, even for audio.
func trackID(t *media.Track) uint32 {
	id := 2*uint32(t.ID) + 1
	if t.Kind == media.Audio {
		id++
	}
	return id
}

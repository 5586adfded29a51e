package mediacompare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/asticode/go-astits"
)

// ReadTS reads the units of an MPEG-TS file or segment with H.264, H.265, AAC in ADTS and MP3, for
// comparison with FLVFile.DecoderUnits. Each segment is read separately, because a segment of HLS
// must be decodable on its own. The units are grouped by kind, not interleaved.
func ReadTS(data []byte) (Stream, error) {
	if len(data) == 0 || len(data)%astits.MpegTsPacketSize != 0 {
		return nil, fmt.Errorf("ts: %d bytes are not a whole number of packets", len(data))
	}
	kinds := map[uint16]astits.StreamType{}
	var s Stream
	dmx := astits.NewDemuxer(context.Background(), bytes.NewReader(data),
		astits.DemuxerOptPacketSize(astits.MpegTsPacketSize))
	for {
		d, err := dmx.NextData()
		if errors.Is(err, astits.ErrNoMorePackets) || errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("ts: %w", err)
		}
		if d.PMT != nil {
			for _, es := range d.PMT.ElementaryStreams {
				kinds[es.ElementaryPID] = es.StreamType
			}
		}
		if d.PES == nil {
			continue
		}
		typ, ok := kinds[d.PID]
		if !ok {
			return nil, fmt.Errorf("ts: data on PID %d before the PMT lists it", d.PID)
		}
		units, err := pesUnits(typ, d)
		if err != nil {
			return nil, fmt.Errorf("ts: PID %d: %w", d.PID, err)
		}
		s = append(s, units...)
	}
	// At the end, the demuxer returns the pending units in no particular order of PIDs.
	return slices.Concat(s.Of(Video), s.Of(Audio)), nil
}

func pesUnits(typ astits.StreamType, d *astits.DemuxerData) (Stream, error) {
	opt := d.PES.Header.OptionalHeader
	if opt == nil || opt.PTS == nil {
		return nil, errors.New("PES packet without a PTS")
	}
	pts := clockTime(opt.PTS)
	dts := pts
	if opt.DTS != nil {
		dts = clockTime(opt.DTS)
	}
	if dts > pts {
		return nil, fmt.Errorf("DTS %v after PTS %v", dts, pts)
	}
	if af := d.FirstPacket.AdaptationField; af != nil && af.HasPCR && clockTime(af.PCR) > dts {
		return nil, fmt.Errorf("PCR %v after DTS %v", clockTime(af.PCR), dts)
	}
	switch typ {
	case astits.StreamTypeH264Video:
		return parsePicture(d.PES.Data, dts, pts, false)
	case astits.StreamTypeH265Video:
		return parsePicture(d.PES.Data, dts, pts, true)
	case astits.StreamTypeADTS:
		return parseADTS(d.PES.Data, pts)
	case astits.StreamTypeMPEG1Audio, astits.StreamTypeMPEG2Audio:
		return parseMPEGAudio(d.PES.Data, pts)
	}
	return nil, fmt.Errorf("unsupported stream type %#x", uint8(typ))
}

func clockTime(c *astits.ClockReference) time.Duration {
	return time.Duration(c.Base) * time.Second / 90000
}

// parsePicture reads an access unit in Annex B form.
func parsePicture(data []byte, dts, pts time.Duration, hevc bool) (Stream, error) {
	var nals [][]byte
	start := bytes.Index(data, []byte{0, 0, 1})
	if start < 0 || len(bytes.Trim(data[:start], "\x00")) > 0 {
		return nil, errors.New("the picture does not start with a start code")
	}
	for _, n := range bytes.Split(data[start+3:], []byte{0, 0, 1}) {
		nals = append(nals, bytes.TrimRight(n, "\x00"))
	}
	delimiter, firstKey, lastKey := byte(9), byte(5), byte(5)
	if hevc {
		delimiter, firstKey, lastKey = 35, 16, 21
	}
	if len(nals[0]) == 0 || nalType(nals[0], hevc) != delimiter {
		return nil, errors.New("the picture does not start with an access unit delimiter")
	}
	key := slices.ContainsFunc(nals, func(n []byte) bool {
		return len(n) > 0 && nalType(n, hevc) >= firstKey && nalType(n, hevc) <= lastKey
	})
	size, digest := pictureSum(nals, hevc)
	return Stream{{Kind: Video, Key: key, DTS: dts, PTS: pts, Size: size, Sum: digest}}, nil
}

// parseADTS reads the raw AAC frames of a PES packet; each frame after the first starts at the end
// of the one before it.
func parseADTS(data []byte, pts time.Duration) (Stream, error) {
	rates := [...]int64{96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}
	var s Stream
	for len(data) > 0 {
		if len(data) < 7 || data[0] != 0xff || data[1]&0xf6 != 0xf0 {
			return nil, errors.New("missing ADTS header")
		}
		header := 7
		if data[1]&1 == 0 {
			header = 9 // with a CRC
		}
		n := int(data[3]&3)<<11 | int(data[4])<<3 | int(data[5])>>5
		if n < header || n > len(data) {
			return nil, errors.New("truncated ADTS frame")
		}
		rate := int(data[2] >> 2 & 0xf)
		if rate >= len(rates) {
			return nil, fmt.Errorf("invalid ADTS sampling frequency index %d", rate)
		}
		raw := data[header:n]
		if channels := data[2]&1<<2 | data[3]>>6; channels == 0 && len(raw) > 0 && raw[0]>>5 == 5 {
			var err error
			if raw, err = skipPCE(raw); err != nil {
				return nil, err
			}
		}
		at := pts + time.Duration(len(s))*1024*time.Second/time.Duration(rates[rate])
		s = append(s, Unit{Kind: Audio, Key: true, DTS: at, PTS: at, Size: len(raw), Sum: md5Hex(raw)})
		data = data[n:]
	}
	return s, nil
}

// skipPCE returns the data after the program config element at the start of a raw_data_block
// (ISO/IEC 14496-3 4.4.1.1). ADTS without a channel configuration has the layout there, in some
// frames or in all, where FLV has it in the AudioSpecificConfig. The element ends at a byte
// boundary.
func skipPCE(raw []byte) ([]byte, error) {
	pos := 0
	bits := func(n int) (v int) {
		for range n {
			if pos/8 < len(raw) {
				v = v<<1 | int(raw[pos/8]>>(7-pos%8)&1)
			}
			pos++
		}
		return v
	}
	bits(3 + 4 + 2 + 4) // element, instance, profile, rate
	front, side, back, lfe, assoc, cc := bits(4), bits(4), bits(4), bits(2), bits(3), bits(4)
	for _, n := range []int{4, 4, 3} { // mono, stereo, matrix mixdown
		if bits(1) == 1 {
			bits(n)
		}
	}
	bits(5*(front+side+back) + 4*(lfe+assoc) + 5*cc)
	pos = (pos + 7) &^ 7
	comment := bits(8)
	if pos/8+comment > len(raw) {
		return nil, errors.New("truncated program config element")
	}
	return raw[pos/8+comment:], nil
}

// parseMPEGAudio reads frames of MPEG audio layer III.
func parseMPEGAudio(data []byte, pts time.Duration) (Stream, error) {
	kbps := [2][15]int64{
		{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160}, // MPEG-2
		{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320},
	}
	rates := [3]int64{44100, 48000, 32000}
	at := pts
	var s Stream
	for len(data) > 0 {
		if len(data) < 4 || data[0] != 0xff || data[1]&0xe6 != 0xe2 || data[2]>>4 == 15 || data[2]>>2&3 == 3 {
			return nil, errors.New("missing header of MPEG audio layer III")
		}
		rate, samples, mpeg1 := rates[data[2]>>2&3], int64(1152), 1
		switch data[1] >> 3 & 3 {
		case 2: // MPEG-2
			rate, samples, mpeg1 = rate/2, 576, 0
		case 0: // MPEG-2.5
			rate, samples, mpeg1 = rate/4, 576, 0
		}
		n := int(samples/8*kbps[mpeg1][data[2]>>4]*1000/rate) + int(data[2]>>1&1)
		if n < 4 || n > len(data) {
			return nil, errors.New("truncated frame of MPEG audio layer III")
		}
		s = append(s, Unit{Kind: Audio, Key: true, DTS: at, PTS: at, Size: n, Sum: md5Hex(data[:n])})
		at += time.Duration(samples) * time.Second / time.Duration(rate)
		data = data[n:]
	}
	return s, nil
}

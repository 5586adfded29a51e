package flv

import (
	"livego/internal/container/amf0"
	"livego/internal/media"
)

// maxChannels is how many channels a MultichannelConfig may have: more than any sound has, the 22.2
// of SMPTE ST 2036-2 included.
const maxChannels = 64

// Orders of channels in a MultichannelConfig (AudioChannelOrder).
const (
	orderUnspecified = 0
	orderNative      = 1 // a mask of speakers
	orderCustom      = 2 // a speaker a channel
)

// checkMultichannelConfig looks whether a MultichannelConfig makes sense. It goes no further: all
// codecs that we know tell of their channels themselves, and ffmpeg takes one for a frame of no
// bytes.
func checkMultichannelConfig(b []byte) error {
	if len(b) < 2 {
		return errShort
	}
	size, channels := 2, int(b[1])
	if channels == 0 || channels > maxChannels {
		return skip("%d channels", channels)
	}
	switch b[0] {
	case orderUnspecified:
	case orderNative:
		size += 4
	case orderCustom:
		size += channels
	default:
		return unsupported("channel order %d", b[0])
	}
	if len(b) < size {
		return errShort
	}
	return nil
}

// colorInfo is the one name that Metadata packets of video have. Its value is an object of objects
// of numbers, or nothing, which takes back what was said before.
const colorInfo = "colorInfo"

// A number of a colorInfo, and the bounds of what makes sense.
type colorNumber struct {
	key         string
	least, most float64
}

// colorGroups are the parts of a colorInfo (Enhanced RTMP, Metadata Frame). The bounds are a little
// wider than there, where they are those of a standard that displays outgrow.
var colorGroups = []struct {
	key     string
	numbers []colorNumber
}{
	{"colorConfig", []colorNumber{
		{"bitDepth", 1, 16}, {"colorPrimaries", 0, 255}, {"transferCharacteristics", 0, 255}, {"matrixCoefficients", 0, 255},
	}},
	{"hdrCll", []colorNumber{{"maxFall", 0, 1e5}, {"maxCLL", 0, 1e5}}},
	{"hdrMdcv", []colorNumber{
		{"redX", 0, 1}, {"redY", 0, 1}, {"greenX", 0, 1}, {"greenY", 0, 1}, {"blueX", 0, 1}, {"blueY", 0, 1},
		{"whitePointX", 0, 1}, {"whitePointY", 0, 1}, {"maxLuminance", 0, 1e5}, {"minLuminance", 0, 1e5},
	}},
}

// cleanColorMetadata returns the Metadata packet of video that says what is known and sane of b,
// nil where that is nothing.
func cleanColorMetadata(b []byte) ([]byte, error) {
	if len(b) > maxScript {
		return nil, skipFor(media.SkipMetadata, "metadata of %d bytes", len(b))
	}
	values, err := amf0.Decode(b)
	if err != nil {
		return nil, skipFor(media.SkipMetadata, "metadata: %v", err)
	}
	for i := 0; i+1 < len(values); i += 2 {
		if values[i] == colorInfo {
			info := cleanColorInfo(values[i+1])
			if info == nil {
				return nil, nil
			}
			return amf0.Append(nil, colorInfo, info), nil
		}
	}
	return nil, unsupported("metadata without %s", colorInfo)
}

// resetColorInfo is the Metadata packet of video that takes back what the last one said.
var resetColorInfo = amf0.Append(nil, colorInfo, amf0.Undefined{})

func cleanColorInfo(v any) (info amf0.Object) {
	for _, group := range colorGroups {
		var kept amf0.Object
		given := properties(properties(v)(group.key))
		for _, n := range group.numbers {
			if f, ok := given(n.key).(float64); ok && n.least <= f && f <= n.most { // so that NaN fails
				kept = append(kept, amf0.Pair{Key: n.key, Value: f})
			}
		}
		if kept != nil {
			info = append(info, amf0.Pair{Key: group.key, Value: kept})
		}
	}
	return info
}

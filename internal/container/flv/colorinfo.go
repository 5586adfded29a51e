package flv

import (
	"livego/internal/container/amf0"
	"livego/internal/media"
)

// maxChannels is the largest channel count accepted in a MultichannelConfig. It exceeds every real
// layout, including the 22.2 layout of SMPTE ST 2036-2.
const maxChannels = 64

// Channel orders in a MultichannelConfig (AudioChannelOrder).
const (
	orderUnspecified = 0
	orderNative      = 1 // followed by a speaker mask
	orderCustom      = 2 // followed by a speaker for each channel
)

// checkMultichannelConfig validates a MultichannelConfig. The content is not used: every supported
// codec describes its channels itself, and ffmpeg reads the packet as an empty frame.
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

// colorInfo is the only name that Metadata packets of video use. Its value is an object of objects
// of numbers, or undefined, which resets what an earlier packet said.
const colorInfo = "colorInfo"

// A colorNumber is a number in a colorInfo object, with the bounds of valid values.
type colorNumber struct {
	key         string
	least, most float64
}

// colorGroups are the members of a colorInfo object (Enhanced RTMP, Metadata Frame). The bounds are
// slightly wider than the specification's where displays exceed the standard that it quotes.
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

// cleanColorMetadata returns a Metadata packet with the known, valid values of b, nil if there are
// none.
func cleanColorMetadata(b []byte) ([]byte, error) {
	if len(b) > maxScript {
		return nil, skipFor(media.SkipMetadata, "metadata of %d bytes is too large", len(b))
	}
	values, err := amf0.Decode(b)
	if err != nil {
		return nil, skipFor(media.SkipMetadata, "invalid metadata: %v", err)
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

// resetColorInfo is the Metadata packet that resets what the previous one said.
var resetColorInfo = amf0.Append(nil, colorInfo, amf0.Undefined{})

func cleanColorInfo(v any) (info amf0.Object) {
	for _, group := range colorGroups {
		var kept amf0.Object
		property := properties(properties(v)(group.key))
		for _, n := range group.numbers {
			if f, ok := property(n.key).(float64); ok && n.least <= f && f <= n.most { // NaN fails
				kept = append(kept, amf0.Pair{Key: n.key, Value: f})
			}
		}
		if kept != nil {
			info = append(info, amf0.Pair{Key: group.key, Value: kept})
		}
	}
	return info
}

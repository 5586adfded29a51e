package vp9

import (
	"errors"
	"fmt"
)

// A Config is a VPCodecConfigurationRecord (VP Codec ISO Media File Format Binding, version 1).
type Config struct {
	Profile, Level byte // Level is 10 times its number: 10, 11, 20, ... 62
	BitDepth       int
	Chroma         byte // chromaSubsampling: 0 and 1 4:2:0, 2 4:2:2, 3 4:4:4
	FullRange      bool

	Primaries, Transfer, Matrix byte // ITU-T H.273; 2 if the stream does not say
}

const (
	chroma420 = 1 // chroma samples at the position of the upper left luma samples
	chroma422 = 2
	chroma444 = 3

	unspecified = 2 // of ITU-T H.273
)

// ParseConfig parses a vpcC record, with the version and flags of its box in front, as some
// encoders send it, or without. Reserved profiles, depths and subsamplings are errors.
func ParseConfig(vpcC []byte) (*Config, error) {
	// Version 1 and flags 0 cannot be the start of a record: its third byte would be a depth of 0
	// bits.
	if len(vpcC) >= 4 && string(vpcC[:4]) == "\x01\x00\x00\x00" {
		vpcC = vpcC[4:]
	}
	if len(vpcC) < 6 {
		return nil, fmt.Errorf("vpcC of %d bytes is too short", len(vpcC))
	}
	c := &Config{
		Profile: vpcC[0], Level: vpcC[1],
		BitDepth: int(vpcC[2] >> 4), Chroma: vpcC[2] >> 1 & 7, FullRange: vpcC[2]&1 == 1,
		Primaries: vpcC[3], Transfer: vpcC[4], Matrix: vpcC[5],
	}
	depth := c.BitDepth == 8 || c.BitDepth == 10 || c.BitDepth == 12
	if c.Profile > 3 || c.Chroma > chroma444 || !depth {
		return nil, errors.New("vpcC with reserved values")
	}
	return c, nil
}

// Append appends c as a record of 8 bytes, without version and flags.
func (c *Config) Append(dst []byte) []byte {
	format := byte(c.BitDepth)<<4 | c.Chroma<<1
	if c.FullRange {
		format |= 1
	}
	// codecInitializationDataSize 0
	return append(dst, c.Profile, c.Level, format, c.Primaries, c.Transfer, c.Matrix, 0, 0)
}

// Config returns the record for a stream that starts with the key frame h and has frameRate
// frames per second; 0 is unknown and treated as 30. It is an error for frames that are not key
// frames, and for 4:4:0, which the record cannot express.
func (h Header) Config(frameRate float64) (*Config, error) {
	if !h.KeyFrame {
		return nil, errors.New("vp9: a configuration needs a key frame")
	}
	c := &Config{Profile: h.Profile, Level: level(h.Width*h.Height, frameRate), BitDepth: h.BitDepth,
		FullRange: h.FullRange}
	switch {
	case h.SubsamplingX && h.SubsamplingY:
		c.Chroma = chroma420
	case h.SubsamplingX:
		c.Chroma = chroma422
	case h.SubsamplingY:
		return nil, errors.New("vp9: 4:4:0 has no configuration record")
	default:
		c.Chroma = chroma444
	}
	c.Primaries, c.Transfer, c.Matrix = h.colour()
	return c, nil
}

// colour converts color_space to primaries, transfer characteristics and matrix coefficients of
// ITU-T H.273.
func (h Header) colour() (primaries, transfer, matrix byte) {
	switch h.ColorSpace {
	case csBT601:
		return 5, 6, 5
	case csBT709:
		return 1, 1, 1
	case cs170M:
		return 6, 6, 6
	case cs240M:
		return 7, 7, 7
	case csBT2020:
		if h.BitDepth == 12 {
			return 9, 15, 9
		}
		return 9, 14, 9
	case csRGB:
		return 1, 13, 0
	}
	return unspecified, unspecified, unspecified
}

// levels are the largest luma sample rate (per second) and picture size of each level, from the
// WebM project's table.
var levels = [...]struct {
	level         byte
	rate, picture int
}{
	{10, 829440, 36864}, {11, 2764800, 73728}, {20, 4608000, 122880}, {21, 9216000, 245760}, {30, 20736000, 552960},
	{31, 36864000, 983040}, {40, 83558400, 2228224}, {41, 160432128, 2228224}, {50, 311951360, 8912896},
	{51, 588251136, 8912896}, {52, 1176502272, 8912896}, {60, 1176502272, 35651584}, {61, 2353004544, 35651584},
}

// level returns the lowest level for pictures of this many samples.
func level(picture int, frameRate float64) byte {
	if frameRate <= 0 {
		frameRate = 30
	}
	rate := float64(picture) * frameRate
	for _, l := range levels {
		if picture <= l.picture && rate <= float64(l.rate) {
			return l.level
		}
	}
	return 62
}

// ProfileName returns "Profile 0" to "Profile 3".
func (c *Config) ProfileName() string { return fmt.Sprintf("Profile %d", c.Profile) }

// RFC6381 returns the codecs parameter (VP Codec ISO Media File Format Binding, "Codecs Parameter
// String"), such as "vp09.00.10.08". The optional part follows, as in
// "vp09.02.10.10.01.09.16.09.00", unless the picture is 4:2:0 in the limited range of ITU-R
// BT.709 or does not say.
func (c *Config) RFC6381() string {
	short := fmt.Sprintf("vp09.%02d.%02d.%02d", c.Profile, c.Level, c.BitDepth)
	const bt709 = 1
	usual := func(v byte) bool { return v == unspecified || v == bt709 }
	if c.Chroma <= chroma420 && !c.FullRange && usual(c.Primaries) && usual(c.Transfer) && usual(c.Matrix) {
		return short
	}
	full := 0
	if c.FullRange {
		full = 1
	}
	return fmt.Sprintf("%s.%02d.%02d.%02d.%02d.%02d", short, c.Chroma, c.Primaries, c.Transfer, c.Matrix, full)
}

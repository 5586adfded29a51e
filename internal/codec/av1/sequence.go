package av1

import (
	"errors"
	"fmt"

	"livego/internal/codec/bits"
)

// A SequenceHeader is the contents of a sequence header OBU.
type SequenceHeader struct {
	Profile  byte // seq_profile: 0 Main, 1 High, 2 Professional
	Level    byte // seq_level_idx of the first operating point
	HighTier bool

	BitDepth                    int // 8, 10 or 12
	Monochrome                  bool
	SubsamplingX, SubsamplingY  bool
	ChromaPosition              byte // chroma_sample_position
	Primaries, Transfer, Matrix byte // ITU-T H.273; 2 if the stream does not say
	FullRange                   bool

	Width, Height int     // pixels of the largest frame
	FrameRate     float64 // frames per second if the stream declares a constant rate, else 0
}

const (
	unspecified = 2    // of ITU-T H.273
	maxRate     = 1000 // frames a second
)

var errSequenceHeader = errors.New("av1: malformed sequence header")

// ParseSequenceHeader parses the payload of a sequence header OBU (section 5.5). A reserved
// profile and a truncated header are errors.
func ParseSequenceHeader(b []byte) (SequenceHeader, error) {
	r := bits.NewReader(b)
	s := SequenceHeader{Profile: byte(r.U(3))}
	r.Skip(1)           // still_picture
	reduced := r.Flag() // reduced_still_picture_header
	if reduced {
		s.Level = byte(r.U(5))
	} else {
		s.readOperatingPoints(r)
	}
	widthBits, heightBits := int(r.U(4))+1, int(r.U(4))+1
	s.Width, s.Height = int(r.U(widthBits))+1, int(r.U(heightBits))+1
	skipCodingTools(r, reduced)
	s.readColour(r)
	r.Skip(1) // film_grain_params_present
	if s.Profile > 2 || r.Overrun() {
		return SequenceHeader{}, errSequenceHeader
	}
	return s, nil
}

// readOperatingPoints parses timing, decoder model and operating points.
func (s *SequenceHeader) readOperatingPoints(r *bits.Reader) {
	delayBits, model := 0, false
	if r.Flag() { // timing_info_present_flag
		s.readTiming(r)
		if model = r.Flag(); model { // decoder_model_info_present_flag
			delayBits = int(r.U(5)) + 1
			r.Skip(32 + 5 + 5)
		}
	}
	initialDelay := r.Flag() // initial_display_delay_present_flag
	for i := range r.U(5) + 1 {
		r.Skip(12) // operating_point_idc
		level, high := r.U(5), false
		if level > 7 {
			high = r.Flag()
		}
		if i == 0 {
			s.Level, s.HighTier = byte(level), high
		}
		if model && r.Flag() { // decoder_model_present_for_this_op
			r.Skip(2*delayBits + 1)
		}
		if initialDelay && r.Flag() { // initial_display_delay_present_for_this_op
			r.Skip(4)
		}
	}
}

func (s *SequenceHeader) readTiming(r *bits.Reader) {
	unitsInTick, scale := r.U(32), r.U(32)
	if !r.Flag() { // equal_picture_interval
		return
	}
	ticks := float64(r.UE()) + 1 // num_ticks_per_picture_minus_1
	if unitsInTick == 0 || r.Overrun() {
		return
	}
	if rate := float64(scale) / (float64(unitsInTick) * ticks); rate <= maxRate {
		s.FrameRate = rate
	}
}

// skipCodingTools skips the fields between the size and the colours.
func skipCodingTools(r *bits.Reader, reduced bool) {
	if !reduced && r.Flag() { // frame_id_numbers_present_flag
		r.Skip(4 + 3)
	}
	r.Skip(3) // use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter
	if !reduced {
		r.Skip(4)             // interintra, masked compound, warped motion, dual filter
		orderHint := r.Flag() // enable_order_hint
		if orderHint {
			r.Skip(2)
		}
		tools := r.Flag() // seq_choose_screen_content_tools: for each frame
		if !tools {
			tools = r.Flag() // seq_force_screen_content_tools
		}
		if tools && !r.Flag() { // seq_choose_integer_mv
			r.Skip(1)
		}
		if orderHint {
			r.Skip(3)
		}
	}
	r.Skip(3) // enable_superres, enable_cdef, enable_restoration
}

// readColour parses color_config (section 5.5.2).
func (s *SequenceHeader) readColour(r *bits.Reader) {
	s.BitDepth = 8
	if r.Flag() { // high_bitdepth
		s.BitDepth = 10
		if s.Profile == 2 && r.Flag() { // twelve_bit
			s.BitDepth = 12
		}
	}
	s.Monochrome = s.Profile != 1 && r.Flag()
	s.Primaries, s.Transfer, s.Matrix = unspecified, unspecified, unspecified
	if r.Flag() { // color_description_present_flag
		s.Primaries, s.Transfer, s.Matrix = byte(r.U(8)), byte(r.U(8)), byte(r.U(8))
	}
	const bt709, sRGB, identity = 1, 13, 0
	switch {
	case s.Monochrome:
		s.FullRange = r.Flag()
		s.SubsamplingX, s.SubsamplingY = true, true
		return
	case s.Primaries == bt709 && s.Transfer == sRGB && s.Matrix == identity:
		s.FullRange = true
	default:
		s.FullRange = r.Flag()
		s.readSubsampling(r)
	}
	r.Skip(1) // separate_uv_delta_q
}

func (s *SequenceHeader) readSubsampling(r *bits.Reader) {
	switch {
	case s.Profile == 0:
		s.SubsamplingX, s.SubsamplingY = true, true
	case s.Profile == 1:
	case s.BitDepth == 12:
		s.SubsamplingX = r.Flag()
		s.SubsamplingY = s.SubsamplingX && r.Flag()
	default:
		s.SubsamplingX = true
	}
	if s.SubsamplingX && s.SubsamplingY {
		s.ChromaPosition = byte(r.U(2))
	}
}

// ProfileName returns the name of the profile (section A.2).
func (s SequenceHeader) ProfileName() string { return profileName(s.Profile) }

func profileName(profile byte) string {
	names := [...]string{"Main", "High", "Professional"}
	if int(profile) < len(names) {
		return names[profile]
	}
	return ""
}

// RFC6381 returns the codecs parameter (AV1 in ISOBMFF, section 5), such as "av01.0.04M.08". The
// optional part follows, as in "av01.0.04M.10.0.110.09.16.09.0", unless the picture is 4:2:0 in
// the limited range of ITU-R BT.709 or does not say.
func (s SequenceHeader) RFC6381() string {
	short := codecs(s.Profile, s.Level, s.HighTier, s.BitDepth)
	const bt709 = 1
	usual := func(v byte) bool { return v == unspecified || v == bt709 }
	if !s.Monochrome && s.SubsamplingX && s.SubsamplingY && s.ChromaPosition == 0 && !s.FullRange &&
		usual(s.Primaries) && usual(s.Transfer) && usual(s.Matrix) {
		return short
	}
	return fmt.Sprintf("%s.%d.%d%d%d.%02d.%02d.%02d.%d", short, flag(s.Monochrome),
		flag(s.SubsamplingX), flag(s.SubsamplingY), s.ChromaPosition, s.Primaries, s.Transfer, s.Matrix, flag(s.FullRange))
}

// ProfileName returns the name of the profile (section A.2).
func (c *Config) ProfileName() string { return profileName(c.Profile) }

// RFC6381 returns the codecs parameter without its optional part, which needs the sequence
// header.
func (c *Config) RFC6381() string { return codecs(c.Profile, c.Level, c.HighTier, c.BitDepth) }

func codecs(profile, level byte, high bool, depth int) string {
	tier := 'M'
	if high {
		tier = 'H'
	}
	return fmt.Sprintf("av01.%d.%02d%c.%02d", profile, level, tier, depth)
}

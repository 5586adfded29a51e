package h265

import (
	"encoding/binary"
	"fmt"
	mathbits "math/bits"
	"strings"

	"livego/internal/codec/bits"
)

// A ProfileTierLevel is the decoder capability that a stream needs: the general part of
// profile_tier_level (ITU-T H.265 clause 7.3.3).
type ProfileTierLevel struct {
	Space         byte    // general_profile_space, 0 to 3
	HighTier      bool    // general_tier_flag
	Profile       byte    // general_profile_idc
	Compatibility uint32  // general_profile_compatibility_flags, the first in the highest bit
	Constraints   [6]byte // the flags between these and the level
	Level         byte    // general_level_idc: 30 times the level
}

func readProfile(r *bits.Reader) ProfileTierLevel {
	p := ProfileTierLevel{
		Space: byte(r.U(2)), HighTier: r.Flag(), Profile: byte(r.U(5)),
		Compatibility: r.U(32),
	}
	for i := range p.Constraints {
		p.Constraints[i] = byte(r.U(8))
	}
	p.Level = byte(r.U(8))
	return p
}

// appendTo appends p as 12 bytes.
func (p ProfileTierLevel) appendTo(dst []byte) []byte {
	first := p.Space<<6 | p.Profile
	if p.HighTier {
		first |= 1 << 5
	}
	dst = binary.BigEndian.AppendUint32(append(dst, first), p.Compatibility)
	dst = append(dst, p.Constraints[:]...)
	return append(dst, p.Level)
}

// RFC6381 returns the codecs parameter for a stream whose parameter sets are in its
// configuration, such as "hvc1.1.6.L93.B0" (ISO/IEC 14496-15 clause E.3).
func (p ProfileTierLevel) RFC6381() string {
	var b strings.Builder
	b.WriteString("hvc1.")
	if p.Space > 0 {
		b.WriteByte('A' + p.Space - 1)
	}
	tier := 'L'
	if p.HighTier {
		tier = 'H'
	}
	fmt.Fprintf(&b, "%d.%X.%c%d", p.Profile, mathbits.Reverse32(p.Compatibility), tier, p.Level)
	constraints := p.Constraints[:]
	for len(constraints) > 0 && constraints[len(constraints)-1] == 0 {
		constraints = constraints[:len(constraints)-1]
	}
	for _, c := range constraints {
		fmt.Fprintf(&b, ".%X", c)
	}
	return b.String()
}

// ProfileName returns the name of the profile (ITU-T H.265 annex A and later), "" if it is
// unknown. A stream without a profile number has that of its first compatibility flag, as in
// decoders.
func (p ProfileTierLevel) ProfileName() string {
	idc := int(p.Profile)
	for i := 1; idc == 0 && i < 32; i++ {
		if p.Compatibility>>(31-i)&1 == 1 {
			idc = i
		}
	}
	if p.Space != 0 || idc >= len(profileNames) {
		return ""
	}
	return profileNames[idc]
}

var profileNames = [...]string{
	1: "Main", 2: "Main 10", 3: "Main Still Picture", 4: "Range Extensions", 5: "High Throughput", 6: "Multiview Main",
	7: "Scalable Main", 8: "3D Main", 9: "Screen Content Coding", 10: "Scalable Range Extensions",
	11: "High Throughput Screen Content Coding",
}

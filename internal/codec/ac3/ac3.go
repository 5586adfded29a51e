// Package ac3 parses the sync frames of AC-3 and Enhanced AC-3, and reads and writes their
// descriptions in ISO media files (ETSI TS 102 366, annex E for Enhanced AC-3, annex F for
// files). It never decodes audio.
package ac3

import (
	"errors"
	mathbits "math/bits"

	"livego/internal/codec/bits"
)

// A Frame is the contents of a sync frame header.
type Frame struct {
	Enhanced   bool
	SampleRate int // Hz
	Channels   int // of this substream, including LFE
	Samples    int // per channel
	Length     int // bytes of the sync frame

	// Dependent marks a frame that adds channels to the independent substream before it.
	// Substream counts the substreams of a kind from 0. AC-3 has one, which is independent.
	Dependent bool
	Substream int

	fscod, bsid, bsmod, acmod, frmsizecod byte
	lfe                                   bool
	channelMap                            channelMap
}

// A channelMap is a set of loudspeaker locations in the form of chanmap (table E.1.4): the
// highest bit is left.
type channelMap uint16

const (
	left channelMap = 1 << (15 - iota)
	centre
	right
	leftSurround
	rightSurround
	_ // Lc and Rc
	_ // Lrs and Rrs
	backSurround
	_ // Ts
	_ // Lsd and Rsd
	_ // Lw and Rw
	_ // Lvh and Rvh
	_ // Cvh
	_ // Lts and Rts
	_ // LFE2
	lowFrequency

	// pairedLocations are the locations that stand for two loudspeakers.
	pairedLocations channelMap = 1<<10 | 1<<9 | 1<<6 | 1<<5 | 1<<4 | 1<<2
)

func (p channelMap) channels() int {
	return mathbits.OnesCount16(uint16(p)) + mathbits.OnesCount16(uint16(p&pairedLocations))
}

// acmodChannels are the locations by acmod, table 4.3; 0 is two independent channels.
var acmodChannels = [8]channelMap{
	left | right, centre, left | right, left | centre | right, left | right | backSurround,
	left | centre | right | backSurround,
	left | right | leftSurround | rightSurround, left | centre | right | leftSurround | rightSurround,
}

const (
	syncWord        = 0x0B77
	blockSamples    = 256
	maxFullRateBSID = 8  // highest bsid of AC-3 at its full rate; 9 and 10 halve and quarter the rate
	maxAC3BSID      = 10 // highest bsid of AC-3
	maxEAC3BSID     = 16 // highest bsid of Enhanced AC-3, which starts at 11
)

var errFrame = errors.New("ac3: malformed sync frame")

// rates by fscod; 3 is reserved.
var rates = [4]int{48000, 44100, 32000}

// bitRates by frmsizecod/2 and bit_rate_code, kbit/s: table 4.13.
var bitRates = [19]int{32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640}

// ParseFrame parses the header of the sync frame at the start of b. Reserved values are errors. b
// may end before the frame does.
func ParseFrame(b []byte) (Frame, error) {
	if len(b) < 6 || int(b[0])<<8|int(b[1]) != syncWord {
		return Frame{}, errFrame
	}
	f := Frame{bsid: b[5] >> 3}
	r := bits.NewReader(b[2:])
	var err error
	switch {
	case f.bsid <= maxAC3BSID:
		err = f.readAC3(r)
	case f.bsid <= maxEAC3BSID:
		err = f.readEnhanced(r)
	default:
		err = errFrame
	}
	if err != nil || r.Overrun() {
		return Frame{}, errFrame
	}
	// A dependent substream with a chanmap has the channels of that map, others those of their
	// mode.
	if f.channelMap == 0 {
		f.channelMap = acmodChannels[f.acmod]
		if f.lfe {
			f.channelMap |= lowFrequency
		}
	}
	f.Channels = f.channelMap.channels()
	return f, nil
}

// readAC3 parses syncinfo and bsi (clauses 4.3 and 4.4) up to the LFE flag.
func (f *Frame) readAC3(r *bits.Reader) error {
	r.Skip(16) // crc1
	f.fscod, f.frmsizecod = byte(r.U(2)), byte(r.U(6))
	if f.fscod == 3 || int(f.frmsizecod) >= 2*len(bitRates) {
		return errFrame
	}
	r.Skip(5) // bsid
	f.bsmod, f.acmod = byte(r.U(3)), byte(r.U(3))
	if f.acmod&1 != 0 && f.acmod != 1 {
		r.Skip(2) // cmixlev
	}
	if f.acmod&4 != 0 {
		r.Skip(2) // surmixlev
	}
	if f.acmod == 2 {
		r.Skip(2) // dsurmod
	}
	f.lfe = r.Flag()
	f.Samples = 6 * blockSamples
	f.SampleRate = rates[f.fscod] >> max(0, int(f.bsid)-maxFullRateBSID)
	// A frame's size in 16-bit words follows from its bit rate, rounded down; at 44.1 kHz frames
	// alternate with ones that are one word longer.
	words := bitRates[f.frmsizecod/2] * 1000 / 16 * f.Samples / rates[f.fscod]
	if f.fscod == 1 {
		words += int(f.frmsizecod & 1)
	}
	f.Length = 2 * words
	return nil
}

// readEnhanced parses syncinfo and bsi of Enhanced AC-3 (clause E.1.3.1) up to the bit stream
// mode.
func (f *Frame) readEnhanced(r *bits.Reader) error {
	const dependent, reserved = 1, 3
	f.Enhanced = true
	kind := r.U(2) // strmtyp; 2 is an independent substream converted from AC-3
	f.Substream = int(r.U(3))
	f.Length = 2 * (int(r.U(11)) + 1)
	f.fscod = byte(r.U(2))
	blocks := 6
	if f.fscod == 3 {
		f.SampleRate = rates[r.U(2)] / 2 // fscod2
	} else {
		f.SampleRate = rates[f.fscod]
		blocks = [4]int{1, 2, 3, 6}[r.U(2)] // numblkscod
	}
	if kind == reserved || f.SampleRate == 0 {
		return errFrame
	}
	f.Dependent, f.Samples = kind == dependent, blocks*blockSamples
	f.acmod, f.lfe = byte(r.U(3)), r.Flag()
	r.Skip(5) // bsid
	programs := 1
	if f.acmod == 0 {
		programs = 2
	}
	for range programs {
		r.Skip(5)     // dialnorm
		if r.Flag() { // compre
			r.Skip(8)
		}
	}
	if f.Dependent && r.Flag() { // chanmape
		f.channelMap = channelMap(r.U(16))
	}
	if r.Flag() { // mixmdate
		f.skipMixingMetadata(r, programs, blocks)
	}
	if r.Flag() { // infomdate
		f.bsmod = byte(r.U(3))
	}
	return nil
}

// skipMixingMetadata skips the mixing metadata (clause E.1.2.2). programs is 2 for two
// independent channels.
func (f *Frame) skipMixingMetadata(r *bits.Reader, programs, blocks int) {
	if f.acmod > 2 {
		r.Skip(2) // dmixmod
		if f.acmod&1 != 0 {
			r.Skip(3 + 3) // centre mix levels
		}
	}
	if f.acmod&4 != 0 {
		r.Skip(3 + 3) // surround mix levels
	}
	if f.lfe && r.Flag() { // lfemixlevcode
		r.Skip(5)
	}
	if f.Dependent {
		return
	}
	for range programs + 1 { // pgmscle, pgmscl2e, extpgmscle
		if r.Flag() {
			r.Skip(6)
		}
	}
	switch r.U(2) { // mixdef
	case 1:
		r.Skip(5)
	case 2:
		r.Skip(12)
	case 3:
		r.Skip(8 * (int(r.U(5)) + 2))
	}
	if f.acmod < 2 {
		for range programs {
			if r.Flag() { // paninfoe
				r.Skip(14)
			}
		}
	}
	if !r.Flag() { // frmmixcfginfoe
		return
	}
	if blocks == 1 {
		r.Skip(5)
		return
	}
	for range blocks {
		if r.Flag() { // blkmixcfginfoe
			r.Skip(5)
		}
	}
}

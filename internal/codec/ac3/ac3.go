// Package ac3 reads the sync frames of AC-3 and Enhanced AC-3 and writes what ISO media files say
// of them (ETSI TS 102 366, annex E for Enhanced AC-3, annex F for files). It never decodes sound.
package ac3

import (
	"errors"
	mathbits "math/bits"

	"livego/internal/codec/bits"
)

// A Frame is what a sync frame's header says.
type Frame struct {
	Enhanced   bool
	SampleRate int // Hz
	Channels   int // of this substream, with the low frequency channel
	Samples    int // per channel
	Length     int // bytes of the sync frame

	// Dependent tells that the frame adds channels to the independent substream before it. Substream
	// counts those of a kind from 0. AC-3 has one, independent.
	Dependent bool
	Substream int

	fscod, bsid, bsmod, acmod, frmsizecod byte
	lfe                                   bool
	channelMap                            channelMap
}

// channelMap is a set of loudspeaker channelMap, as chanmap has them (table E.1.4): the highest bit is left.
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

	// pairedLocations are the places that stand for two loudspeakers.
	pairedLocations channelMap = 1<<10 | 1<<9 | 1<<6 | 1<<5 | 1<<4 | 1<<2
)

func (p channelMap) channels() int {
	return mathbits.OnesCount16(uint16(p)) + mathbits.OnesCount16(uint16(p&pairedLocations))
}

// acmodChannels by acmod, table 4.3; 0 is two channels that have nothing to do with each other.
var acmodChannels = [8]channelMap{
	left | right, centre, left | right, left | centre | right, left | right | backSurround,
	left | centre | right | backSurround,
	left | right | leftSurround | rightSurround, left | centre | right | leftSurround | rightSurround,
}

const (
	syncWord        = 0x0B77
	blockSamples    = 256
	maxFullRateBSID = 8  // highest bsid of AC-3 as it is; 9 and 10 halve and quarter the rate
	maxAC3BSID      = 10 // of AC-3
	maxEAC3BSID     = 16 // of Enhanced AC-3, from 11 on
)

var errFrame = errors.New("ac3: no sync frame")

// rates by fscod; 3 is reserved.
var rates = [4]int{48000, 44100, 32000}

// bitRates by frmsizecod/2 and bit_rate_code, kbit/s: table 4.13.
var bitRates = [19]int{32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640}

// ParseFrame reads the header of the sync frame at the start of b. Reserved values are errors; that
// b ends before the frame is not.
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
	// A dependent substream with a map of its own has the channels that this says, others those of their mode.
	if f.channelMap == 0 {
		f.channelMap = acmodChannels[f.acmod]
		if f.lfe {
			f.channelMap |= lowFrequency
		}
	}
	f.Channels = f.channelMap.channels()
	return f, nil
}

// readAC3 reads syncinfo and bsi (clauses 4.3 and 4.4) up to the low frequency channel.
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
	// A frame has so many words of 16 bits as its bits and rate ask for, rounded down; at 44.1 kHz
	// frames of one more alternate.
	words := bitRates[f.frmsizecod/2] * 1000 / 16 * f.Samples / rates[f.fscod]
	if f.fscod == 1 {
		words += int(f.frmsizecod & 1)
	}
	f.Length = 2 * words
	return nil
}

// readEnhanced reads syncinfo and bsi of Enhanced AC-3 (clause E.1.3.1) up to the bit stream mode.
func (f *Frame) readEnhanced(r *bits.Reader) error {
	const dependent, reserved = 1, 3
	f.Enhanced = true
	kind := r.U(2) // strmtyp; 2 is an independent substream that was AC-3 before
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

// skipMixingMetadata passes over the mixing metadata (clause E.1.2.2), of which programs is 2 for
// two separate channels.
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

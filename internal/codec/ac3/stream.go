package ac3

import (
	"errors"
	"fmt"
	"slices"

	"livego/internal/codec/bits"
)

// A Stream describes AC-3 or Enhanced AC-3, from a file or from an access unit.
type Stream struct {
	Enhanced   bool
	SampleRate int // Hz
	Channels   int // of the first program: its independent substream with the dependent ones
	Samples    int // per channel, of the parsed access unit; 0 if unknown
	BitRate    int // bit/s, of all substreams

	// Independent substreams: at most 8, numbered by 3 bits, each with at most 8 dependent ones.
	substreams []substream
	current    int // index of the substream that dependent frames belong to
}

// A substream is one independent substream with the substreams that depend on it.
type substream struct {
	fscod, bsid, bsmod, acmod, rateCode byte
	lfe                                 bool
	dependent                           int
	dependentChannels                   channelMap // locations of the dependent substreams
}

var errAccessUnit = errors.New("ac3: malformed access unit")

// ParseAccessUnit parses an access unit of whole sync frames: one or more of AC-3; of Enhanced
// AC-3 the frames of all substreams for one or more periods. A unit that ends within a frame,
// mixes the two codecs, or leaves out a substream is an error.
func ParseAccessUnit(unit []byte) (*Stream, error) {
	s := &Stream{}
	size := len(unit)
	for len(unit) > 0 {
		f, err := ParseFrame(unit)
		if err != nil {
			return nil, err
		}
		if f.Length > len(unit) || !s.add(f) {
			return nil, errAccessUnit
		}
		unit = unit[f.Length:]
	}
	if len(s.substreams) == 0 {
		return nil, errFrame
	}
	if !s.Enhanced { // AC-3 declares its rate; at 44.1 kHz the frame sizes differ
		s.BitRate = s.substreams[0].bitRate()
		return s, nil
	}
	s.BitRate = int(int64(size) * 8 * int64(s.SampleRate) / int64(s.Samples))
	return s, nil
}

// add adds frame f to s. It returns false if f cannot be a part of s.
func (s *Stream) add(f Frame) bool {
	first := len(s.substreams) == 0
	switch {
	case first && f.Dependent:
		return false
	case first:
		s.Enhanced, s.SampleRate, s.Channels = f.Enhanced, f.SampleRate, f.Channels
	case f.Enhanced != s.Enhanced:
		return false
	}
	switch {
	case f.Dependent:
		return s.addDependent(f)
	case f.Substream == 0:
		s.Samples += f.Samples
	}
	s.current = f.Substream
	if f.Substream < len(s.substreams) { // the next period
		return true
	}
	if f.Substream > len(s.substreams) {
		return false
	}
	s.substreams = append(s.substreams, substream{
		fscod: f.fscod, bsid: f.bsid, bsmod: f.bsmod, acmod: f.acmod, rateCode: f.frmsizecod / 2, lfe: f.lfe,
	})
	return true
}

// addDependent adds a frame that depends on the current substream. Frames of later periods are
// already known.
func (s *Stream) addDependent(f Frame) bool {
	sub := &s.substreams[s.current]
	if f.Substream < sub.dependent {
		return true
	}
	if f.Substream > sub.dependent {
		return false
	}
	sub.dependent++
	sub.dependentChannels |= f.channelMap
	if s.current == 0 {
		s.Channels = sub.channels()
	}
	return true
}

// Compatible reports whether s and o differ at most in length and bit rate: a decoder set up for
// one decodes the other, and their configurations differ only in the bit rate.
func (s *Stream) Compatible(o *Stream) bool {
	return s.Enhanced == o.Enhanced && slices.EqualFunc(s.substreams, o.substreams, func(a, b substream) bool {
		same := a.dependentChannels.chanLoc() == b.dependentChannels.chanLoc()
		a.dependentChannels, a.rateCode, b.dependentChannels, b.rateCode = 0, 0, 0, 0
		return same && a == b
	})
}

// Config returns the payload of the box that describes s in an ISO media file: dac3 or, for
// Enhanced AC-3, dec3 (clauses F.4 and F.6).
func (s *Stream) Config() []byte {
	var w bits.Writer
	if !s.Enhanced {
		sub := s.substreams[0]
		sub.appendTo(&w)
		w.U(5, uint32(sub.rateCode))
		w.U(5, 0)
		return w.Bytes()
	}
	w.U(13, uint32(min((s.BitRate+500)/1000, 1<<13-1)))
	w.U(3, uint32(len(s.substreams)-1))
	for _, sub := range s.substreams {
		sub.appendTo(&w)
		w.U(3, 0)
		w.U(4, uint32(sub.dependent))
		if sub.dependent == 0 {
			w.U(1, 0)
		} else {
			w.U(9, sub.dependentChannels.chanLoc())
		}
	}
	return w.Bytes()
}

// appendTo writes the fields that both boxes share. dec3 has two more bits: one reserved, and
// asvc.
func (s *substream) appendTo(w *bits.Writer) {
	w.U(2, uint32(s.fscod))
	w.U(5, uint32(s.bsid))
	if s.bsid > maxAC3BSID {
		w.U(2, 0)
	}
	w.U(3, uint32(s.bsmod))
	w.U(3, uint32(s.acmod))
	lfe := uint32(0)
	if s.lfe {
		lfe = 1
	}
	w.U(1, lfe)
}

// chanLoc returns p in the form of chan_loc (table F.6.1): from its lowest bit on, the bits of
// chanmap from Lc and Rc to Cvh, then LFE2.
func (p channelMap) chanLoc() uint32 {
	var v uint32
	for i := range 8 {
		v |= uint32(p>>(10-i)&1) << i
	}
	return v | uint32(p>>1&1)<<8
}

// channelMapFromChanLoc is the inverse of chanLoc.
func channelMapFromChanLoc(v uint32) channelMap {
	var p channelMap
	for i := range 8 {
		p |= channelMap(v>>i&1) << (10 - i)
	}
	return p | channelMap(v>>8&1)<<1
}

// ParseDAC3 parses the payload of a dac3 box.
func ParseDAC3(b []byte) (*Stream, error) {
	r := bits.NewReader(b)
	var sub substream
	sub.read(r, 0)
	sub.rateCode = byte(r.U(5))
	if r.Overrun() || sub.fscod == 3 || sub.bsid > maxAC3BSID || int(sub.rateCode) >= len(bitRates) {
		return nil, fmt.Errorf("malformed dac3 of %d bytes", len(b))
	}
	return &Stream{
		SampleRate: rates[sub.fscod] >> max(0, int(sub.bsid)-maxFullRateBSID),
		Channels:   sub.channels(), Samples: 6 * blockSamples, BitRate: sub.bitRate(),
		substreams: []substream{sub},
	}, nil
}

// ParseDEC3 parses the payload of a dec3 box. The box has no length of access units, and no
// sampling rate if that is one of the low ones: these are 0 then.
func ParseDEC3(b []byte) (*Stream, error) {
	r := bits.NewReader(b)
	s := &Stream{Enhanced: true, BitRate: int(r.U(13)) * 1000}
	for range r.U(3) + 1 {
		var sub substream
		sub.read(r, 2)
		r.Skip(3)
		if sub.dependent = int(r.U(4)); sub.dependent == 0 {
			r.Skip(1)
		} else {
			sub.dependentChannels = channelMapFromChanLoc(r.U(9))
		}
		s.substreams = append(s.substreams, sub)
	}
	first := s.substreams[0]
	if r.Overrun() || first.bsid <= maxAC3BSID || first.bsid > maxEAC3BSID {
		return nil, fmt.Errorf("malformed dec3 of %d bytes", len(b))
	}
	s.SampleRate, s.Channels = rates[first.fscod], first.channels()
	return s, nil
}

// read is the inverse of appendTo. gap is the number of bits between bsid and bsmod.
func (s *substream) read(r *bits.Reader, gap int) {
	s.fscod, s.bsid = byte(r.U(2)), byte(r.U(5))
	r.Skip(gap)
	s.bsmod, s.acmod, s.lfe = byte(r.U(3)), byte(r.U(3)), r.Flag()
}

// channels returns the number of loudspeakers of the substream and its dependent substreams.
func (s *substream) channels() int {
	p := acmodChannels[s.acmod] | s.dependentChannels
	if s.lfe {
		p |= lowFrequency
	}
	return p.channels()
}

// bitRate returns the declared bit rate of AC-3, in bit/s.
func (s *substream) bitRate() int {
	return bitRates[s.rateCode] * 1000 >> max(0, int(s.bsid)-maxFullRateBSID)
}

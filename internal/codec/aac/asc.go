// Package aac parses AudioSpecificConfigs (ISO/IEC 14496-3 clause 1.6.2.1) and reads and writes
// ADTS headers (clause 1.A.3). It never decodes audio.
package aac

import (
	"errors"
	"fmt"

	"livego/internal/codec/bits"
)

// Audio object types, ISO/IEC 14496-3 table 1.17.
const (
	typeMain       = 1
	typeLC         = 2
	typeLTP        = 4
	typeSBR        = 5
	typeScalable   = 6
	typeERLC       = 17
	typeERScalable = 20
	typeBSAC       = 22
	typeLD         = 23
	typePS         = 29
	typeELD        = 39
)

// A Config is the contents of an AudioSpecificConfig.
type Config struct {
	ObjectType   int  // of the core: 2 for AAC-LC, and for HE-AAC too
	SBR, PS      bool // signalled, explicitly or by the backward-compatible extension
	SampleRate   int  // Hz of the core
	OutputRate   int  // Hz of the output: twice SampleRate with most SBR
	Channels     int  // of the output: 2 for PS over a mono core
	FrameSamples int  // of a coded frame at SampleRate, per channel; 0 if the object type does not fix it

	rateIndex     int    // sampling_frequency_index, 15 for a rate without an index
	channelConfig int    // 0 if pce has it
	pce           []byte // program_config_element in the form of a raw_data_block, ID included
}

const (
	explicitRate = 15
	minRate      = 1000   // Hz; no encoder works below minRate or
	maxRate      = 192000 // above maxRate, Hz; clocks and buffers are sized by the number
)

// rates by sampling_frequency_index, ISO/IEC 14496-3 table 1.18.
var rates = [13]int{96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}

// channels by channelConfiguration, ISO/IEC 14496-3 table 1.19 with amendments; 0 is reserved.
var channels = [16]int{1: 1, 2, 3, 4, 5, 6, 8, 11: 7, 12: 8, 13: 24, 14: 8}

var errASC = errors.New("aac: malformed AudioSpecificConfig")

// ParseConfig parses an AudioSpecificConfig. Reserved rates and channel configurations, and a
// truncated config, are errors.
func ParseConfig(asc []byte) (*Config, error) {
	r := bits.NewReader(asc)
	c := &Config{ObjectType: objectType(r)}
	c.rateIndex, c.SampleRate = sampleRate(r)
	c.OutputRate = c.SampleRate
	c.channelConfig = int(r.U(4))
	if c.ObjectType == typeSBR || c.ObjectType == typePS {
		c.SBR, c.PS = true, c.ObjectType == typePS
		_, c.OutputRate = sampleRate(r)
		if c.ObjectType = objectType(r); c.ObjectType == typeBSAC {
			r.Skip(4) // extensionChannelConfiguration
		}
	}
	c.Channels = channels[c.channelConfig]
	if usesGASpecificConfig(c.ObjectType) {
		c.readGASpecificConfig(r)
	}
	if r.Overrun() {
		return nil, errASC
	}
	if !c.SBR {
		c.readSBRExtension(r)
	}
	if c.PS && c.Channels == 1 {
		c.Channels = 2
	}
	if c.ObjectType == 0 || c.Channels == 0 || !validRate(c.SampleRate) || !validRate(c.OutputRate) {
		return nil, errASC
	}
	return c, nil
}

// ProfileName returns the common name of the coding: "LC", "HE-AAC", "HE-AACv2"; "" if it has
// none.
func (c *Config) ProfileName() string {
	switch {
	case c.PS:
		return "HE-AACv2"
	case c.SBR:
		return "HE-AAC"
	}
	return profileNames[c.ObjectType]
}

var profileNames = map[int]string{
	typeMain: "Main", typeLC: "LC", 3: "SSR", typeLTP: "LTP", typeScalable: "Scalable", typeERLC: "ER LC", 19: "ER LTP",
	typeERScalable: "ER Scalable", typeLD: "LD", typeELD: "ELD",
}

// RFC6381 returns the codecs parameter: "mp4a.40.2", "mp4a.40.5" for HE-AAC, "mp4a.40.29" for
// HE-AAC v2.
func (c *Config) RFC6381() string {
	t := c.ObjectType
	switch {
	case c.PS:
		t = typePS
	case c.SBR:
		t = typeSBR
	}
	return fmt.Sprintf("mp4a.40.%d", t)
}

func validRate(rate int) bool { return minRate <= rate && rate <= maxRate }

func objectType(r *bits.Reader) int {
	t := int(r.U(5))
	if t == 31 {
		t = 32 + int(r.U(6))
	}
	return t
}

// sampleRate parses a sampling rate. It returns 0 Hz for a reserved index, and the index of an
// explicit rate that has one.
func sampleRate(r *bits.Reader) (index, hz int) {
	index = int(r.U(4))
	switch {
	case index == explicitRate:
		hz = int(r.U(24))
		for i, known := range rates {
			if known == hz {
				return i, hz
			}
		}
		return explicitRate, hz
	case index < len(rates):
		return index, rates[index]
	}
	return index, 0
}

// usesGASpecificConfig reports whether object type t is configured by a GASpecificConfig.
func usesGASpecificConfig(t int) bool {
	switch {
	case typeMain <= t && t <= typeLTP, t == typeScalable, t == 7, t == typeERLC, 19 <= t && t <= typeLD:
		return true
	}
	return false
}

// readGASpecificConfig parses a GASpecificConfig, ISO/IEC 14496-3 clause 4.4.1.
func (c *Config) readGASpecificConfig(r *bits.Reader) {
	short := r.Flag() // frameLengthFlag
	switch {
	case c.ObjectType == typeLD && short:
		c.FrameSamples = 480
	case c.ObjectType == typeLD:
		c.FrameSamples = 512
	case short:
		c.FrameSamples = 960
	default:
		c.FrameSamples = 1024
	}
	if r.Flag() { // dependsOnCoreCoder
		r.Skip(14)
	}
	extended := r.Flag() // extensionFlag
	if c.channelConfig == 0 {
		c.readPCE(r)
	}
	if c.ObjectType == typeScalable || c.ObjectType == typeERScalable {
		r.Skip(3) // layerNr
	}
	if !extended {
		return
	}
	switch c.ObjectType {
	case typeBSAC:
		r.Skip(5 + 11)
	case typeERLC, 19, typeERScalable, typeLD:
		r.Skip(3) // resilience flags
	}
	r.Skip(1) // extensionFlag3
}

// readPCE parses a program_config_element (ISO/IEC 14496-3 clause 4.4.1.1), counts its channels
// and stores it in the form of a raw_data_block: after the element's ID, with its own alignment
// and without comment.
func (c *Config) readPCE(r *bits.Reader) {
	var w bits.Writer
	w.U(3, idPCE)
	c.Channels = copyPCE(&w, r)
	c.pce = w.Bytes()
}

// idPCE is the id_syn_ele of a program_config_element in a raw_data_block.
const idPCE = 5

// copyPCE copies a program_config_element without its comment, aligned as w and r are, and
// returns its number of channels.
func copyPCE(w *bits.Writer, r *bits.Reader) (channels int) {
	field := func(n int) int {
		v := r.U(n)
		w.U(n, v)
		return int(v)
	}
	field(4 + 2 + 4) // element_instance_tag, object_type, sampling_frequency_index
	front, side, back, lfe, data, coupled := field(4), field(4), field(4), field(2), field(3), field(4)
	for _, mixdown := range []int{4, 4, 3} { // mono, stereo, matrix
		if field(1) == 1 {
			field(mixdown)
		}
	}
	for range front + side + back {
		channels += 1 + field(1) // is_cpe
		field(4)
	}
	channels += lfe
	for range lfe + data {
		field(4)
	}
	for range coupled {
		field(5)
	}
	r.Align()
	w.Align()
	r.Skip(8 * int(r.U(8))) // comment
	w.U(8, 0)
	return channels
}

// readSBRExtension parses the backward-compatible signalling of SBR and PS at the end of the
// config (ISO/IEC 14496-3 clause 1.6.2.1). Encoders also put padding there, so that anything else
// is no error.
func (c *Config) readSBRExtension(r *bits.Reader) {
	const syncSBR, syncPS = 0x2b7, 0x548
	if r.Left() < 16 || r.U(11) != syncSBR || objectType(r) != typeSBR || !r.Flag() {
		return
	}
	_, rate := sampleRate(r)
	if r.Overrun() || !validRate(rate) {
		return
	}
	c.SBR, c.OutputRate = true, rate
	if r.Left() >= 12 && r.U(11) == syncPS {
		c.PS = r.Flag()
	}
}

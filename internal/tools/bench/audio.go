package bench

import (
	"time"

	"livego/internal/codec/bits"
)

// The built-in audio is silence in AAC-LC, 44.1 kHz stereo, with fill elements up to its bitrate.
const (
	sampleRate   = 44100
	frameSamples = 1024
)

// audioFramePeriod is the duration of one AAC frame.
const audioFramePeriod = frameSamples * time.Second / sampleRate

// audioConfig is AAC-LC at 44.1 kHz with two channels (ISO/IEC 14496-3 clause 1.6.2.1).
var audioConfig = []byte{0x12, 0x10}

// audioFrame returns a raw_data_block of about size bytes (ISO/IEC 14496-3 clause 4.4.2.1).
func audioFrame(size int) []byte {
	const (
		idCPE = 1
		idFIL = 6
		idEND = 7

		cpeSize  = 7
		largest  = 269 // bytes of the largest fill element
		escape   = 15  // count with an extension byte
		fillData = 1   // EXT_FILL_DATA
	)
	w := &bits.Writer{}
	w.U(3, idCPE)
	w.U(4, 0) // element_instance_tag
	w.U(1, 0) // common_window
	for range 2 {
		w.U(8, 100) // global_gain, unused
		w.U(4, 0)   // a long window
		w.U(6, 0)   // max_sfb: no spectrum
		w.U(1, 0)   // no prediction
		w.U(3, 0)   // no pulses, no noise shaping, no gain control
	}
	for left := size - cpeSize; left > escape+2; {
		n := min(left-2, largest)
		w.U(3, idFIL)
		w.U(4, escape)
		w.U(8, uint32(n-escape+1))
		w.U(4, fillData)
		w.U(4, 0)
		for range n - 1 {
			w.U(8, 0xA5)
		}
		left -= n + 2
	}
	w.U(3, idEND)
	return w.Bytes()
}

package aac

// Silence returns a silent raw frame, nil if there is none for this configuration. There is one
// for AAC-LC with one or two channels in frames of 1024 samples. Shared: do not modify.
func (c *Config) Silence() []byte {
	if c.ObjectType != typeLC || c.SBR || c.FrameSamples != 1024 {
		return nil
	}
	switch c.channelConfig {
	case 1:
		return silentMono
	case 2:
		return silentStereo
	}
	return nil
}

// Frames of one single_channel_element, and of one channel_pair_element with a common window,
// with an all-zero spectrum (ISO/IEC 14496-3 clause 4.4.2.1). They fit any rate: no scale factor
// band is in use.
var (
	silentMono   = []byte{0x00, 0xC8, 0x00, 0x80, 0x23, 0x80}
	silentStereo = []byte{0x21, 0x00, 0x49, 0x90, 0x02, 0x19, 0x00, 0x23, 0x80}
)

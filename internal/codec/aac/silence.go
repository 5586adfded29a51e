package aac

// Silence returns a raw frame in which nothing is heard, nil where there is none at hand: there is one for
// AAC-LC of one or two channels in frames of 1024 samples. Shared: do not modify.
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

// Frames of one single_channel_element, and of one channel_pair_element with a common window, whose spectrum
// is all zero (ISO/IEC 14496-3 clause 4.4.2.1). Any rate will do: no scale factor band is in use.
var (
	silentMono   = []byte{0x00, 0xC8, 0x00, 0x80, 0x23, 0x80}
	silentStereo = []byte{0x21, 0x00, 0x49, 0x90, 0x02, 0x19, 0x00, 0x23, 0x80}
)

package ac3

import (
	"encoding/hex"
	"strings"
	"testing"

	"livego/internal/codec/bits"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Sync frames of ffmpeg 5.1, truncated after their headers.
const (
	surround  = "0b771e8b1c40ebf8403eff74fe1e108083f8787f"
	stereo    = "0b77d80e544043e106f575f0c0c218187fd87cf9"
	surroundE = "0b7701ff3f87c00020802020020040000"
	monoE     = "0b77011fb287c00021069078e77d587efa1be7ef"
)

// enhanced returns a 64-byte sync frame of Enhanced AC-3: kind is strmtyp, rest writes the fields
// after compre.
func enhanced(kind, substream, fscod, blocks, acmod, lfe uint32, rest func(w *bits.Writer)) string {
	var w bits.Writer
	w.U(16, syncWord)
	w.U(2, kind)
	w.U(3, substream)
	w.U(11, 31)
	w.U(2, fscod)
	w.U(2, blocks)
	w.U(3, acmod)
	w.U(1, lfe)
	w.U(5, 16)
	w.U(5, 31)
	w.U(1, 0)
	if acmod == 0 {
		w.U(6, 0)
	}
	if rest != nil {
		rest(&w)
	}
	b := hex.EncodeToString(w.Bytes())
	return b + strings.Repeat("00", 64-len(b)/2)
}

// chanmap writes a chanmap field.
func chanmap(p channelMap) func(w *bits.Writer) {
	return func(w *bits.Writer) {
		w.U(1, 1)
		w.U(16, uint32(p))
	}
}

// mixed writes complete mixing metadata of a 5.1 substream, and bit stream mode 5.
func mixed(w *bits.Writer) {
	w.U(1, 1)
	w.U(2+6+6, 0)
	w.U(1, 1) // lfemixlevcode
	w.U(5, 0)
	w.U(1, 1) // pgmscle
	w.U(6, 0)
	w.U(1, 0) // extpgmscle
	w.U(2, 3) // mixdef
	w.U(5, 0)
	w.U(16, 0)
	w.U(1, 1) // frmmixcfginfoe
	for range 6 {
		w.U(1, 1)
		w.U(5, 0)
	}
	w.U(1, 1)
	w.U(3, 5)
}

// dual writes the mixing metadata of two independent channels in one block, and bit stream mode
// 5.
func dual(w *bits.Writer) {
	w.U(1, 1)
	w.U(1, 1) // pgmscle
	w.U(6, 0)
	w.U(1, 1) // pgmscl2e
	w.U(6, 0)
	w.U(1, 1) // extpgmscle
	w.U(6, 0)
	w.U(2, 2) // mixdef
	w.U(12, 0)
	w.U(1, 1) // paninfoe
	w.U(14, 0)
	w.U(1, 0) // paninfo2e
	w.U(1, 1) // frmmixcfginfoe
	w.U(5, 0)
	w.U(1, 1)
	w.U(3, 5)
}

// headers is the table of sync frames. It seeds the fuzz target.
var headers = []struct {
	name, b string // hex
	want    Frame  // zero: an error
	bsmod   byte
}{
	{"AC-3 5.1", surround, Frame{SampleRate: 48000, Channels: 6, Samples: 1536, Length: 1536}, 0},
	{"AC-3 stereo 44100", stereo, Frame{SampleRate: 44100, Channels: 2, Samples: 1536, Length: 834}, 0},
	{"AC-3 44100, the longer frame", stereo[:8] + "55" + stereo[10:],
		Frame{SampleRate: 44100, Channels: 2, Samples: 1536, Length: 836}, 0},
	{"AC-3 at half the rate", stereo[:10] + "48" + stereo[12:],
		Frame{SampleRate: 22050, Channels: 2, Samples: 1536, Length: 834}, 0},
	{"E-AC-3 5.1", surroundE[:32], Frame{Enhanced: true, SampleRate: 48000, Channels: 6, Samples: 1536, Length: 1024}, 0},
	{"E-AC-3 mono 32000", monoE, Frame{Enhanced: true, SampleRate: 32000, Channels: 1, Samples: 1536, Length: 576}, 0},
	{"E-AC-3 one block", enhanced(0, 0, 0, 0, 2, 0, nil),
		Frame{Enhanced: true, SampleRate: 48000, Channels: 2, Samples: 256, Length: 64}, 0},
	{"E-AC-3 22050", enhanced(0, 0, 3, 1, 2, 0, nil),
		Frame{Enhanced: true, SampleRate: 22050, Channels: 2, Samples: 1536, Length: 64}, 0},
	{"E-AC-3 mixing metadata", enhanced(0, 0, 0, 3, 7, 1, mixed),
		Frame{Enhanced: true, SampleRate: 48000, Channels: 6, Samples: 1536, Length: 64}, 5},
	{"E-AC-3 two programs, mixing metadata", enhanced(0, 0, 0, 0, 0, 0, dual),
		Frame{Enhanced: true, SampleRate: 48000, Channels: 2, Samples: 256, Length: 64}, 5},
	{"E-AC-3 dependent", enhanced(1, 2, 0, 3, 2, 0, chanmap(1<<9)),
		Frame{Enhanced: true, SampleRate: 48000, Channels: 2, Samples: 1536, Length: 64, Dependent: true, Substream: 2}, 0},
	{"E-AC-3 reserved type", enhanced(3, 0, 0, 3, 2, 0, nil), Frame{}, 0},
	{"E-AC-3 reserved rate", enhanced(0, 0, 3, 3, 2, 0, nil), Frame{}, 0},
	{"E-AC-3 truncated", enhanced(0, 0, 0, 3, 2, 0, nil)[:12], Frame{}, 0},
	{"AC-3 reserved rate", surround[:8] + "dc" + surround[10:], Frame{}, 0},
	{"AC-3 reserved size", surround[:8] + "26" + surround[10:], Frame{}, 0},
	{"bsid 17", surround[:10] + "88" + surround[12:], Frame{}, 0},
	{"no sync word", "0b78" + surround[4:], Frame{}, 0},
	{"truncated", surround[:10], Frame{}, 0},
	{"empty", "", Frame{}, 0},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseFrame(t *testing.T) {
	for _, tt := range headers {
		f, err := ParseFrame(unhex(t, tt.b))
		if diff := cmp.Diff(tt.want, f, cmpopts.IgnoreUnexported(Frame{})); diff != "" ||
			(err != nil) != (tt.want == Frame{}) {
			t.Errorf("%s: %v\n%s", tt.name, err, diff)
		}
		if f.bsmod != tt.bsmod {
			t.Errorf("%s: bit stream mode %d, want %d", tt.name, f.bsmod, tt.bsmod)
		}
	}
}

// padded extends a sync frame in hex to n bytes.
func padded(frame string, n int) string { return frame + strings.Repeat("00", n-len(frame)/2) }

// streams is the table of access units. It seeds the fuzz target.
var streams = []struct {
	name, b                string // hex
	want                   Stream // zero: an error
	independent, dependent int
	config                 string
}{
	{"AC-3 5.1", padded(surround, 1536), Stream{SampleRate: 48000, Channels: 6, Samples: 1536, BitRate: 384000}, 1, 0,
		"103dc0"},
	{"AC-3 two frames", strings.Repeat(padded(stereo, 834), 2),
		Stream{SampleRate: 44100, Channels: 2, Samples: 3072, BitRate: 192000}, 1, 0, "501140"},
	{"E-AC-3 5.1", padded(surroundE[:32], 1024),
		Stream{Enhanced: true, SampleRate: 48000, Channels: 6, Samples: 1536, BitRate: 256000}, 1, 0, "0800200f00"},
	{"E-AC-3 six of one block", strings.Repeat(enhanced(0, 0, 0, 0, 2, 0, nil), 6),
		Stream{Enhanced: true, SampleRate: 48000, Channels: 2, Samples: 1536, BitRate: 96000}, 1, 0, "0300200400"},
	{"E-AC-3 7.1", enhanced(0, 0, 0, 3, 7, 1, nil) + enhanced(1, 0, 0, 3, 2, 0, chanmap(1<<9)),
		Stream{Enhanced: true, SampleRate: 48000, Channels: 8, Samples: 1536, BitRate: 32000}, 1, 1, "0100200f0202"},
	{"E-AC-3 7.1 twice", strings.Repeat(enhanced(0, 0, 0, 2, 7, 1, nil)+enhanced(1, 0, 0, 2, 2, 0, chanmap(1<<9)), 2),
		Stream{Enhanced: true, SampleRate: 48000, Channels: 8, Samples: 1536, BitRate: 64000}, 1, 1, "0200200f0202"},
	{"E-AC-3 two programs, the first 7.1",
		strings.Repeat(enhanced(0, 0, 0, 2, 7, 1, nil)+enhanced(1, 0, 0, 2, 2, 0, chanmap(1<<9))+
			enhanced(1, 1, 0, 2, 1, 0, chanmap(1<<1))+enhanced(0, 1, 0, 2, 1, 0, nil), 2),
		Stream{Enhanced: true, SampleRate: 48000, Channels: 9, Samples: 1536, BitRate: 128000}, 2, 2, "0401200f0502200200"},
	{"dependent first", enhanced(1, 0, 0, 3, 2, 0, chanmap(1<<9)), Stream{}, 0, 0, ""},
	{"independent substream 1 first", enhanced(0, 1, 0, 3, 2, 0, nil), Stream{}, 0, 0, ""},
	{"dependent substream left out", enhanced(0, 0, 0, 3, 2, 0, nil) + enhanced(1, 1, 0, 3, 2, 0, nil), Stream{}, 0, 0,
		""},
	{"both kinds", padded(surround, 1536) + enhanced(0, 0, 0, 3, 2, 0, nil), Stream{}, 0, 0, ""},
	{"frame truncated", padded(surround, 1535), Stream{}, 0, 0, ""},
	{"bytes behind", padded(surround, 1536) + "00", Stream{}, 0, 0, ""},
	{"empty", "", Stream{}, 0, 0, ""},
}

func TestParseAccessUnit(t *testing.T) {
	for _, tt := range streams {
		t.Run(tt.name, func(t *testing.T) {
			s, err := ParseAccessUnit(unhex(t, tt.b))
			if tt.config == "" {
				if err == nil {
					t.Fatalf("no error, got %+v", s)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tt.want, s, cmpopts.IgnoreUnexported(Stream{})); diff != "" {
				t.Error(diff)
			}
			if i, d := s.Substreams(); i != tt.independent || d != tt.dependent {
				t.Errorf("%d independent and %d dependent substreams", i, d)
			}
			config := s.Config()
			if hex.EncodeToString(config) != tt.config {
				t.Errorf("configuration %x, want %s", config, tt.config)
			}
			parse := ParseDAC3
			if s.Enhanced {
				parse = ParseDEC3
			}
			again, err := parse(config)
			if err == nil && !again.Compatible(s) {
				t.Error("the configuration is of another stream")
			}
			if err != nil || again.SampleRate != s.SampleRate || again.Channels != s.Channels || again.BitRate != s.BitRate {
				t.Errorf("configuration says %+v, %v", again, err)
			}
		})
	}
}

func TestConfigRefuses(t *testing.T) {
	for _, s := range []string{"", "103d", "d03dc0", "103e60", "583dc0"} {
		if got, err := ParseDAC3(unhex(t, s)); err == nil {
			t.Errorf("dac3 %s: no error, got %+v", s, got)
		}
	}
	for _, s := range []string{"", "0800", "0800200f", "0800100f00", "0807200f00"} {
		if got, err := ParseDEC3(unhex(t, s)); err == nil {
			t.Errorf("dec3 %s: no error, got %+v", s, got)
		}
	}
}

func TestCompatible(t *testing.T) {
	parse := func(row int) *Stream {
		s, err := ParseAccessUnit(unhex(t, streams[row].b))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	quieter, err := ParseAccessUnit(unhex(t, padded(surround[:8]+"14"+surround[10:], 768)))
	if err != nil || quieter.BitRate != 192000 || !quieter.Compatible(parse(0)) {
		t.Errorf("another bit rate is another stream: %+v, %v", quieter, err)
	}
	for _, pair := range [][2]int{{0, 1}, {0, 2}, {2, 3}, {2, 4}, {4, 6}} {
		if a, b := parse(pair[0]), parse(pair[1]); a.Compatible(b) || b.Compatible(a) {
			t.Errorf("%s is compatible with %s", streams[pair[0]].name, streams[pair[1]].name)
		}
	}
}

func FuzzParseAccessUnit(f *testing.F) {
	for _, tt := range headers {
		f.Add(unhex(f, tt.b))
	}
	for _, tt := range streams {
		f.Add(unhex(f, tt.b))
		f.Add(unhex(f, tt.config))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseFrame(b); err == nil &&
			(h.SampleRate < 8000 || h.SampleRate > 48000 || h.Length < 2 || h.Samples < blockSamples || h.Channels > 22) {
			t.Errorf("%+v", h)
		}
		if s, err := ParseDAC3(b); err == nil && (s.SampleRate == 0 || s.Channels == 0) {
			t.Errorf("dac3 %+v", s)
		}
		if s, err := ParseDEC3(b); err == nil && s.Channels == 0 {
			t.Errorf("dec3 %+v", s)
		}
		s, err := ParseAccessUnit(b)
		if err != nil {
			return
		}
		parse := ParseDAC3
		if s.Enhanced {
			parse = ParseDEC3
		}
		again, err := parse(s.Config())
		if err != nil || again.Channels > 22 {
			t.Errorf("%+v: %x says %+v, %v", s, s.Config(), again, err)
		}
	})
}

// Substreams returns the number of independent substreams and of substreams that depend on them.
func (s *Stream) Substreams() (independent, dependent int) {
	for _, sub := range s.substreams {
		dependent += sub.dependent
	}
	return len(s.substreams), dependent
}

package ts

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"livego/internal/media"
)

// sampleStream returns a transport stream as this package writes it: two groups of two video
// frames, the second presented first, with audio.
func sampleStream(at time.Duration) string {
	var frames []*media.Frame
	for i := range 4 {
		f := picture(media.NoRandomAccess, at+time.Duration(i)*40e6, 40e6, avcc("\x41\x9A"))
		if i%2 == 0 {
			f = picture(media.Keyframe, at+time.Duration(i)*40e6, 80e6, avcc(idr))
		}
		frames = append(frames, f, samples(sound, int64(at.Seconds()*44100)+int64(i)*1764, strings.Repeat("a", 20)))
	}
	b, _ := AppendSegment(nil, video, sound, frames)
	return string(b)
}

const sampleFrames = "v12000/12080K a12000 v12040/12080 a12040 v12080/12160K a12080 v12120/12160 a12120"

// tsPacket returns a packet of a PID with a payload of at most 184 bytes, stuffed by an adaptation
// field.
func tsPacket(pid int, start bool, counter byte, payload string) string {
	b := []byte{syncByte, byte(pid >> 8), byte(pid), 0x10 | counter&0xF}
	if start {
		b[1] |= 0x40
	}
	if n := 184 - len(payload); n > 0 {
		b[3] |= 0x20
		field := make([]byte, n)
		field[0] = byte(n - 1)
		for i := 2; i < n; i++ {
			field[i] = 0xFF
		}
		b = append(b, field...)
	}
	return string(b) + payload
}

// psi returns a packet with a section.
func psi(pid int, counter, table byte, id uint16, body string) string {
	b := []byte{table, 0xB0, byte(9 + len(body)), byte(id >> 8), byte(id), 0xC1, 0, 0}
	b = append(b, body...)
	b = binary.BigEndian.AppendUint32(b, crc(b))
	return tsPacket(pid, true, counter, "\x00"+string(b))
}

func pat() string { return psi(0, 0, 0, 1, "\x00\x00\xE0\x10\x00\x01\xE0\x20") }

// pmt returns a PMT with those stream entries.
func pmt(streams ...string) string {
	return psi(0x20, 0, 2, 1, "\xE1\x00\xF0\x00"+strings.Join(streams, ""))
}

func pmtEntry(typ byte, pid int, descriptors string) string {
	return string([]byte{typ, 0xE0 | byte(pid>>8), byte(pid), 0xF0, byte(len(descriptors))}) + descriptors
}

// pesWithPTS returns a PES packet with a PTS in 90 kHz and no length.
func pesWithPTS(pts int64, data string) string {
	return string(appendTimestamp([]byte{0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 5}, 2, pts)) + data
}

const adts = "\xFF\xF1\x50\x80\x01\x5F\xFCraw" // 10 bytes

// padToDetect appends null packets until there are enough to detect a transport stream.
func padToDetect(packets ...string) string {
	s := strings.Join(packets, "")
	for len(s) < 5*packetSize {
		s += tsPacket(0x1FFF, false, 0, strings.Repeat("\xFF", 184))
	}
	return s
}

// pmtEntries returns n PMT entries.
func pmtEntries(n int) (all []string) {
	for i := range n {
		all = append(all, pmtEntry(streamH264, 0x100+i, ""))
	}
	return all
}

// wrapPackets returns b with bytes before and after each packet.
func wrapPackets(b, before, after string) (s string) {
	for ; b != ""; b = b[packetSize:] {
		s += before + b[:packetSize] + after
	}
	return s
}

// tsFiles is the table of files and their expected description: video with DTS/PTS, audio with its
// time, in ms, K at random access points; the streams if there are no frames; or a part of an
// error. It seeds the fuzzer.
var tsFiles = []struct {
	name, file, want string
}{
	{"as written", sampleStream(0), sampleFrames},
	{"192 bytes a packet", wrapPackets(sampleStream(0), "time", ""), sampleFrames},
	{"204 bytes a packet", wrapPackets(sampleStream(0), "", strings.Repeat("r", 16)), sampleFrames},
	{"garbage before the stream", "what a receiver sent before" + sampleStream(0), sampleFrames},
	{"sync lost", sampleStream(0)[:5*packetSize] + strings.Repeat("no packet at all ", 30) +
		sampleStream(0)[5*packetSize:], sampleFrames},
	{"sync lost inside a packet", sampleStream(0)[:5*packetSize-50] + sampleStream(0)[5*packetSize:],
		"v12000/12080K v12080/12160K a12080 v12120/12160 a12120"},
	{"packet missing", sampleStream(0)[:6*packetSize] + sampleStream(0)[7*packetSize:],
		"v12000/12080K v12120/12160 a12000 a12040 a12080 a12120"},
	{"packet sent twice", sampleStream(0)[:6*packetSize] + sampleStream(0)[5*packetSize:], sampleFrames},
	{"33 bits wrap", sampleStream(26*time.Hour + 30*time.Minute + 31*time.Second + 650*time.Millisecond),
		"v95443650/95443730K a95443649 v95443690/95443730 a95443689 v95443730/95443810K a95443729 v95443770/95443810 " +
			"a95443769"},
	{"truncated packet", sampleStream(0)[:len(sampleStream(0))-100],
		"v12000/12080K a12000 v12040/12080 a12040 v12080/12160K a12080 v12120/12160"},
	{"repeated PAT without PMT", padToDetect(strings.Repeat(pat(), 50)), "no program in the first"},
	{"PAT with its own PID as PMT", padToDetect(psi(0, 0, 0, 1, "\x00\x01\xE0\x00")), "no program in the first"},
	{"empty PMT section", padToDetect(pat(), tsPacket(0x20, true, 0, strings.Repeat("\x00", 184))),
		"no program in the first"},
	{"section of 4095 bytes", padToDetect(pat(),
		tsPacket(0x20, true, 0, "\x00\x02\xBF\xFF"+strings.Repeat("\x00", 180))), "no program in the first"},
	{"section length 0", padToDetect(pat(), tsPacket(0x20, true, 0, "\x00\x02\xB0\x00"+strings.Repeat("\xFF", 180))),
		"no program in the first"},
	{"wrong CRC", padToDetect(pat(), strings.Replace(pmt(pmtEntry(streamADTS, 0x101, "")), "\xE1\x00", "\xE1\x01", 1)),
		"no program in the first"},
	{"pointer beyond the packet", padToDetect(tsPacket(0, true, 0, "\xFF")), "no program in the first"},
	{"adaptation field longer than its packet",
		padToDetect(pat(), pmt(pmtEntry(streamADTS, 0x101, "")), "\x47\x41\x01\x30\xFF"+strings.Repeat("\xFF", 183)),
		"program without readable frames"},
	{"PES length 0", padToDetect(pat(), pmt(pmtEntry(streamADTS, 0x101, "")),
		tsPacket(0x101, true, 0, pesWithPTS(90000, adts+adts))), "a1000 a1023"},
	{"PES header beyond its packet",
		padToDetect(pat(), pmt(pmtEntry(streamADTS, 0x101, "")),
			tsPacket(0x101, true, 0, "\x00\x00\x01\xC0\x00\x00\x80\x80\xFFabc")), "program without readable frames"},
	{"PES without its start code",
		padToDetect(pat(), pmt(pmtEntry(streamADTS, 0x101, "")), tsPacket(0x101, true, 0, "what is this")),
		"program without readable frames"},
	{"frame over two PES packets",
		padToDetect(pat(), pmt(pmtEntry(streamADTS, 0x101, "")), tsPacket(0x101, true, 0, pesWithPTS(90000, adts+adts[:4])),
			tsPacket(0x101, true, 1, pesWithPTS(180000, adts[4:]+adts+adts))), "a1000 a1023 a2000 a2023"},
	{"PTS jump", padToDetect(pat(), pmt(pmtEntry(streamADTS, 0x101, "")),
		tsPacket(0x101, true, 0, pesWithPTS(90000, adts+adts)), tsPacket(0x101, true, 1, pesWithPTS(9000000, adts+adts))),
		"a1000 a1023 a100000 a100023"},
	{"scrambled", padToDetect(pat(), pmt(pmtEntry(streamADTS, 0x101, "")),
		"\x47\x41\x01\x90"+strings.Repeat("x", 184)), "audio:scrambled"},
	{"LATM", padToDetect(pat(), pmt(pmtEntry(streamLATM, 0x101, ""))), "audio:aac in latm"},
	{"MPEG-2 and DTS", padToDetect(pat(), pmt(pmtEntry(2, 0x100, ""), pmtEntry(0x82, 0x101, ""))),
		"video:mpeg2 audio:dts"},
	{"layer II", padToDetect(pat(), pmt(pmtEntry(streamMPEG1Audio, 0x101, "")),
		tsPacket(0x101, true, 0, pesWithPTS(0, "\xFF\xFD\x14\x04"+strings.Repeat("m", 92))),
		tsPacket(0x101, false, 1, strings.Repeat("\xFF\xFD\x14\x04"+strings.Repeat("m", 92), 1))), "audio:mp2"},
	{"more than 16 streams", padToDetect(pat(), pmt(pmtEntries(17)...)), "program without readable frames"},
	{"only subtitles", padToDetect(pat(), pmt(pmtEntry(streamPrivate, 0x101, "\x59\x00"))), "no program in the first"},
	{"undeclared AAC", padToDetect(pat(), pmt(pmtEntry(streamPrivate, 0x101, "\x0A\x04und\x00")),
		tsPacket(0x101, true, 0, pesWithPTS(90000, adts+adts))), "a1000 a1023"},
	{"undeclared AAC beside private data",
		padToDetect(pat(), pmt(pmtEntry(streamPrivate, 0x102, ""), pmtEntry(streamPrivate, 0x101, "")),
			tsPacket(0x102, true, 0, pesWithPTS(90000, "KLV"+adts)), tsPacket(0x101, true, 0, pesWithPTS(90000, adts+adts))),
		"a1000 a1023"},
	{"only private data", padToDetect(pat(), pmt(pmtEntry(streamPrivate, 0x101, "")),
		tsPacket(0x101, true, 0, pesWithPTS(90000, "KLV"))), "program without readable frames"},
	{"Opus", padToDetect(pat(), pmt(pmtEntry(streamPrivate, 0x101, "\x05\x04Opus"))), "audio:opus in ts"},
	{"two access units in a PES packet",
		padToDetect(pat(), pmt(pmtEntry(streamH264, 0x100, "")),
			tsPacket(0x100, true, 0, pesWithPTS(90000, code+aud+code+sps+code+pps+code+idr+code+aud+code+"\x41\x9A"))),
		"v1000/1000K v1040/1040"},
	{"access unit over two PES packets",
		padToDetect(pat(), pmt(pmtEntry(streamH264, 0x100, "")),
			tsPacket(0x100, true, 0, pesWithPTS(90000, code+aud+code+sps+code+pps+code+idr)),
			tsPacket(0x100, true, 1, "\x00\x00\x01\xE0\x00\x00\x80\x00\x00\x88\x88")), "v1000/1000K"},
	{"video without parameter sets",
		padToDetect(pat(), pmt(pmtEntry(streamH264, 0x100, "")),
			tsPacket(0x100, true, 0, pesWithPTS(90000, code+aud+code+idr))), "program without readable frames"},
	{"text", strings.Repeat("This is a text. ", 200), "no transport packets found"},
	{"empty", "", "no transport packets found"},
}

func describeFile(b string) string {
	r, err := NewReader(strings.NewReader(b), int64(len(b)))
	if err != nil {
		return err.Error()
	}
	var words []string
	for {
		m, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err.Error()
		}
		w := fmt.Sprintf("a%d", m.DTS.Round(time.Microsecond).Milliseconds())
		if m.Track.Kind == media.Video {
			w = fmt.Sprintf("v%d/%d", m.DTS.Milliseconds(), m.PTS.Milliseconds())
			if m.RAP == media.Keyframe {
				w += "K"
			}
		}
		words = append(words, w)
	}
	if len(words) == 0 {
		for _, s := range r.Streams() {
			words = append(words, s.Track.Kind.String()+":"+s.Track.Label)
		}
	}
	return strings.Join(words, " ")
}

// byKind sorts video before audio: they are complete at different times.
func byKind(s string) string {
	var v, a []string
	for _, w := range strings.Fields(s) {
		if w[0] == 'v' {
			v = append(v, w)
		} else {
			a = append(a, w)
		}
	}
	return strings.Join(append(v, a...), " ")
}

func TestReader(t *testing.T) {
	for _, tt := range tsFiles {
		got := describeFile(tt.file)
		exact := !strings.Contains(tt.want, " in ") || strings.Contains(tt.want, ":")
		if exact && byKind(got) != byKind(tt.want) && !strings.Contains(got, tt.want) || !exact &&
			!strings.Contains(got, tt.want) {
			t.Errorf("%s: %s\nwant %s", tt.name, got, tt.want)
		}
	}
	r, err := NewReader(strings.NewReader(tsFiles[0].file), int64(len(tsFiles[0].file)))
	if err != nil {
		t.Fatal(err)
	}
	if d := r.Duration(); d < 140*time.Millisecond || d > 180*time.Millisecond {
		t.Errorf("duration %v", d)
	}
	if s := r.Streams(); len(s) != 2 || s[1].Track.SampleRate != 44100 {
		t.Errorf("%+v", s)
	}
}

// TestReaderReturnsWhatWasWritten reads a stream that this package has written.
func TestReaderReturnsWhatWasWritten(t *testing.T) {
	file := sampleStream(0)
	r, err := NewReader(strings.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	var pictures []string
	for {
		m, err := r.Next()
		if err != nil {
			break
		}
		if m.Track.Kind == media.Video {
			pictures = append(pictures, string(m.Payload))
			if !bytes.Equal(m.Track.Config, []byte(avcC)) {
				t.Errorf("avcC %x, want %x", m.Track.Config, avcC)
			}
		}
	}
	if want := []string{avcc(idr), avcc("\x41\x9A"), avcc(idr), avcc("\x41\x9A")}; fmt.Sprintf("%x",
		pictures) != fmt.Sprintf("%x", want) {
		t.Errorf("%x, want %x", pictures, want)
	}
}

func TestReaderSeek(t *testing.T) {
	var b strings.Builder
	for i := range 100 { // 16 s; continuity counters restart each time
		b.WriteString(sampleStream(time.Duration(i) * 160e6))
	}
	r, err := NewReader(strings.NewReader(b.String()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	for to, want := range map[time.Duration]time.Duration{0: 0, 15 * time.Second: 14_880 * time.Millisecond,
		time.Hour: 15_920 * time.Millisecond, 170 * time.Millisecond: 80 * time.Millisecond} {
		if err := r.Seek(to); err != nil {
			t.Fatal(err)
		}
		if m, err := r.Next(); err != nil || m.DTS-12*time.Second != want || m.RAP != media.Keyframe {
			t.Errorf("to %v: %v, %v, want %v", to, m, err, want)
		}
	}
}

func FuzzFile(f *testing.F) {
	for _, tt := range tsFiles {
		f.Add([]byte(tt.file))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for range 1000 {
			m, err := r.Next()
			if err != nil {
				break
			}
			if len(m.Payload) == 0 || len(m.Payload) > 2*len(b) {
				t.Fatalf("%+v", m)
			}
		}
		if len(r.demux.streams) > maxStreams {
			t.Errorf("%d streams", len(r.demux.streams))
		}
		_ = r.Seek(time.Second)
	})
}

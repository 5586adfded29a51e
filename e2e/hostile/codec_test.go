package hostile

import (
	"fmt"
	"math"
	"slices"
)

// videoRows send invalid video. An invalid frame is skipped and the next valid one is served,
// however many invalid ones there were.
func videoRows() []row {
	frames := func(bodies ...[]byte) func(*peer) {
		return func(p *peer) {
			p.t.Helper()
			p.ChunkSize = 1 << 20
			p.send(control(setChunkSize, be32(1<<20)))
			for _, b := range bodies {
				p.frame(b)
			}
		}
	}
	skipped := func(name string, bodies ...[]byte) row {
		return row{name: name, at: publishing, do: frames(bodies...), want: worksAfterReconfigure}
	}
	units := func(b ...[]byte) []byte { return join([]byte{0x27, 1, 0, 0, 0}, join(b...)) }
	rows := []row{
		skipped("tags of 0 to 4 bytes", []byte{}, []byte{0x17}, []byte{0x17, 1}, []byte{0x17, 1, 0},
			[]byte{0x17, 1, 0, 0}),
		skipped("frame without content", []byte{0x17, 1, 0, 0, 0}),
		skipped("1000 bad frames", slices.Repeat([][]byte{{0x17}}, 1000)...),
		skipped("composition times", join([]byte{0x17, 1, 0x80, 0, 0}, nal([]byte{0x65})),
			join([]byte{0x17, 1, 0x7f, 0xff, 0xff}, nal([]byte{0x65}))),
		skipped("NAL unit of length 0", units(be32(0))),
		skipped("NAL unit of length 0xFFFFFFFF", units(be32(0xffffffff), []byte{0x41})),
		skipped("NAL unit longer than the rest", units(be32(100), []byte{0x41})),
		skipped("truncated NAL unit length", units([]byte{0, 0, 1})),
		skipped("100,000 NAL units of one byte", units(slices.Repeat(nal([]byte{0x41}), 100_000))),
		// Decoders ignore these units: the picture is served.
		{name: "NAL units of unspecified types around a picture", at: publishing, do: func(p *peer) {
			p.deliver(join([]byte{0x17, 1, 0, 0, 0}, nal([]byte{24, 1}), nal([]byte{0, 1}), nal([]byte{0x65, 1}),
				nal([]byte{31, 1})))
		}, want: works},
		{name: "zero bytes after a picture", at: publishing, do: func(p *peer) {
			body := keyFrame([]byte("padded"))
			p.deliverAs(p.video(join(body, []byte{0, 0, 0, 0, 0})).Chunks(p.ChunkSize), body)
		}, want: works},
		{name: "an empty NAL unit before a picture", at: publishing, do: func(p *peer) {
			body := keyFrame([]byte("behind nothing"))
			p.deliverAs(p.video(join(body[:5], be32(0), body[5:])).Chunks(p.ChunkSize), body)
		}, want: works},
		{name: "a delimiter of one byte before a picture", at: publishing, do: func(p *peer) {
			body := keyFrame([]byte("delimited"))
			p.deliverAs(p.video(join(body[:5], nal([]byte{9}), body[5:])).Chunks(p.ChunkSize), body)
		}, want: works},
		{name: "Annex B picture", at: publishing, do: func(p *peer) {
			p.deliverAs(p.video([]byte{0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x65, 1, 2, 3, 4, 5}).Chunks(p.ChunkSize),
				join([]byte{0x17, 1, 0, 0, 0}, nal([]byte{0x65, 1, 2, 3, 4, 5})))
		}, want: works},
		skipped("Annex B", units([]byte{0, 0, 0, 1, 0x65, 1, 2, 3, 0, 0, 1, 0x41})),
		skipped("NAL types 0 and 24 to 31", units(nal([]byte{0})), units(nal([]byte{24}, nal([]byte{0x65}))),
			units(nal([]byte{28})), units(nal([]byte{31}))),
		skipped("forbidden bit", units(nal([]byte{0xe5, 1}))),
		skipped("parameter sets within a frame",
			units(nal([]byte{0x67, 0x42, 0, 0x1e}), nal([]byte{0x68, 0xce}), nal([]byte{0x65, 1}))),
		skipped("no FourCC", []byte{0x90}, []byte{0x91, 'h'}, []byte{0x91, 'h', 'v', 'c'}),
		skipped("invalid FourCC", []byte{0x91, 'n', 'o', 'n', 'e', 1}, []byte{0x91, 0, 0, 0, 0, 1},
			[]byte{0x91, 0xff, 0xfe, 0xfd, 0xfc, 1}),
		skipped("sequence start without content", []byte{0x90, 'h', 'v', 'c', '1'}, []byte{0x90, 'a', 'v', '0', '1'}),
		skipped("sequence end first", []byte{0x92, 'h', 'v', 'c', '1'}, []byte{0x17, 2, 0, 0, 0}),
		skipped("modifiers", []byte{0x97, 255, 255, 255, 1}, []byte{0x97, 2, 0, 0}, []byte{0x97},
			join([]byte{0x97}, slices.Repeat([]byte{0, 0, 7}, 10_000))),
		skipped("multitrack in multitrack", []byte{0x96, 0x06, 'h', 'v', 'c', '1', 0, 1, 2}),
		skipped("tracks that end early", []byte{0x96}, []byte{0x96, 0x11, 'h', 'v', 'c', '1'},
			[]byte{0x96, 0x11, 'h', 'v', 'c', '1', 0, 0xff, 0xff, 0xff, 1},
			[]byte{0x96, 0x21, 'h', 'v'}, join([]byte{0x96, 0x11, 'h', 'v', 'c', '1'}, make([]byte, 4*100_000))),
		skipped("256 tracks", everyTrack()...),
		skipped("color info", metadata(nil), metadata(amf(7)), metadata(amf("colorInfo")),
			metadata(amf("colorInfo", "x")),
			metadata(amf("colorInfo", object{"hdrCll", object{"maxCLL", math.NaN()}})),
			metadata(slices.Repeat(raw{3, 0, 1, 'a'}, 100)), metadata(filler(1<<20))),
		{name: "1000 color infos", at: publishing, do: func(p *peer) {
			for n := range 1000 {
				p.frame(metadata(amf("colorInfo", object{"hdrCll", object{"maxCLL", n + 1}})))
			}
		}, want: works},
		skipped("AV1 without configuration", join([]byte{0x91, 'a', 'v', '0', '1'}, slices.Repeat([]byte{0xff}, 20)),
			[]byte{0x90, 'a', 'v', '0', '1', 0, 0, 0, 0}),
		skipped("HEVC configurations", hevcHeader(nil), hevcHeader(make([]byte, 22)),
			hevcHeader([]byte{1}, make([]byte, 21), []byte{255}),
			hevcHeader([]byte{1}, make([]byte, 21), []byte{1, 0x21, 0xff, 0xff})),
		// The parser decides where a viewer may start, not the flag of the tag.
		{name: "keyframe flag on an inter frame", at: publishing, do: func(p *peer) {
			body := join([]byte{0x17, 1, 0, 0, 0}, nal([]byte{0x41}, []byte("a false key frame")))
			p.frame(body)
			real := p.newKeyFrame()
			if first := p.firstPicture(); string(first) != string(real) {
				p.t.Errorf("the viewer starts with %q", first)
			}
		}, want: works},
		{name: "new picture size with each frame", at: publishing, do: func(p *peer) {
			for n := range 100 {
				p.frame(join([]byte{0x17, 0, 0, 0, 0}, avcConfig([]byte{0x67, 0x42, 0, byte(n), 0x80})))
				p.newKeyFrame()
			}
		}, want: endsPublisher("too many configuration changes")},
		{name: "SEI of a megabyte", at: publishing, do: func(p *peer) {
			p.deliver(join([]byte{0x17, 1, 0, 0, 0}, nal([]byte{6, 5}, filler(1<<20)), nal([]byte{0x65, 1})))
		}},
		{name: "100 keyframes", at: publishing, do: func(p *peer) {
			for range 100 {
				p.newKeyFrame()
			}
		}, want: works},
	}
	for n := range byte(16) {
		rows = append(rows, skipped(fmt.Sprintf("codec %d", n), []byte{0x10 | n, 1, 0, 0, 0, 1, 2, 3}))
		if n >= 3 {
			rows = append(rows, skipped(fmt.Sprintf("packet type %d", n), []byte{0x17, n, 0, 0, 0, 1, 2, 3}))
		}
		if n < 8 {
			rows = append(rows, skipped(fmt.Sprintf("frame type %d", n),
				join([]byte{n<<4 | 7, 1, 0, 0, 0}, nal([]byte{0x41, 1}))))
			rows = append(rows, skipped(fmt.Sprintf("video packet type %d", n+8),
				[]byte{0x90 | (n + 8), 'h', 'v', 'c', '1', 1, 2, 3}))
		}
	}
	for name, config := range map[string][]byte{
		"without content": nil, "of version 2": {2, 0x42, 0, 0x1e, 0xff, 0xe0, 0},
		"with 31 missing parameter sets": {1, 0x42, 0, 0x1e, 0xff, 0xff, 0xff, 0xff},
		"with lengths of three bytes":    {1, 0x42, 0, 0x1e, 0xfe, 0xe0, 0},
	} {
		rows = append(rows, skipped("configuration "+name, join([]byte{0x17, 0, 0, 0, 0}, config)))
	}
	for name, sps := range map[string][]byte{
		"of zeros": make([]byte, 40), "of ones": slices.Repeat([]byte{0xff}, 40),
		"of profile 255": {0x67, 255, 0, 0xff, 0xff}, "truncated": {0x67},
		"without an end":                    {0x67, 0x42, 0, 0x1e, 0, 0, 0, 0, 1},
		"with scaling lists without an end": join([]byte{0x67, 100, 0, 0x1e, 0xad}, slices.Repeat([]byte{0x55}, 60)),
		"with emulation bytes at its end":   {0x67, 0x42, 0, 0x1e, 0x95, 0, 0, 3},
		"with a cycle of 2³² frames": join([]byte{0x67, 0x42, 0, 0x1e, 0xd8}, make([]byte, 4),
			slices.Repeat([]byte{0xff}, 40)),
	} {
		rows = append(rows, row{name: "SPS " + name, at: publishing,
			do: frames(join([]byte{0x17, 0, 0, 0, 0}, avcConfig(sps))), want: works})
	}
	return rows
}

// metadata returns the body of a video message with color info.
func metadata(b []byte) []byte { return join([]byte{0x94, 'a', 'v', 'c', '1'}, b) }

// everyTrack returns a configuration for each possible track.
func everyTrack() (bodies [][]byte) {
	for id := range 256 {
		bodies = append(bodies, join([]byte{0x96, 0x00, 'a', 'v', 'c', '1', byte(id)}, avcHeader[5:]))
	}
	return bodies
}

// worksAfterReconfigure is works for a session whose configuration the row may have replaced.
func worksAfterReconfigure(p *peer) {
	p.t.Helper()
	p.frame(avcHeader)
	works(p)
}

// avcConfig returns an AVCDecoderConfigurationRecord with this SPS.
func avcConfig(sps []byte) []byte {
	return join([]byte{1, 0x42, 0, 0x1e, 0xff, 0xe1, byte(len(sps) >> 8), byte(len(sps))}, sps,
		[]byte{1, 0, 2, 0x68, 0xce})
}

// hevcHeader returns the body of a video message with an HEVC configuration.
func hevcHeader(config ...[]byte) []byte {
	return join([]byte{0x90, 'h', 'v', 'c', '1'}, join(config...))
}

// firstPicture returns the body of the first picture that a new viewer gets.
func (p *peer) firstPicture() []byte {
	p.t.Helper()
	p.settle()
	v := p.on.watch(p.t, p.room)
	for {
		got, err := v.next()
		if err != nil {
			p.t.Fatal(err)
		}
		if got.typ == video && got.body[1] != 0 {
			return got.body
		}
	}
}

// audioRows send invalid audio, beside valid video.
func audioRows() []row {
	skipped := func(name string, bodies ...[]byte) row {
		return row{name: name, at: publishing, do: func(p *peer) {
			p.t.Helper()
			p.ChunkSize = 1 << 20
			p.send(control(setChunkSize, be32(1<<20)))
			for _, b := range bodies {
				p.send(message{CSID: 4, Type: audio, StreamID: p.StreamID, Time: p.time, Payload: b}.Chunks(p.ChunkSize))
			}
		}, want: works}
	}
	aac := func(b []byte) []byte { return join([]byte{0xaf, 1}, b) }
	opus := func(b ...byte) []byte { return join([]byte{0x90, 'O', 'p', 'u', 's'}, []byte("OpusHead"), b) }
	rows := []row{
		skipped("tags of 0 and 1 bytes", []byte{}, []byte{0xaf}),
		skipped("AAC before its configuration", slices.Repeat([][]byte{aac([]byte{1, 2, 3})}, 1000)...),
		skipped("AAC without content", aacHeader, aac(nil), aac(nil)),
		skipped("AAC frames of odd lengths", aacHeader, aac(nil), aac(filler(8190)), aac(filler(64<<10))),
		skipped("AAC configurations", []byte{0xaf, 0}, []byte{0xaf, 0, 0x12}, []byte{0xaf, 0, 0xff, 0xff},
			[]byte{0xaf, 0, 0x17, 0x90}, []byte{0xaf, 0, 0, 0}),
		skipped("AAC packet types", []byte{0xaf, 2, 1}, []byte{0xaf, 255, 1}),
		skipped("Opus headers", opus(), opus(1, 0), opus(1, 255, 0, 0, 0x80, 0xbb, 0, 0, 0, 0, 1),
			opus(1, 3, 0, 0, 0x80, 0xbb, 0, 0, 0, 0, 0)),
		skipped("invalid FourCC", []byte{0x91, 'n', 'o', 'n', 'e', 1}, []byte{0x91, 'O'}, []byte{0x91}),
		skipped("channel configurations", []byte{0x94, 'O', 'p', 'u', 's'}, []byte{0x94, 'O', 'p', 'u', 's', 0, 0},
			[]byte{0x94, 'O', 'p', 'u', 's', 1, 255, 1}, []byte{0x94, 'O', 'p', 'u', 's', 15, 2},
			[]byte{0x94, 'O', 'p', 'u', 's', 2, 2, 0}),
		skipped("invalid MP3", []byte{0x2f, 1, 2, 3}, []byte{0x2f, 0xff, 0xff, 0xff, 0xff}, []byte{0x2f}),
	}
	for n := range byte(16) {
		rows = append(rows, skipped(fmt.Sprintf("sound format %d", n), []byte{n<<4 | 0xf, 1, 2, 3}))
		rows = append(rows, skipped(fmt.Sprintf("audio packet type %d", n),
			[]byte{0x90 | n, 'O', 'p', 'u', 's', 1, 2, 3}))
	}
	return rows
}

package e2e

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/e2e/essence"
	"livego/e2e/rig"
	"livego/e2e/rtmp"
	"livego/e2e/sample"
)

// pushNewer sends the sample to a room by the newer ffmpeg, with all its tracks.
func (src source) pushNewer(t testing.TB, s *rig.Server, room string) *rig.Process {
	t.Helper()
	return rig.NewerFFmpeg(t, src.bytes(t), "-re", "-i", "pipe:0", "-map", "0", "-c", "copy", "-f", "flv", s.RTMP(s.Key(room)))
}

func (src source) bytes(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile(src.File(t))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// watchNewer plays url with the newer ffmpeg; more goes before the output.
func watchNewer(t testing.TB, url string, more ...string) *rig.Process {
	t.Helper()
	return rig.NewerFFmpeg(t, nil, append(append(append([]string{"-v", "debug"}, copyArgs(url)...), more...), "-f", "framemd5", "pipe:1")...)
}

// waitNewer is watchNewer of an RTMP address that returns when ffmpeg has asked to play.
func waitNewer(t testing.TB, url string, more ...string) *rig.Process {
	t.Helper()
	p := watchNewer(t, url, more...)
	p.AwaitStderr(patience, func(s string) bool { return strings.Contains(s, "Sending play command") })
	return p
}

// TestCodecs pushes every codec that Enhanced RTMP has a name for, and plays it over RTMP, HTTP-FLV and both forms of HLS, and as it
// was recorded.
func TestCodecs(t *testing.T) {
	rig.NeedNewer(t)
	server, dir := startRecording(t, rig.Options{})
	for _, sam := range sample.Enhanced() {
		t.Run(sam.Name, func(t *testing.T) {
			t.Parallel()
			s, src, room := server.In(t), load(t, sam), sam.Name
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			early := waitNewer(t, s.RTMP(room))
			push := src.pushNewer(t, s, room)
			s.AwaitLive(room)
			flv := async(func() (*essence.FLVFile, error) { return watchFLV(ctx, rig.Client(), s.FLV(room)) })
			late := watchNewer(t, s.FLV(room))
			push.OK(patience)

			m := check(t, "RTMP, waiting before the push", src.packets, frames(t, early), essence.Millisecond)
			if m.Video.First != 0 {
				t.Errorf("RTMP: who waited starts at picture %d", m.Video.First)
			}
			check(t, "HTTP-FLV by ffmpeg", src.packets, frames(t, late), essence.Millisecond)
			got, err := flv()
			if err != nil {
				t.Fatalf("HTTP-FLV: %v", err)
			}
			packets, err := got.Packets()
			if err != nil {
				t.Fatalf("HTTP-FLV: %v", err)
			}
			check(t, "HTTP-FLV", src.packets, packets, essence.Millisecond)
			if want := src.file.FourCCs(); !slices.Equal(slices.Sorted(slices.Values(got.FourCCs())), slices.Sorted(slices.Values(want))) {
				t.Errorf("HTTP-FLV: codecs %q, want %q", got.FourCCs(), want)
			}
			if got := src.checkRecording(t, s, dir, room).FourCCs(); !slices.Equal(got, src.file.FourCCs()) {
				t.Errorf("recording: codecs %q, want %q", got, src.file.FourCCs())
			}
			src.checkForms(t, s, room)
		})
	}
}

// TestOldHEVC asks for the form that HEVC had before Enhanced RTMP.
func TestOldHEVC(t *testing.T) {
	rig.NeedNewer(t)
	t.Parallel()
	s, src := rig.Start(t, rig.Options{}), load(t, sample.Enhanced()[0])
	push := src.pushNewer(t, s, "movie")
	s.AwaitLive("movie")
	got, err := watchFLV(t.Context(), rig.Client(), s.FLV("movie")+"?hevc=12")
	push.OK(patience)
	if err != nil {
		t.Fatal(err)
	}
	packets, err := got.Packets()
	if err != nil {
		t.Fatal(err)
	}
	check(t, "HTTP-FLV", src.packets, packets, essence.Millisecond)
	if codecs := got.FourCCs(); len(codecs) > 0 {
		t.Errorf("codecs %q are in FourCC form", codecs)
	}
}

// TestListedCodecs plays with a list of codecs that lacks what the stream has, and with one that has it.
func TestListedCodecs(t *testing.T) {
	rig.NeedNewer(t)
	t.Parallel()
	s, src := rig.Start(t, rig.Options{}), load(t, sample.Enhanced()[0])
	refused := rig.NewerFFmpeg(t, nil, append([]string{"-rtmp_enhanced_codecs", "av01,vp09"}, append(copyArgs(s.RTMP("movie")), "-f", "null", "-")...)...)
	able := rig.NewerFFmpeg(t, nil, append([]string{"-rtmp_enhanced_codecs", "av01,hvc1"}, append(copyArgs(s.RTMP("movie")), "-f", "framemd5", "pipe:1")...)...)
	push := src.pushNewer(t, s, "movie")
	if code := refused.Wait(patience); code == 0 || !strings.Contains(refused.Stderr(), "hvc1") {
		t.Errorf("exit code %d, and it was told %q", code, refused.Stderr())
	}
	push.OK(patience)
	check(t, "RTMP", src.packets, frames(t, able), essence.Millisecond)
}

// TestTracks pushes two pictures and three sounds. Most players get the first of each; who asks for all gets all.
func TestTracks(t *testing.T) {
	rig.NeedNewer(t)
	t.Parallel()
	s, src := rig.Start(t, rig.Options{}), load(t, sample.Tracks())
	plain := waitNewer(t, s.RTMP("movie"))
	all := waitNewer(t, s.RTMP("movie?tracks=all"), "-map", "0")
	push := src.pushNewer(t, s, "movie")
	s.AwaitLive("movie")
	flv := async(func() (*essence.FLVFile, error) {
		return watchFLV(t.Context(), rig.Client(), s.FLV("movie")+"?tracks=all")
	})
	one := async(func() (*essence.FLVFile, error) { return watchFLV(t.Context(), rig.Client(), s.FLV("movie")) })
	hls := async(func() (hlsView, error) { return watchHLS(t.Context(), rig.Client(), s.HLS("movie")) })
	push.OK(patience)

	first := src.packets.Track(0)
	check(t, "RTMP", first, frames(t, plain), essence.Millisecond)
	received := renumber(src.packets, frames(t, all))
	for n := range 3 {
		check(t, "RTMP, all", src.packets.Track(n), received.Track(n), essence.Millisecond)
	}
	got, err := flv()
	if err != nil {
		t.Fatal(err)
	}
	packets, err := got.Packets()
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		check(t, "HTTP-FLV, all", src.packets.Track(n), packets.Track(n), essence.Millisecond)
	}
	if got, err = one(); err != nil {
		t.Fatal(err)
	}
	if packets, err = got.Packets(); err != nil {
		t.Fatal(err)
	}
	check(t, "HTTP-FLV", first, packets, essence.Millisecond)
	view, err := hls()
	if err != nil {
		t.Fatal(err)
	}
	check(t, "HLS", src.essence.Track(0), view.units, essence.TSTick)
}

// TestNoTrack0 pushes tracks 1 and 2, but no track 0: the lowest number of each kind is the first.
func TestNoTrack0(t *testing.T) {
	rig.NeedNewer(t)
	t.Parallel()
	s, src := rig.Start(t, rig.Options{}), load(t, sample.Tracks())
	plain := waitNewer(t, s.RTMP("movie"))
	pushed := async(func() (any, error) { return nil, pushTags(s.Addr("rtmp_addr"), s.Key("movie"), src.numbered()) })
	s.AwaitLive("movie")
	flv := async(func() (*essence.FLVFile, error) { return watchFLV(t.Context(), rig.Client(), s.FLV("movie")) })
	if _, err := pushed(); err != nil {
		t.Fatal(err)
	}
	first := zero(src.packets.Track(1))
	check(t, "RTMP", first, frames(t, plain), essence.Millisecond)
	got, err := flv()
	if err != nil {
		t.Fatal(err)
	}
	packets, err := got.Packets()
	if err != nil {
		t.Fatal(err)
	}
	check(t, "HTTP-FLV", first, packets, essence.Millisecond)
	mp4 := endedHLS(t, s.HLS("movie"), "index.m3u8")
	check(t, "HLS", first, frames(t, rig.NewerFFmpeg(t, mp4, append(copyArgs("pipe:0"), "-f", "framemd5", "pipe:1")...)), essence.Millisecond)
}

// numbered returns the tags of src that say which track they are of: all but those of track 0.
func (src source) numbered() (tags []essence.FLVTag) {
	for _, tag := range src.file.Tags {
		if tag.Multitrack() {
			tags = append(tags, tag)
		}
	}
	return tags
}

// zero returns s as its tracks' only units.
func zero(s essence.Stream) essence.Stream {
	s = slices.Clone(s)
	for i := range s {
		s[i].Track = 0
	}
	return s
}

// pushTags publishes tags with a key, each at its time.
func pushTags(addr, key string, tags []essence.FLVTag) error {
	return pushTagsThen(addr, key, tags, func() error { return nil })
}

// pushTagsThen is pushTags that calls then before it ends the stream.
func pushTagsThen(addr, key string, tags []essence.FLVTag, then func() error) error {
	c, err := rtmp.Open(net.Dialer{}, addr, "live", patience)
	if err != nil {
		return err
	}
	defer c.NC.Close()
	if err = c.Publish(key); err == nil {
		err = c.Started("NetStream.Publish.Start", patience)
	}
	if err != nil {
		return err
	}
	began := time.Now()
	for len(tags) > 0 {
		at, wire := tags[0].Time, []byte(nil)
		for ; len(tags) > 0 && tags[0].Time == at; tags = tags[1:] { // the parts of a picture leave together
			tag := tags[0]
			m := rtmp.Message{CSID: 4 + int(tag.Type)%2, Type: tag.Type, StreamID: c.StreamID, Time: tag.Time, Payload: tag.Body}
			wire = append(wire, m.Chunks(c.Out)...)
		}
		<-time.After(time.Until(began.Add(time.Duration(at) * time.Millisecond)))
		if _, err := c.NC.Write(wire); err != nil {
			return err
		}
	}
	return c.Unpublish(key)
}

// renumber gives the tracks of got the numbers of those of src that they have the most of: ffmpeg numbers tracks as they come.
func renumber(src, got essence.Stream) essence.Stream {
	type track struct {
		kind   essence.Kind
		number int
	}
	numbers := map[track]map[string]int{} // of src, by the bytes of a unit
	for _, u := range src {
		k := track{u.Kind, u.Track}
		if numbers[k] == nil {
			numbers[k] = map[string]int{}
		}
		numbers[k][u.Sum]++
	}
	shared := map[track]map[int]int{} // how much of each track of src a track of got has
	for _, u := range got {
		k := track{u.Kind, u.Track}
		if shared[k] == nil {
			shared[k] = map[int]int{}
		}
		for of, sums := range numbers {
			if of.kind == u.Kind && sums[u.Sum] > 0 {
				shared[k][of.number]++
			}
		}
	}
	got = slices.Clone(got)
	for i, u := range got {
		most := 0
		for number, n := range shared[track{u.Kind, u.Track}] {
			if n > most {
				most, got[i].Track = n, number
			}
		}
	}
	return got
}

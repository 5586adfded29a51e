package e2e

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/rtmp"
	"livego/e2e/sample"
)

// pushNewer publishes the sample to a room by the newer ffmpeg, with all its tracks.
func (src source) pushNewer(t testing.TB, s *harness.Server, room string) *harness.Process {
	t.Helper()
	return harness.NewerFFmpeg(t, src.bytes(t), "-re", "-i", "pipe:0", "-map", "0", "-c", "copy", "-f", "flv",
		s.RTMP(s.Key(room)))
}

func (src source) bytes(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile(src.File(t))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// watchNewer plays url with the newer ffmpeg. The arguments in more precede the output.
func watchNewer(t testing.TB, url string, more ...string) *harness.Process {
	t.Helper()
	return harness.NewerFFmpeg(t, nil,
		append(append(append([]string{"-v", "debug"}, copyArgs(url)...), more...), "-f", "framemd5", "pipe:1")...)
}

// watchNewerEarly is watchNewer for an RTMP URL that is not published yet. It returns when ffmpeg
// has sent play.
func watchNewerEarly(t testing.TB, url string, more ...string) *harness.Process {
	t.Helper()
	p := watchNewer(t, url, more...)
	p.AwaitStderr(patience, func(s string) bool { return strings.Contains(s, "Sending play command") })
	return p
}

// TestEnhancedRTMPCodecs pushes every codec for which Enhanced RTMP has a FourCC, and plays it by
// RTMP, HTTP-FLV, both formats of HLS, and from the recording.
func TestEnhancedRTMPCodecs(t *testing.T) {
	harness.NeedNewerFFmpeg(t)
	server, dir := startRecording(t, harness.Options{})
	for _, sam := range sample.Enhanced() {
		t.Run(sam.Name, func(t *testing.T) {
			t.Parallel()
			s, src, room := server.WithT(t), load(t, sam), sam.Name
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			early := watchNewerEarly(t, s.RTMP(room))
			push := src.pushNewer(t, s, room)
			s.AwaitLive(room)
			flv := async(func() (*mediacompare.FLVFile, error) { return watchFLV(ctx, harness.Client(), s.FLV(room)) })
			late := watchNewer(t, s.FLV(room))
			push.WaitOK(patience)

			m := check(t, "RTMP, waiting before the push", src.packets, frames(t, early), mediacompare.Millisecond)
			if m.Video.First != 0 {
				t.Errorf("RTMP: the viewer that waited starts at picture %d", m.Video.First)
			}
			check(t, "HTTP-FLV by ffmpeg", src.packets, frames(t, late), mediacompare.Millisecond)
			got, err := flv()
			if err != nil {
				t.Fatalf("HTTP-FLV: %v", err)
			}
			packets, err := got.Packets()
			if err != nil {
				t.Fatalf("HTTP-FLV: %v", err)
			}
			check(t, "HTTP-FLV", src.packets, packets, mediacompare.Millisecond)
			if want := src.file.FourCCs(); !slices.Equal(slices.Sorted(slices.Values(got.FourCCs())),
				slices.Sorted(slices.Values(want))) {
				t.Errorf("HTTP-FLV: codecs %q, want %q", got.FourCCs(), want)
			}
			if got := src.checkRecording(t, s, dir, room).FourCCs(); !slices.Equal(got, src.file.FourCCs()) {
				t.Errorf("recording: codecs %q, want %q", got, src.file.FourCCs())
			}
			src.checkHLSFormats(t, s, room)
		})
	}
}

// TestLegacyHEVC requests the form that HEVC had before Enhanced RTMP.
func TestLegacyHEVC(t *testing.T) {
	harness.NeedNewerFFmpeg(t)
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.Enhanced()[0])
	push := src.pushNewer(t, s, "movie")
	s.AwaitLive("movie")
	got, err := watchFLV(t.Context(), harness.Client(), s.FLV("movie")+"?hevc=12")
	push.WaitOK(patience)
	if err != nil {
		t.Fatal(err)
	}
	packets, err := got.Packets()
	if err != nil {
		t.Fatal(err)
	}
	check(t, "HTTP-FLV", src.packets, packets, mediacompare.Millisecond)
	if codecs := got.FourCCs(); len(codecs) > 0 {
		t.Errorf("codecs %q are in FourCC form", codecs)
	}
}

// TestCodecListOfPlayer plays with a list of codecs that lacks the stream's codec, and with one
// that has it.
func TestCodecListOfPlayer(t *testing.T) {
	harness.NeedNewerFFmpeg(t)
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.Enhanced()[0])
	refused := harness.NewerFFmpeg(t, nil,
		append([]string{"-rtmp_enhanced_codecs", "av01,vp09"}, append(copyArgs(s.RTMP("movie")), "-f", "null", "-")...)...)
	able := harness.NewerFFmpeg(t, nil,
		append([]string{"-rtmp_enhanced_codecs", "av01,hvc1"},
			append(copyArgs(s.RTMP("movie")), "-f", "framemd5", "pipe:1")...)...)
	push := src.pushNewer(t, s, "movie")
	if code := refused.Wait(patience); code == 0 || !strings.Contains(refused.Stderr(), "hvc1") {
		t.Errorf("exit code %d, and ffmpeg printed %q", code, refused.Stderr())
	}
	push.WaitOK(patience)
	check(t, "RTMP", src.packets, frames(t, able), mediacompare.Millisecond)
}

// TestMultitrack pushes two video tracks and three audio tracks. A player gets the first of each
// kind; one that requests all gets all.
func TestMultitrack(t *testing.T) {
	harness.NeedNewerFFmpeg(t)
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.Tracks())
	plain := watchNewerEarly(t, s.RTMP("movie"))
	all := watchNewerEarly(t, s.RTMP("movie?tracks=all"), "-map", "0")
	push := src.pushNewer(t, s, "movie")
	s.AwaitLive("movie")
	flv := async(func() (*mediacompare.FLVFile, error) {
		return watchFLV(t.Context(), harness.Client(), s.FLV("movie")+"?tracks=all")
	})
	one := async(func() (*mediacompare.FLVFile, error) { return watchFLV(t.Context(), harness.Client(), s.FLV("movie")) })
	hls := async(func() (hlsView, error) { return watchHLS(t.Context(), harness.Client(), s.HLS("movie")) })
	push.WaitOK(patience)

	first := src.packets.Track(0)
	check(t, "RTMP", first, frames(t, plain), mediacompare.Millisecond)
	received := matchTracks(src.packets, frames(t, all))
	for n := range 3 {
		check(t, "RTMP, all", src.packets.Track(n), received.Track(n), mediacompare.Millisecond)
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
		check(t, "HTTP-FLV, all", src.packets.Track(n), packets.Track(n), mediacompare.Millisecond)
	}
	if got, err = one(); err != nil {
		t.Fatal(err)
	}
	if packets, err = got.Packets(); err != nil {
		t.Fatal(err)
	}
	check(t, "HTTP-FLV", first, packets, mediacompare.Millisecond)
	view, err := hls()
	if err != nil {
		t.Fatal(err)
	}
	check(t, "HLS", src.decoderUnits.Track(0), view.units, mediacompare.TSTick)
}

// TestLowestTrackIsDefault pushes tracks 1 and 2, but no track 0: the lowest number of each kind is
// the default.
func TestLowestTrackIsDefault(t *testing.T) {
	harness.NeedNewerFFmpeg(t)
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.Tracks())
	plain := watchNewerEarly(t, s.RTMP("movie"))
	pushed := async(func() (any, error) {
		return nil,
			pushTags(s.Addr("rtmp_addr"), s.Key("movie"), src.multitrackTags())
	})
	s.AwaitLive("movie")
	flv := async(func() (*mediacompare.FLVFile, error) { return watchFLV(t.Context(), harness.Client(), s.FLV("movie")) })
	if _, err := pushed(); err != nil {
		t.Fatal(err)
	}
	first := trackZero(src.packets.Track(1))
	check(t, "RTMP", first, frames(t, plain), mediacompare.Millisecond)
	got, err := flv()
	if err != nil {
		t.Fatal(err)
	}
	packets, err := got.Packets()
	if err != nil {
		t.Fatal(err)
	}
	check(t, "HTTP-FLV", first, packets, mediacompare.Millisecond)
	mp4 := downloadEndedHLS(t, s.HLS("movie"), "index.m3u8")
	check(t, "HLS", first, frames(t,
		harness.NewerFFmpeg(t, mp4, append(copyArgs("pipe:0"), "-f", "framemd5", "pipe:1")...)), mediacompare.Millisecond)
}

// multitrackTags returns the tags of src that number their track: all but those of track 0.
func (src source) multitrackTags() (tags []mediacompare.FLVTag) {
	for _, tag := range src.file.Tags {
		if tag.Multitrack() {
			tags = append(tags, tag)
		}
	}
	return tags
}

// trackZero returns s with all units in track 0.
func trackZero(s mediacompare.Stream) mediacompare.Stream {
	s = slices.Clone(s)
	for i := range s {
		s[i].Track = 0
	}
	return s
}

// pushTags publishes tags with a stream key, each at its time.
func pushTags(addr, key string, tags []mediacompare.FLVTag) error {
	return pushTagsThen(addr, key, tags, func() error { return nil })
}

// pushTagsThen is pushTags that calls then before it ends the stream.
func pushTagsThen(addr, key string, tags []mediacompare.FLVTag, then func() error) error {
	timed := make([]sample.TimedTag, len(tags))
	for i, tag := range tags {
		timed[i] = sample.TimedTag{FLVTag: tag, At: time.Duration(tag.Time) * time.Millisecond}
	}
	return pushTimed(addr, key, timed, then)
}

// pushTimed publishes tags with a stream key, each when it is due, and calls then before it ends the
// stream.
func pushTimed(addr, key string, tags []sample.TimedTag, then func() error) error {
	c, err := rtmp.Dial(net.Dialer{}, addr, "live", patience)
	if err != nil {
		return err
	}
	defer c.NetConn.Close()
	if err = c.Publish(key); err == nil {
		err = c.AwaitStart("NetStream.Publish.Start", patience)
	}
	if err != nil {
		return err
	}
	began := time.Now()
	for len(tags) > 0 {
		at, wire := tags[0].At, []byte(nil)
		for ; len(tags) > 0 && tags[0].At == at; tags = tags[1:] { // the parts of a picture are sent together
			tag := tags[0]
			m := rtmp.Message{CSID: 4 + int(tag.Type)%2, Type: tag.Type, StreamID: c.StreamID, Time: tag.Time, Payload: tag.Body}
			wire = append(wire, m.Chunks(c.ChunkSize)...)
		}
		<-time.After(time.Until(began.Add(at)))
		if _, err := c.NetConn.Write(wire); err != nil {
			return err
		}
	}
	if err := then(); err != nil {
		return err
	}
	return c.Unpublish(key)
}

// matchTracks returns got with the track numbers of src, because ffmpeg numbers tracks in the order
// in which they appear. A track gets the number of the track in src with which it shares the most
// units.
func matchTracks(src, got mediacompare.Stream) mediacompare.Stream {
	type track struct {
		kind   mediacompare.Kind
		number int
	}
	numbers := map[track]map[string]int{} // units of each track of src, by their sum
	for _, u := range src {
		k := track{u.Kind, u.Track}
		if numbers[k] == nil {
			numbers[k] = map[string]int{}
		}
		numbers[k][u.Sum]++
	}
	shared := map[track]map[int]int{} // for each track of got, the units that it shares with each track of src
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

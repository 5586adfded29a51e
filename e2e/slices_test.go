package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/rtmp"
	"livego/e2e/sample"
)

// TestSlicesJoinIntoPictures has encoders send each NAL unit in a message of its own, and each
// slice with the NAL units before it: every output has the pictures that were encoded, byte for
// byte.
func TestSlicesJoinIntoPictures(t *testing.T) {
	harness.Need(t, "ffmpeg")
	server, dir := startRecording(t, harness.Options{})
	for _, sam := range sample.Slices() {
		for how, cut := range map[string]func(units [][]byte, hevc bool) [][][]byte{"NAL units": eachUnit,
			"slices": eachSlice} {
			t.Run(sam.Name+"/"+how, func(t *testing.T) {
				t.Parallel()
				s, src, room := server.WithT(t), load(t, sam), fmt.Sprint(sam.Name, "-", len(how))
				hevc := sam.Name == "hevc-slices"
				tags, parts := src.splitPictures(t, hevc, cut)
				if n := len(src.packets.Of(mediacompare.Video)); parts < 4*n {
					t.Fatalf("%d messages for %d pictures", parts, n)
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				wait, watch := watchRTMPEarly, watchRTMP
				if hevc {
					wait = func(t testing.TB, url string) *harness.Process { return watchNewerEarly(t, url) }
					watch = func(t testing.TB, url string) *harness.Process { return watchNewer(t, url) }
				}

				early := wait(t, s.RTMP(room))
				pushed := async(func() (struct{}, error) { return struct{}{}, pushTags(s.Addr("rtmp_addr"), s.Key(room), tags) })
				s.AwaitLive(room)
				late := watch(t, s.RTMP(room))
				flv := async(func() (*mediacompare.FLVFile, error) { return watchFLV(ctx, harness.Client(), s.FLV(room)) })
				hls := async(func() (hlsView, error) { return watchHLS(ctx, harness.Client(), s.HLS(room)) })
				if _, err := pushed(); err != nil {
					t.Fatal(err)
				}

				if m := check(t, "RTMP, waiting before the push", src.packets, frames(t, early),
					mediacompare.Millisecond); m.Video.First != 0 {
					t.Errorf("RTMP: the viewer that waited starts at picture %d", m.Video.First)
				}
				check(t, "RTMP, joining later", src.packets, frames(t, late), mediacompare.Millisecond)
				if got, err := flv(); err != nil {
					t.Errorf("HTTP-FLV: %v", err)
				} else if packets, err := got.Packets(); err != nil {
					t.Errorf("HTTP-FLV: %v", err)
				} else {
					check(t, "HTTP-FLV", src.packets, packets, mediacompare.Millisecond)
				}
				mp4 := downloadEndedHLS(t, s.HLS(room)+"?format=fmp4", "index.m3u8")
				copied := harness.NewerFFmpeg(t, mp4, append(copyArgs("pipe:0"), "-f", "framemd5", "pipe:1")...)
				check(t, "HLS, MP4", src.packets, frames(t, copied), mediacompare.Millisecond)
				if got, err := hls(); err != nil {
					t.Errorf("HLS, TS: %v", err)
				} else {
					src.checkHLS(t, "HLS, TS", got)
				}
				src.checkRecording(t, s, dir, room)
			})
		}
	}
}

// TestSlowSlicesJoinIntoPictures has the slices of large pictures arrive one by one, as over a
// network that needs more than half a frame interval for each: they are joined into one picture all
// the same.
func TestSlowSlicesJoinIntoPictures(t *testing.T) {
	harness.Need(t, "ffmpeg")
	s, src := harness.Start(t, harness.Options{}), load(t, sample.Slices()[0])
	tags, _ := src.splitPictures(t, false, eachSlice)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	flv := async(func() (*mediacompare.FLVFile, error) { return watchFLV(ctx, harness.Client(), s.FLV("slow")) })
	key := s.Key("slow")
	c, err := rtmp.Dial(net.Dialer{}, s.Addr("rtmp_addr"), "live", patience)
	if err == nil {
		defer c.NetConn.Close()
		err = c.Publish(key)
	}
	if err == nil {
		err = c.AwaitStart("NetStream.Publish.Start", patience)
	}
	if err != nil {
		t.Fatal(err)
	}
	slow := 0
	var out []byte // the second half of a slice is sent with the first half of the next
	for _, tag := range tags {
		m := rtmp.Message{CSID: 4 + int(tag.Type)%2, Type: tag.Type, StreamID: c.StreamID, Time: tag.Time, Payload: tag.Body}
		wire := m.Chunks(c.ChunkSize)
		if tag.Type == mediacompare.TagVideo && tag.IsFrame() && tag.Body[0]>>4 == 1 { // a slice of a keyframe
			slow++
			half := len(wire) / 2
			if _, err := c.NetConn.Write(append(out, wire[:half]...)); err != nil {
				t.Fatal(err)
			}
			<-time.After(50 * time.Millisecond)
			out, wire = nil, wire[half:]
		}
		out = append(out, wire...)
	}
	if _, err := c.NetConn.Write(out); err != nil {
		t.Fatal(err)
	}
	if slow < 16 {
		t.Errorf("%d slices of keyframes", slow)
	}
	if err := c.Unpublish(key); err != nil {
		t.Fatal(err)
	}
	got, err := flv()
	if err != nil {
		t.Fatal(err)
	}
	packets, err := got.Packets()
	if err != nil {
		t.Fatal(err)
	}
	check(t, "HTTP-FLV", src.packets, packets, mediacompare.Millisecond)
}

// eachUnit returns one message for each NAL unit.
func eachUnit(units [][]byte, _ bool) (messages [][][]byte) {
	for _, u := range units {
		messages = append(messages, [][]byte{u})
	}
	return messages
}

// eachSlice returns one message for each slice, with the NAL units before it.
func eachSlice(units [][]byte, hevc bool) (messages [][][]byte) {
	var one [][]byte
	for _, u := range units {
		one = append(one, u)
		if isSlice := u[0]&0x1f <= 5; !hevc && isSlice || hevc && u[0]>>1&0x3f < 32 {
			messages, one = append(messages, one), nil
		}
	}
	return messages
}

// splitPictures returns the tags of the sample with pictures in several messages, and the number of
// these messages.
func (src source) splitPictures(t *testing.T, hevc bool,
	cut func([][]byte, bool) [][][]byte) (tags []mediacompare.FLVTag, parts int) {
	t.Helper()
	for _, tag := range src.file.Tags {
		if tag.Type == mediacompare.TagScript {
			tag.Body = append(rtmp.AMF("@setDataFrame"), tag.Body...)
		}
		if tag.Type != mediacompare.TagVideo || !tag.IsFrame() {
			tags = append(tags, tag)
			continue
		}
		head := 5
		if tag.Body[0]&0x8f == 0x81 { // FourCC form with a composition time
			head = 8
		}
		var units [][]byte
		for b := tag.Body[head:]; len(b) > 0; {
			n := 4 + int(binary.BigEndian.Uint32(b))
			units, b = append(units, b[4:n]), b[n:]
		}
		for _, part := range cut(units, hevc) {
			body := tag.Body[:head:head]
			for _, u := range part {
				body = append(binary.BigEndian.AppendUint32(body, uint32(len(u))), u...)
			}
			tags = append(tags, mediacompare.FLVTag{Type: tag.Type, Time: tag.Time, Body: body})
			parts++
		}
	}
	return tags, parts
}

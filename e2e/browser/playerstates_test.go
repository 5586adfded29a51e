package browser

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// clipNamed returns the clip with this name.
func clipNamed(t *testing.T, name string) sample.Sample {
	t.Helper()
	clips := sample.All()
	i := slices.IndexFunc(clips, func(s sample.Sample) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("no clip %s", name)
	}
	return clips[i]
}

// shortCodecs returns codecs without the profile of the video, and one name for MP3.
func shortCodecs(codecs string) string {
	list := strings.Split(codecs, ",")
	for i, c := range list {
		if c == "mp4a.40.34" || c == "mp4a.69" || c == "mp4a.6B" {
			list[i] = "mp3"
		}
		if strings.HasPrefix(c, "avc1") {
			list[i] = "avc1"
		}
	}
	return strings.Join(list, ",")
}

// testCodecs publishes to one room, one after the other, streams of other resolutions
// and codecs. Each encoder is killed. An open page plays each stream that the browser supports, and
// names the codec that it does not.
func testCodecs(t *testing.T, c *chrome) {
	harness.Need(t, "ffmpeg")
	harness.NeedNewerFFmpeg(t)
	s := harness.Start(t, harness.Options{NoRace: true, Flags: []string{"--publish_hold=20s"}})
	key := s.Key("movie")
	encode := func(clip sample.Sample) *harness.Process {
		var file bytes.Buffer
		if err := repeat(clip.Read(t), 30).Write(&file); err != nil {
			t.Fatal(err)
		}
		return harness.NewerFFmpeg(t, file.Bytes(), "-re", "-i", "pipe:0", "-c", "copy", "-f", "flv", s.RTMP(key))
	}
	streams := []struct {
		clip   sample.Sample
		width  int
		codecs string
	}{
		{sample.Large, 256, "avc1,mp4a.40.2"}, {sample.Small, 160, "avc1,mp4a.40.2"},
		{clipNamed(t, "h264-mp3"), 320, "avc1,mp3"}, {sample.HEVC(), 0, ""},
	}
	if harness.Long() { // the page tries again every 15 s
		streams = append(streams, streams[0])
	}
	open := func(protocol string) page {
		return c.open(t, "http://"+s.Addr("httpflv_addr")+"/live/movie?protocol="+protocol, nil)
	}
	pages := []page{open("ws"), open("hls"), open("")}
	for i, stream := range streams {
		encoder := encode(stream.clip)
		for _, p := range pages {
			if stream.width == 0 {
				got := p.awaitText("This browser cannot play HEVC, in which the stream is encoded.")
				if got.Phase != "failed" || got.Reason != "unplayable" || got.Detail != "HEVC" {
					t.Errorf("%+v", got)
				}
				continue
			}
			p.await(fmt.Sprintf("stream %d", i), func(w watched) bool {
				return w.Phase == "playing" && w.Width == stream.width && shortCodecs(w.Codecs) == stream.codecs
			})
			p.awaitMoving(fmt.Sprintf("stream %d", i))
		}
		encoder.Kill()
		encoder.Wait(patience)
	}
}

// testRefusals opens private rooms: the page says what a viewer can do, and does not
// try again by itself.
func testRefusals(t *testing.T, c *chrome) {
	harness.Need(t, "ffmpeg")
	const secret = "0123456789abcdef0123456789abcdef"
	s := harness.Start(t, harness.Options{NoRace: true, Flags: []string{"--private=live"},
		Env: []string{"LIVEGO_TOKEN_SECRET=" + secret}})
	s.PushTo(sample.Small.File(t), s.RTMP(s.Key("movie")), "-stream_loop", "-1")
	s.AwaitLive("movie")
	token := func(room string, expires time.Duration) string {
		return harness.JWT(secret, `{"alg":"HS256"}`, fmt.Sprintf(`{"act":"play","app":"live","room":%q,"exp":%d}`, room,
			time.Now().Add(expires).Unix()))
	}
	url := func(protocol, token string) string {
		return "http://" + s.Addr("httpflv_addr") + "/live/movie?protocol=" + protocol + "&token=" + token
	}
	for _, protocol := range []string{"ws", "hls"} {
		for _, refused := range []struct{ name, token, text, detail string }{
			{"none", "", "This stream is private. Open it by the link that you were given.", "token_missing"},
			{"expired", token("movie", -time.Hour), "This link has expired. Ask for a new one.", "token_expired"},
			{"wrong", token("movie", time.Hour) + "x", "This link does not allow you to watch the stream.", "token_invalid"},
			{"of another room", token("cinema", time.Hour), "This link does not allow you to watch the stream.",
				"token_wrong_stream"},
		} {
			t.Run(protocol+", token "+refused.name, func(t *testing.T) {
				p := c.open(t, url(protocol, refused.token), nil)
				got := p.awaitText(refused.text)
				if got.Phase != "failed" || got.Reason != "refused" || got.Detail != refused.detail {
					t.Errorf("%+v", got)
				}
				sockets := p.state().Sockets
				p.run("await page.click('button.again')", nil) // a person may try again
				got = p.awaitText(refused.text)
				if want := sockets * 2; got.Sockets > want || (protocol == "ws") != (sockets == 1) {
					t.Errorf("%d connections before, %d after one more attempt", sockets, got.Sockets)
				}
				p.close()
			})
		}
		p := c.open(t, url(protocol, token("movie", time.Hour)), nil)
		p.awaitMoving("with a token, by " + protocol)
	}
}

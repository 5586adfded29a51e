package hls

import "testing"

func TestWithSession(t *testing.T) {
	const in = "#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4\",BYTERANGE=\"1@0\"\n#EXTINF:2,\n1-0.ts\n\n" +
		"#EXT-X-PART:DURATION=0.2,URI=\"1-2.1.m4s?x=1\"\r\n#EXT-X-ENDLIST"
	const want = "#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4?s=a%2Bb\",BYTERANGE=\"1@0\"\n#EXTINF:2,\n1-0.ts?s=a%2Bb\n\n" +
		"#EXT-X-PART:DURATION=0.2,URI=\"1-2.1.m4s?x=1&s=a%2Bb\"\n#EXT-X-ENDLIST\n"
	if got := string(withSession([]byte(in), "a+b")); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

package rtmp

import (
	"net/url"
	"testing"
)

// TestParseAddress expects what ffmpeg sends for the same address; TestRelayAddressesMatchFFmpeg in e2e
// verifies the table with ffmpeg.
func TestParseAddress(t *testing.T) {
	for _, tt := range []struct {
		url  string
		want Address // zero: an error
	}{
		{"rtmp://h/live/movie", Address{"h:1935", false, "live", "movie", "rtmp://h:1935/live"}},
		{"rtmps://h/live/movie?token=a%2Fb", Address{"h:443", true, "live", "movie?token=a%2Fb", "rtmps://h:443/live"}},
		{"rtmp://u:p@h:80/app/instance/movie", Address{"h:80", false, "app/instance", "movie", "rtmp://h:80/app/instance"}},
		{"rtmp://[::1]/live/movie", Address{"[::1]:1935", false, "live", "movie", "rtmp://[::1]:1935/live"}},
		{"rtmp://h/app/?streamname=x&key=a%2Bb",
			Address{"h:1935", false, "app", "?streamname=x&key=a%2Bb", "rtmp://h:1935/app"}},
		{"rtmp://h/app/instance/?key=x", Address{"h:1935", false, "app/instance", "?key=x", "rtmp://h:1935/app/instance"}},
		{"rtmp://h/app?auth=x/movie", Address{"h:1935", false, "app?auth=x", "movie", "rtmp://h:1935/app?auth=x"}},
		{"rtmp://h/app?auth=x/movie?y=z", Address{"h:1935", false, "app?auth=x", "movie?y=z", "rtmp://h:1935/app?auth=x"}},
		{"rtmp://h/app/instance?auth=x/movie",
			Address{"h:1935", false, "app/instance?auth=x", "movie", "rtmp://h:1935/app/instance?auth=x"}},
		{"rtmp://h/live/a%2Fb", Address{"h:1935", false, "live", "a%2Fb", "rtmp://h:1935/live"}},
		{"rtmp://h/live/a%20b%3Fc+d", Address{"h:1935", false, "live", "a%20b%3Fc+d", "rtmp://h:1935/live"}},
		{"rtmp://h/live/a\"[]|b", Address{"h:1935", false, "live", "a\"[]|b", "rtmp://h:1935/live"}},
		{"rtmp://h/app/a/b/c", Address{"h:1935", false, "app/a", "b/c", "rtmp://h:1935/app/a"}},
		{"rtmp://h/app//movie", Address{"h:1935", false, "app/", "movie", "rtmp://h:1935/app/"}},
		{"rtmp://h/app/mp4:a/b", Address{"h:1935", false, "app", "mp4:a/b", "rtmp://h:1935/app"}},
		{"rtmp://h/app/movie.mp4", Address{"h:1935", false, "app", "mp4:movie.mp4", "rtmp://h:1935/app"}},
		{"rtmp://h/app/movie.flv", Address{"h:1935", false, "app", "movie", "rtmp://h:1935/app"}},
		{"rtmp://h/app/movie live=1 timeout=3", Address{"h:1935", false, "app", "movie", "rtmp://h:1935/app"}},
		{"rtmp://h/ondemand/a/b", Address{"h:1935", false, "ondemand", "a/b", "rtmp://h:1935/ondemand"}},
		{"rtmp://h/app/x?auth=y&slist=movie&z=1",
			Address{"h:1935", false, "app/x?auth=y&slist=movie&z=1", "movie", "rtmp://h:1935/app/x?auth=y&slist=movie&z=1"}},
		{"rtmp://h/live/movie?", Address{"h:1935", false, "live", "movie?", "rtmp://h:1935/live"}},
		{"rtmp://h/live/", Address{}}, {"rtmp://h/a/b/", Address{}}, {"rtmp://:1935/live/movie", Address{}},
		{"rtmp://h/live", Address{}},
		{"rtmp://h/live?x=y", Address{}}, {"rtmp://h/?x=y", Address{}}, {"rtmp:///live/movie", Address{}},
		{"http://h/live/movie", Address{}}, {"", Address{}},
	} {
		u, err := url.Parse(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseAddress(u)
		if got != tt.want || (err == nil) != (tt.want != Address{}) {
			t.Errorf("%s: %+v, %v", tt.url, got, err)
		}
	}
}

package rtmp

import (
	"net/url"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for _, tt := range []struct {
		url  string
		want Address // zero: none
	}{
		{"rtmp://h/live/movie", Address{"h:1935", false, "live", "movie", "rtmp://h/live"}},
		{"rtmps://h/live/movie?token=a/b", Address{"h:443", true, "live", "movie?token=a/b", "rtmps://h/live"}},
		{"rtmp://u:p@h:80/app/instance/movie", Address{"h:80", false, "app/instance", "movie", "rtmp://h:80/app/instance"}},
		{"rtmp://[::1]/live/movie", Address{"[::1]:1935", false, "live", "movie", "rtmp://[::1]/live"}},
		{"rtmp://h/live/", Address{}}, {"rtmp://h/a/b/", Address{}}, {"rtmp://:1935/live/movie", Address{}}, {"rtmp://h/live", Address{}}, {"rtmp:///live/movie", Address{}}, {"http://h/live/movie", Address{}}, {"", Address{}},
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

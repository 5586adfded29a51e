package main

import (
	"slices"
	"testing"

	"livego/internal/ops/config"
)

// TestWatchURLs checks the addresses that push prints for a room.
func TestWatchURLs(t *testing.T) {
	const rtmp = "rtmp://127.0.0.1:1935/live"
	for _, c := range []struct {
		name, base, public string
		change             func(*config.Config)
		want               []string
	}{
		{"defaults", rtmp, "", nil,
			[]string{rtmp + "/movie", "http://127.0.0.1:7001/live/movie.flv", "http://127.0.0.1:7002/live/movie.m3u8"}},
		{"listener of one address", rtmp, "",
			func(c *config.Config) { c.HTTPFLVAddr, c.UseHLSHTTPS = "[2001:db8::1]:80", true },
			[]string{rtmp + "/movie", "http://[2001:db8::1]:80/live/movie.flv", "https://127.0.0.1:7002/live/movie.m3u8"}},
		{"no HLS", rtmp, "", func(c *config.Config) { c.Apps[0].HLS = false },
			[]string{rtmp + "/movie", "http://127.0.0.1:7001/live/movie.flv"}},
		{"app of another server", "rtmp://127.0.0.1/other", "", nil, []string{"rtmp://127.0.0.1/other/movie"}},
		{"public URL", rtmp, "https://live.example.com:8443/tv/", nil,
			[]string{"rtmp://live.example.com:1935/live/movie", "https://live.example.com:8443/tv/live/movie.flv",
				"https://live.example.com:8443/tv/live/movie.m3u8"}},
		{"public URL, RTMP without a port", "rtmps://127.0.0.1/live", "http://[2001:db8::1]", nil,
			[]string{"rtmps://[2001:db8::1]/live/movie", "http://[2001:db8::1]/live/movie.flv",
				"http://[2001:db8::1]/live/movie.m3u8"}},
	} {
		cfg := config.Default()
		cfg.PublicURL = c.public
		if c.change != nil {
			c.change(&cfg)
		}
		if got := watchURLs(cfg, c.base, "movie"); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

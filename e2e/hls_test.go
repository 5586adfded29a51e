package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"livego/e2e/mediacompare"
)

// fetch requests a URL and returns the response with its whole body.
func fetch(ctx context.Context, c *http.Client, url string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// pollFetch requests url until the status is not 404, as a player does that starts before the
// stream.
func pollFetch(ctx context.Context, c *http.Client, url string) (*http.Response, []byte, error) {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		resp, body, err := fetch(ctx, c, url)
		if err != nil || resp.StatusCode != http.StatusNotFound {
			return resp, body, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("%s: still 404: %w", url, ctx.Err())
		}
	}
}

// An hlsSegment is a segment of a media playlist, with its tags.
type hlsSegment struct {
	uri           string
	duration      float64
	discontinuity bool
}

// An hlsPlaylist is a parsed media playlist.
type hlsPlaylist struct {
	sequence int
	target   int
	segments []hlsSegment
	ended    bool
}

func parseMedia(text []byte) (p hlsPlaylist, err error) {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if lines[0] != "#EXTM3U" {
		return p, fmt.Errorf("the media playlist starts with %q", lines[0])
	}
	var next hlsSegment
	for _, line := range lines[1:] {
		tag, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch tag {
		case "#EXT-X-TARGETDURATION":
			p.target, err = strconv.Atoi(value)
		case "#EXT-X-MEDIA-SEQUENCE":
			p.sequence, err = strconv.Atoi(value)
		case "#EXT-X-DISCONTINUITY":
			next.discontinuity = true
		case "#EXT-X-ENDLIST":
			p.ended = true
		case "#EXTINF":
			seconds, _, _ := strings.Cut(value, ",")
			next.duration, err = strconv.ParseFloat(seconds, 64)
		default:
			if line != "" && line[0] != '#' {
				next.uri = line
				p.segments = append(p.segments, next)
				next = hlsSegment{}
			}
		}
		if err != nil {
			return p, fmt.Errorf("media playlist: %q: %w", line, err)
		}
	}
	if p.target == 0 {
		return p, fmt.Errorf("the media playlist has no target duration:\n%s", text)
	}
	return p, nil
}

// mediaURL returns the URL of the first media playlist in a multivariant playlist.
func mediaURL(ctx context.Context, c *http.Client, master string) (string, error) {
	resp, body, err := pollFetch(ctx, c, master)
	if err != nil {
		return "", err
	}
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || ct != "application/vnd.apple.mpegurl" ||
		resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		return "", fmt.Errorf("%s: HTTP %d, %v", master, resp.StatusCode, resp.Header)
	}
	lines := strings.Split(string(body), "\n")
	for i, line := range lines[:len(lines)-1] {
		if strings.HasPrefix(line, "#EXT-X-STREAM-INF:") {
			return resolve(master, strings.TrimSpace(lines[i+1]))
		}
	}
	return "", fmt.Errorf("%s is not a multivariant playlist:\n%s", master, body)
}

func resolve(base, ref string) (string, error) {
	b, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	u, err := b.Parse(ref)
	if err != nil {
		return "", err
	}
	return u.String(), nil
}

// An hlsView is what an HLS player received.
type hlsView struct {
	units           mediacompare.Stream
	discontinuities int // after the first segment
}

// watchHLS plays master from its first segment to its end, and checks the playlists against RFC
// 8216: a media sequence number always names the same segment, durations do not exceed the target,
// and each segment is decodable on its own.
func watchHLS(ctx context.Context, c *http.Client, master string) (hlsView, error) {
	var view hlsView
	media, err := mediaURL(ctx, c, master+"?format=ts") // the format that mediacompare reads
	if err != nil {
		return view, err
	}
	var (
		uris  = map[int]string{}
		first = -1
		next  int // media sequence number of the next segment to fetch
		total float64
		last  hlsPlaylist
	)
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		resp, body, err := fetch(ctx, c, media)
		if err != nil {
			return view, err
		}
		if resp.StatusCode != 200 {
			return view, fmt.Errorf("%s: HTTP %d: %s", media, resp.StatusCode, body)
		}
		p, err := parseMedia(body)
		if err != nil {
			return view, err
		}
		if first < 0 {
			first, next = p.sequence, p.sequence
		} else if p.sequence < last.sequence || p.target != last.target {
			return view, fmt.Errorf("sequence and target duration changed from %d and %d to %d and %d", last.sequence,
				last.target,
				p.sequence, p.target)
		}
		last = p
		for i, seg := range p.segments {
			n := p.sequence + i
			if old, ok := uris[n]; ok && old != seg.uri {
				return view, fmt.Errorf("segment %d was %s and is now %s", n, old, seg.uri)
			}
			uris[n] = seg.uri
			if n < next {
				continue
			}
			if n > next {
				return view, fmt.Errorf("segment %d was removed before it was fetched", next)
			}
			next++
			if int(math.Round(seg.duration)) > p.target {
				return view, fmt.Errorf("segment %d has a duration of %v s, the target is %d", n, seg.duration, p.target)
			}
			if seg.discontinuity && n > first {
				view.discontinuities++
			}
			total += seg.duration
			units, err := hlsSegmentUnits(ctx, c, media, seg.uri)
			if err != nil {
				return view, fmt.Errorf("segment %d: %w", n, err)
			}
			view.units = append(view.units, units...)
		}
		if p.ended {
			return view, checkDurations(view.units, total)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return view, fmt.Errorf("the playlist did not end: %w:\n%s", ctx.Err(), body)
		}
	}
}

func hlsSegmentUnits(ctx context.Context, c *http.Client, media, uri string) (mediacompare.Stream, error) {
	at, err := resolve(media, uri)
	if err != nil {
		return nil, err
	}
	resp, body, err := fetch(ctx, c, at)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "video/mp2t" ||
		resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		return nil, fmt.Errorf("%s: HTTP %d, %v", at, resp.StatusCode, resp.Header)
	}
	if len(body) < 188 || !bytes.HasPrefix(body[1:], []byte{0x40, 0}) {
		return nil, fmt.Errorf("%s does not start with a PAT", at)
	}
	units, err := mediacompare.ReadTS(body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	if video := units.Of(mediacompare.Video); len(video) > 0 && !video[0].Key {
		return nil, fmt.Errorf("%s does not start with a keyframe", at)
	}
	return units, nil
}

// checkDurations checks that the EXTINF durations of all segments add up to the duration of their
// contents, within 0.3 s.
func checkDurations(s mediacompare.Stream, total float64) error {
	if len(s) == 0 {
		return nil
	}
	low, high := s[0].DTS, s[0].DTS
	for _, u := range s {
		low, high = min(low, u.DTS), max(high, u.DTS)
	}
	if held := (high - low).Seconds(); math.Abs(held-total) > 0.3 {
		return fmt.Errorf("durations add up to %.3f s, the segments contain %.3f s", total, held)
	}
	return nil
}

package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/e2e/harness"
)

// TestLowLatency follows a stream by blocking playlist reloads, as a player does, and checks every
// playlist, segment and part against the rules of RFC 8216bis, while the encoder disconnects and
// reconnects, and other players join and leave.
func TestLowLatency(t *testing.T) {
	harness.Need(t, "ffmpeg", "ffprobe")
	t.Parallel()
	s := harness.Start(t, harness.Options{})
	const away = 5 * time.Second // at most
	pushes, each, viewers := 3, 12*time.Second, 3
	if harness.Long() {
		pushes, each, viewers = 4, 150*time.Second, 12
	}
	long := time.Duration(pushes) * each
	push := func() *harness.Process {
		return harness.FFmpeg(t, "-re", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=30000/1001", "-f", "lavfi", "-i",
			"sine=440:r=44100",
			"-t", fmt.Sprint(each.Seconds()), "-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "60", "-pix_fmt",
			"yuv420p",
			"-c:a", "aac", "-f", "flv", s.RTMP(s.Key("movie")))
	}
	encoder := push()
	s.AwaitLive("movie")
	ctx, cancel := context.WithTimeout(t.Context(), long+time.Duration(pushes)*away+patience)
	defer cancel()
	f := newFollower()
	followed := async(func() (any, error) { return nil, f.follow(ctx, s.HLS("movie")) })
	var others []func() (any, error)
	for n := range viewers {
		others = append(others, async(func() (any, error) {
			return nil, followRepeatedly(ctx, f, s.HLS("movie"), 4*time.Second+time.Duration(n)*time.Second)
		}))
	}

	for n := range pushes - 1 {
		waitAlive(t, encoder, each-2*time.Second)
		encoder.Kill()
		encoder.Wait(patience)
		if n%2 == 0 { // long enough for viewers to notice
			waitAlive(t, nil, away)
		}
		encoder = push()
	}
	encoder.WaitOK(each + patience)
	if _, err := followed(); err != nil {
		t.Fatal(err)
	}
	for _, other := range others {
		if _, err := other(); err != nil {
			t.Errorf("the viewer that joins and leaves: %v", err)
		}
	}
	if f.segments < int(long.Seconds())/2-3*pushes || f.parts < 5*f.segments || f.discontinuities != pushes-1 {
		t.Errorf("%d segments, %d parts and %d discontinuities in %v", f.segments, f.parts, f.discontinuities, long)
	}
	t.Logf("%d segments, %d parts, %d discontinuities", f.segments, f.parts, f.discontinuities)
	f.checkWithFFprobe(t, f.fmp4)
	f.checkWithFFprobe(t, f.ts)
}

// waitAlive waits for d. If p is not nil, it must not exit in this time.
func waitAlive(t *testing.T, p *harness.Process, d time.Duration) {
	t.Helper()
	var ended <-chan struct{}
	if p != nil {
		ended = p.Done()
	}
	select {
	case <-ended:
		t.Fatalf("the process exited too early: %s", p.Stderr())
	case <-time.After(d):
	}
}

// followRepeatedly follows master for stay at a time until the stream has ended. What it receives
// must be the same as what f receives.
func followRepeatedly(ctx context.Context, f *follower, master string, stay time.Duration) error {
	for {
		here, cancel := context.WithTimeout(ctx, stay)
		g := newFollower()
		err := g.follow(here, master)
		left := here.Err() != nil && ctx.Err() == nil
		cancel()
		if err != nil && !left {
			return err
		}
		if err := f.checkAgrees(g); err != nil || !left {
			return err
		}
	}
}

// A lowLatencyPlaylist is a media playlist with parts.
type lowLatencyPlaylist struct {
	hlsPlaylist
	partTarget, holdBack float64
	init                 string
	parts                map[int][]hlsPart // by media sequence number, if the playlist lists them
	dates                map[int]time.Time // by media sequence number
	// discontinuity sequence number by media sequence number, for segments that have started
	discontinuitySequences map[int]int
	openDiscontinuity      bool // the open segment starts with a discontinuity
	independent            bool
	hint                   string
}

type hlsPart struct {
	uri         string
	duration    float64
	independent bool
}

func parseLowLatency(text []byte) (l lowLatencyPlaylist, err error) {
	if l.hlsPlaylist, err = parseMedia(text); err != nil {
		return l, err
	}
	l.parts, l.dates, l.discontinuitySequences = map[int][]hlsPart{}, map[int]time.Time{}, map[int]int{}
	msn, joint := l.sequence, 0
	number := func(value, name string) (f float64) {
		_, rest, found := strings.Cut(","+value, ","+name+"=")
		digits, _, _ := strings.Cut(rest, ",")
		if found && err == nil {
			f, err = strconv.ParseFloat(digits, 64)
		}
		return f
	}
	quoted := func(value string) string {
		_, rest, _ := strings.Cut(value, `URI="`)
		uri, _, _ := strings.Cut(rest, `"`)
		return uri
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		tag, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch {
		case tag == "#EXT-X-PART-INF":
			l.partTarget = number(value, "PART-TARGET")
		case tag == "#EXT-X-SERVER-CONTROL":
			if l.holdBack = number(value, "PART-HOLD-BACK"); !strings.Contains(value, "CAN-BLOCK-RELOAD=YES") {
				return l, errors.New("the playlist has no CAN-BLOCK-RELOAD=YES")
			}
		case tag == "#EXT-X-MAP":
			l.init = quoted(value)
		case tag == "#EXT-X-PART":
			l.parts[msn] = append(l.parts[msn],
				hlsPart{quoted(value), number(value, "DURATION"), strings.Contains(value, "INDEPENDENT=YES")})
		case tag == "#EXT-X-PRELOAD-HINT":
			l.hint = quoted(value)
		case tag == "#EXT-X-INDEPENDENT-SEGMENTS":
			l.independent = true
		case tag == "#EXT-X-DISCONTINUITY-SEQUENCE":
			joint, err = strconv.Atoi(value)
		case tag == "#EXT-X-DISCONTINUITY":
			l.openDiscontinuity = true
			joint++
		case tag == "#EXT-X-PROGRAM-DATE-TIME":
			l.dates[msn], err = time.Parse(time.RFC3339Nano, value)
		case line != "" && line[0] != '#':
			l.discontinuitySequences[msn] = joint
			l.openDiscontinuity = false
			msn++
		}
		if err != nil {
			return l, fmt.Errorf("%q: %w", line, err)
		}
	}
	return l, err
}

// A follower is a player that checks all that it downloads.
type follower struct {
	client          *http.Client
	mu              sync.Mutex
	seen            map[string]string // contents by place: see checkUnchanged
	partBytes       map[string][]byte // contents of the newest parts, by URI
	last            lowLatencyPlaylist
	hint            string
	segments, parts int
	discontinuities int    // discontinuities
	fmp4, ts        []byte // the stream so far, in each format
	nextSegment     int    // media sequence number of the next segment to check
	mediaURL        string
}

func newFollower() *follower {
	return &follower{client: harness.Client(), seen: map[string]string{}, partBytes: map[string][]byte{}}
}

func (f *follower) follow(ctx context.Context, master string) (err error) {
	if f.mediaURL, err = mediaURL(ctx, f.client, master); err != nil {
		return err
	}
	at := f.mediaURL
	for {
		begin := time.Now()
		resp, body, err := fetch(ctx, f.client, at)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: HTTP %d: %s", at, resp.StatusCode, body)
		}
		l, err := parseLowLatency(body)
		if err != nil {
			return err
		}
		if waited := time.Since(begin).Seconds(); waited > 3*float64(l.target)+1 {
			return fmt.Errorf("the request for %s was held for %.1f s", at, waited)
		}
		if err := f.checkPlaylist(ctx, l); err != nil {
			return fmt.Errorf("%w, in\n%s", err, body)
		}
		if l.ended {
			return nil
		}
		open := l.sequence + len(l.segments)
		at = fmt.Sprintf("%s&_HLS_msn=%d&_HLS_part=%d", f.mediaURL, open, len(l.parts[open]))
	}
}

// checkPlaylist checks a playlist, and downloads and checks what is new in it.
func (f *follower) checkPlaylist(ctx context.Context, l lowLatencyPlaylist) error {
	if f.last.target != 0 && (l.target != f.last.target || l.partTarget != f.last.partTarget ||
		l.sequence < f.last.sequence) {
		return fmt.Errorf("target duration, part target and sequence changed from %d, %v, %d to %d, %v, %d",
			f.last.target, f.last.partTarget, f.last.sequence, l.target, l.partTarget, l.sequence)
	}
	if l.partTarget == 0 || l.holdBack < 3*l.partTarget-1e-6 {
		return fmt.Errorf("part target %v with PART-HOLD-BACK %v", l.partTarget, l.holdBack)
	}
	if f.hint != "" && !l.ended && l.hint != f.hint && !l.hasPart(f.hint) && !l.cutShort(f.hint) {
		return fmt.Errorf("%s was hinted but never listed", f.hint)
	}
	f.hint = l.hint
	if f.last.target == 0 {
		f.nextSegment = l.sequence
		init, err := f.download(ctx, l.init)
		if err != nil {
			return err
		}
		f.fmp4 = append(f.fmp4, init...)
	}
	f.last = l
	for msn := l.sequence; msn <= l.sequence+len(l.segments); msn++ {
		if err := f.checkParts(ctx, l, msn); err != nil {
			return err
		}
	}
	for ; f.nextSegment < l.sequence+len(l.segments); f.nextSegment++ {
		if f.nextSegment < l.sequence {
			return fmt.Errorf("segment %d was removed before it was fetched", f.nextSegment)
		}
		if err := f.checkSegment(ctx, l, f.nextSegment); err != nil {
			return err
		}
	}
	return nil
}

func (l *lowLatencyPlaylist) hasPart(uri string) bool {
	for _, parts := range l.parts {
		for _, p := range parts {
			if p.uri == uri {
				return true
			}
		}
	}
	return false
}

// cutShort reports whether the segment of the part at uri ended before that part, because the
// encoder disconnected.
func (l *lowLatencyPlaylist) cutShort(uri string) bool {
	name, _, _ := strings.Cut(uri, ".")
	for _, p := range l.parts[l.sequence+len(l.segments)] {
		if strings.HasPrefix(p.uri, name+".") {
			return l.hint == ""
		}
	}
	for i, s := range l.segments {
		if s.uri != name+".m4s" {
			continue
		}
		if i == len(l.segments)-1 {
			return l.hint == "" || l.openDiscontinuity
		}
		return l.segments[i+1].discontinuity
	}
	return false
}

// checkUnchanged stores what is at a place, and fails if it was something else before.
func (f *follower) checkUnchanged(place, what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old, ok := f.seen[place]; ok && old != what {
		return fmt.Errorf("%s was %s and is now %s", place, old, what)
	}
	f.seen[place] = what
	return nil
}

// checkAgrees checks that g, which has left, received the same as f where both received something.
func (f *follower) checkAgrees(g *follower) error {
	for place, what := range g.seen {
		if err := f.checkUnchanged(place, what); err != nil {
			return err
		}
	}
	return nil
}

func (f *follower) checkParts(ctx context.Context, l lowLatencyPlaylist, msn int) error {
	complete := msn < l.sequence+len(l.segments) || l.hint == "" // no part follows, and the segment's line comes next
	for i, p := range l.parts[msn] {
		if err := f.checkUnchanged(fmt.Sprintf("part %d of %d", i, msn), p.uri); err != nil {
			return err
		}
		last := complete && i == len(l.parts[msn])-1
		if p.duration > l.partTarget+1e-6 || !last && p.duration < .85*l.partTarget-1e-6 {
			return fmt.Errorf("part %s has a duration of %v s, the target is %v", p.uri, p.duration, l.partTarget)
		}
		if _, ok := f.partBytes[p.uri]; ok || msn < f.nextSegment {
			continue
		}
		b, err := f.download(ctx, p.uri)
		if err != nil {
			return err
		}
		f.partBytes[p.uri] = b
		f.parts++
		if idr := beginsWithIDR(b); idr != p.independent {
			return fmt.Errorf("part %s starts with an IDR picture: %v; the playlist says %v", p.uri, idr, p.independent)
		}
	}
	return nil
}

func (f *follower) checkSegment(ctx context.Context, l lowLatencyPlaylist, msn int) error {
	seg, parts := l.segments[msn-l.sequence], l.parts[msn]
	if err := f.checkUnchanged(fmt.Sprint("segment ", msn), seg.uri); err != nil {
		return err
	}
	if err := f.checkUnchanged(fmt.Sprint("discontinuity sequence number of segment ", msn),
		fmt.Sprint(l.discontinuitySequences[msn])); err != nil {
		return err
	}
	if int(math.Round(seg.duration)) > l.target || seg.duration <= 0 {
		return fmt.Errorf("segment %d has a duration of %v s, the target is %d", msn, seg.duration, l.target)
	}
	if err := f.checkDate(l, msn); err != nil {
		return err
	}
	whole, err := f.download(ctx, seg.uri)
	if err != nil {
		return err
	}
	if l.independent && !beginsWithIDR(whole) {
		return fmt.Errorf("segment %d does not start with an IDR picture", msn)
	}
	f.segments++
	f.fmp4 = append(f.fmp4, whole...)
	ts, err := f.download(ctx, strings.TrimSuffix(seg.uri, ".m4s")+".ts")
	if err != nil {
		return err
	}
	f.ts = append(f.ts, ts...)
	if len(parts) == 0 {
		return nil // the segment was complete before the follower started
	}
	var sum float64
	var joined []byte
	for _, p := range parts {
		sum += p.duration
		joined = append(joined, f.partBytes[p.uri]...)
		delete(f.partBytes, p.uri)
	}
	if math.Abs(sum-seg.duration) > 1e-4*float64(len(parts)) {
		return fmt.Errorf("segment %d has a duration of %v s, its parts %v s", msn, seg.duration, sum)
	}
	if !bytes.Equal(whole, joined) {
		return fmt.Errorf("segment %d differs from its parts", msn)
	}
	return nil
}

// checkDate compares the EXT-X-PROGRAM-DATE-TIME of a segment with that of the segment before it:
// the difference is the duration of the one before, or more if there is a discontinuity.
func (f *follower) checkDate(l lowLatencyPlaylist, msn int) error {
	date, ok := l.dates[msn]
	if !ok {
		return fmt.Errorf("segment %d has no EXT-X-PROGRAM-DATE-TIME", msn)
	}
	if err := f.checkUnchanged(fmt.Sprint("time of segment ", msn), date.String()); err != nil {
		return err
	}
	before, ok := l.dates[msn-1]
	if !ok {
		return nil
	}
	const rounded = 2 * time.Millisecond
	passed := date.Sub(before) - time.Duration(l.segments[msn-1-l.sequence].duration*float64(time.Second))
	switch joint := l.segments[msn-l.sequence].discontinuity; {
	case !joint && passed.Abs() > rounded, joint && passed < -rounded:
		return fmt.Errorf("segment %d starts %v after the end of the one before it, discontinuity: %v", msn, passed, joint)
	case joint:
		f.discontinuities++
	}
	return nil
}

func (f *follower) download(ctx context.Context, uri string) ([]byte, error) {
	at, err := resolve(f.mediaURL, uri)
	if err != nil {
		return nil, err
	}
	resp, body, err := fetch(ctx, f.client, at)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Access-Control-Allow-Origin") != "*" ||
		!strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
		return nil, fmt.Errorf("%s: HTTP %d, %v", at, resp.StatusCode, resp.Header)
	}
	return body, nil
}

// beginsWithIDR reports whether the first picture in the mdat box of a fragment is an IDR picture.
// Video precedes audio there.
func beginsWithIDR(b []byte) bool {
	for len(b) >= 8 {
		size := int(binary.BigEndian.Uint32(b))
		if size < 8 || size > len(b) {
			break
		}
		if string(b[4:8]) != "mdat" {
			b = b[size:]
			continue
		}
		for b = b[8:size]; len(b) > 4; {
			n := int(binary.BigEndian.Uint32(b))
			if n < 1 || n > len(b)-4 {
				break
			}
			if kind := b[4] & 0x1F; kind >= 1 && kind <= 5 {
				return kind == 5
			}
			b = b[4+n:]
		}
		break
	}
	return false // audio may last longer than the video
}

// checkWithFFprobe has ffprobe read all frames of a stream, without an error.
func (f *follower) checkWithFFprobe(t *testing.T, stream []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "stream")
	if err := os.WriteFile(file, stream, 0o644); err != nil {
		t.Fatal(err)
	}
	p := harness.StartProgram(t, "ffprobe", "-v", "error", "-count_frames", "-show_entries",
		"stream=codec_name,nb_read_frames", file)
	p.WaitOK(patience)
	if printed := p.Stderr(); printed != "" {
		t.Errorf("ffprobe prints %s", printed)
	}
}

// TestSparseKeyframesGetNoParts publishes a keyframe every 4 s without audio: the playlist has
// segments and no parts.
func TestSparseKeyframesGetNoParts(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{})
	harness.FFmpeg(t, "-re", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=1/4", "-t", "60", "-c:v", "libx264", "-preset",
		"ultrafast",
		"-tune", "zerolatency", "-g", "1", "-pix_fmt", "yuv420p", "-f", "flv", s.RTMP(s.Key("camera")))
	s.AwaitLive("camera")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	url, err := mediaURL(ctx, harness.Client(), s.HLS("camera"))
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, patience, "two segments of 4 s, and no parts", func() error {
		resp, text, err := fetch(ctx, harness.Client(), url)
		if err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%v, %w", resp, err)
		}
		if bytes.Contains(text, []byte("PART")) || bytes.Contains(text, []byte("CAN-BLOCK-RELOAD")) {
			t.Fatalf("the playlist has tags of low latency:\n%s", text)
		}
		p, err := parseMedia(text)
		if err != nil {
			return err
		}
		for _, seg := range p.segments {
			if math.Abs(seg.duration-4) > 0.1 {
				t.Fatalf("a segment has a duration of %v s", seg.duration)
			}
		}
		if len(p.segments) < 2 {
			return fmt.Errorf("%d segments", len(p.segments))
		}
		return nil
	})
}

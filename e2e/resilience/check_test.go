package resilience

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
)

// checkViewer checks what one viewer received, after its stream has ended.
func (sc *scenario) checkViewer(v *viewer) {
	sc.t.Helper()
	if v.err != nil && !sc.flvReconnects {
		sc.t.Errorf("%v: connection failed: %v", v, v.err)
	}
	got, err := v.frames()
	if err != nil {
		sc.t.Errorf("%v: %v", v, err)
		return
	}
	for _, k := range []mediacompare.Kind{mediacompare.Video, mediacompare.Audio} {
		follows := sc.checkFollowsSource
		if sc.switches > 0 {
			follows = sc.checkSwitches
		}
		if err := follows(v, k, got.Of(k)); err != nil {
			sc.t.Errorf("%v: %s: %v", v, k, err)
		}
		most := cmp.Or(sc.maxStep, 250*time.Millisecond)
		if sc.timedByArrival {
			most += sc.longestPause()
		}
		if err := checkTimeSteps(got.Of(k), most); err != nil {
			sc.t.Errorf("%v: %s: %v", v, k, err)
		}
	}
	if v.when == "early" {
		sc.checkEarlyViewer(v, got)
	}
	if sc.unaligned && v.segmented() || v.query == legacyHEVC {
		return
	}
	for _, p := range v.excerpts() {
		if err := sc.checkDecodes(p); err != nil {
			sc.t.Errorf("%v: %s: %v", v, p.name, err)
		}
	}
}

// checkEarlyViewer checks what holds only for viewers that received the whole stream.
func (sc *scenario) checkEarlyViewer(v *viewer, got mediacompare.Stream) {
	sc.t.Helper()
	if duration := streamDuration(got); duration < sc.minDuration {
		sc.t.Errorf("%v: the recording lasts %v, want %v or more", v, duration, sc.minDuration)
	}
	if v.segmented() {
		for _, s := range v.segments {
			if s.discontinuity && !sc.unaligned && sc.maxStep < time.Second && !s.startsWithKeyframe() {
				sc.t.Errorf("%v: video starts in the middle of a GOP after a discontinuity: %v", v, s)
			}
		}
		if n := v.countDiscontinuities(); n < sc.discontinuities || n > max(sc.discontinuities, sc.maxDiscontinuities) {
			sc.t.Errorf("%v: %d discontinuities, want %d: %v", v, n, sc.discontinuities, v.segments)
		}
		return
	}
	want := cmp.Or(sc.headers, 2)
	if sc.onlyKind != "" && sc.headers == 0 {
		want = 1
	}
	if n := v.countHeaders(false); n != want {
		sc.t.Errorf("%v: %d codec headers, want %d", v, n, want)
	}
}

// streamDuration returns the difference between the lowest and the highest DTS of s.
func streamDuration(s mediacompare.Stream) time.Duration {
	if len(s) == 0 {
		return 0
	}
	low, high := s[0].DTS, s[0].DTS
	for _, u := range s {
		low, high = min(low, u.DTS), max(high, u.DTS)
	}
	return high - low
}

// longestPause returns the longest time between two frames that were sent.
func (sc *scenario) longestPause() (longest time.Duration) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	for i := 1; i < len(sc.log); i++ {
		longest = max(longest, sc.log[i].at.Sub(sc.log[i-1].at))
	}
	return longest
}

// checkTimeSteps checks that time does not go back, nor forward by more than most.
func checkTimeSteps(s mediacompare.Stream, most time.Duration) error {
	for i := 1; i < len(s); i++ {
		if step := s[i].DTS - s[i-1].DTS; step < 0 || step > most {
			return fmt.Errorf("a step of %v from number %d of %d (%v) to the next (%v)", step, i-1, len(s), s[i-1], s[i])
		}
	}
	return nil
}

// checkFollowsSource checks that got is what was sent, in order, from a keyframe to the end.
func (sc *scenario) checkFollowsSource(v *viewer, k mediacompare.Kind, got mediacompare.Stream) error {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	var want []item
	for _, s := range sc.log {
		if s.unit.Kind == k {
			want = append(want, s.item)
		}
	}
	switch {
	case sc.onlyKind != "" && sc.onlyKind != k && len(got) > 0:
		return fmt.Errorf("%d frames of a kind that must not be sent", len(got))
	case len(want) == 0, sc.onlyKind != "" && sc.onlyKind != k:
		return nil
	case len(got) == 0:
		return fmt.Errorf("none of %d frames", len(want))
	}
	at, missing := -1, 0
	for i, u := range got {
		next := slices.IndexFunc(want[at+1:], func(it item) bool { return u.Sum == it.unit.Sum || u.Sum == it.decoded.Sum })
		if next < 0 {
			return fmt.Errorf("number %d of %d was not sent after number %d of what was sent: %v", i, len(got), at, u)
		}
		if i > 0 {
			missing += next
		} else if !want[next].unit.Key {
			return fmt.Errorf("starts with number %d of what was sent, which is no keyframe", next)
		}
		at += 1 + next
	}
	if missing += len(want) - 1 - at; missing > sc.maxMissing {
		return fmt.Errorf("%d of %d frames are missing, the last %d of them at the end", missing, len(want), len(want)-1-at)
	}
	return nil
}

// A sentPosition is where an encoder sent a frame: the n-th of its kind.
type sentPosition struct {
	by  *encoder
	n   int
	key bool
}

// checkSwitches checks that got is what one encoder sent, then what the other sent, and so on. Each
// piece must be complete and start with a keyframe. Encoders may send the same clip, so a frame
// alone does not identify its encoder: there must be one reading of all of got.
func (sc *scenario) checkSwitches(v *viewer, k mediacompare.Kind, got mediacompare.Stream) error {
	places := sc.sentPositions(k)
	type reading struct {
		last     sentPosition
		switches int
	}
	readings := map[reading]bool{{switches: -1}: true}
	for i, u := range got {
		next := map[reading]bool{}
		for r := range readings {
			for _, p := range places[u.Sum] {
				switch {
				case p.by == r.last.by && p.n == r.last.n+1:
					next[reading{p, r.switches}] = true
				case p.by != r.last.by && p.key && r.switches < sc.switches:
					next[reading{p, r.switches + 1}] = true
				}
			}
		}
		if len(next) == 0 {
			return fmt.Errorf("number %d of %d continues nothing that was sent, with at most %d switches: %v; it was sent "+
				"as %v, the one "+
				"before as %v", i, len(got), sc.switches, u, places[u.Sum], slices.Collect(maps.Keys(readings)))
		}
		readings = next
	}
	for r := range readings {
		if r.switches == sc.switches {
			return nil
		}
	}
	return fmt.Errorf("want %d switches, read as %v", sc.switches, slices.Collect(maps.Keys(readings)))
}

// sentPositions returns where each frame of a kind was sent, by its checksums as RTMP and FLV carry
// it and as a decoder gets it.
func (sc *scenario) sentPositions(k mediacompare.Kind) map[string][]sentPosition {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	places, count := map[string][]sentPosition{}, map[*encoder]int{}
	for _, s := range sc.log {
		if s.unit.Kind != k {
			continue
		}
		p := sentPosition{s.by, count[s.by], s.unit.Key}
		count[s.by]++
		places[s.unit.Sum] = append(places[s.unit.Sum], p)
		if s.decoded.Sum != s.unit.Sum {
			places[s.decoded.Sum] = append(places[s.decoded.Sum], p)
		}
	}
	return places
}

// frames returns the frames that the viewer received.
func (v *viewer) frames() (mediacompare.Stream, error) {
	var all mediacompare.Stream
	switch v.proto {
	case "hls":
		for _, p := range v.hlsExcerpts() {
			units, err := readFragments(p.body)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.name, err)
			}
			all = append(all, units...)
		}
		return all, nil
	case "ts":
	default:
		return v.file(v.flvTags()).Packets()
	}
	for _, s := range v.segments {
		units, err := mediacompare.ReadTS(s.body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.uri, err)
		}
		all = append(all, units...)
	}
	return all, nil
}

// readFragments returns the frames that ffmpeg reads from fragmented MP4.
func readFragments(body []byte) (mediacompare.Stream, error) {
	cmd := exec.Command("ffmpeg", "-nostdin", "-v", "error", "-copyts", "-i", "-", "-map", "0", "-c", "copy", "-copyinkf",
		"-f", "framemd5", "-")
	cmd.Stdin = bytes.NewReader(body)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil || complaints.Len() > 0 {
		return nil, fmt.Errorf("ffmpeg reads %d bytes: %w: %.300s", len(body), err, &complaints)
	}
	return mediacompare.ReadFrameMD5(&out)
}

func (v *viewer) flvTags() []mediacompare.FLVTag {
	tags := make([]mediacompare.FLVTag, len(v.tags))
	for i, t := range v.tags {
		tags[i] = t.FLVTag
	}
	return tags
}

// file returns an FLV file of tags, whose header has flags for what they contain.
func (v *viewer) file(tags []mediacompare.FLVTag) *mediacompare.FLVFile {
	f := &mediacompare.FLVFile{Tags: tags}
	for _, t := range tags {
		f.HasVideo = f.HasVideo || t.Type == mediacompare.TagVideo
		f.HasAudio = f.HasAudio || t.Type == mediacompare.TagAudio
	}
	return f
}

// countHeaders returns how many codec headers differed from the one before, or with any how many
// there were.
func (v *viewer) countHeaders(any bool) (n int) {
	last := map[byte][]byte{}
	for _, t := range v.tags {
		if t.IsHeader() && (any || !bytes.Equal(last[t.Type], t.Body)) {
			last[t.Type] = t.Body
			n++
		}
	}
	return n
}

// countDiscontinuities returns the number of discontinuities after the first segment.
func (v *viewer) countDiscontinuities() (n int) {
	for _, s := range v.segments[min(1, len(v.segments)):] {
		if s.discontinuity {
			n++
		}
	}
	return n
}

// An excerpt is a piece of a recording that one decoder setup can decode.
type excerpt struct {
	name string
	body []byte
}

// excerpts cuts the recording where a player sets up its decoders again: at a discontinuity of HLS,
// and at new codec headers, for each track separately, since the others continue in the middle of a
// GOP there.
func (v *viewer) excerpts() []excerpt {
	if v.segmented() {
		return v.hlsExcerpts()
	}
	tags := v.flvTags()
	if len(slices.Compact(slices.Sorted(slices.Values(v.file(tags).Headers())))) <= 2 {
		return []excerpt{v.flvExcerpt("whole", tags)}
	}
	var parts []excerpt
	for _, typ := range []byte{mediacompare.TagVideo, mediacompare.TagAudio} {
		from := -1
		for i, t := range append(tags, mediacompare.FLVTag{Type: typ, Body: []byte{0x17, 0}}) {
			if t.Type != typ || !t.IsHeader() && i < len(tags) || from >= 0 && i < len(tags) &&
				bytes.Equal(t.Body, tags[from].Body) {
				continue
			}
			if from >= 0 {
				own := slices.DeleteFunc(slices.Clone(tags[from:i]), func(t mediacompare.FLVTag) bool { return t.Type != typ })
				if len(own) > 1 {
					parts = append(parts, v.flvExcerpt(fmt.Sprintf("type %d from tag %d", typ, from), own))
				}
			}
			from = i
		}
	}
	return parts
}

func (v *viewer) flvExcerpt(name string, tags []mediacompare.FLVTag) excerpt {
	var b bytes.Buffer
	_ = v.file(tags).Write(&b) // into memory
	return excerpt{name, b.Bytes()}
}

// hlsExcerpts cuts at discontinuities at which the parameters change.
func (v *viewer) hlsExcerpts() []excerpt {
	var parts []excerpt
	var now string
	for i, s := range v.segments {
		if set := s.decoderConfig(); i == 0 || s.discontinuity && set != "" && set != now {
			now = set
			parts = append(parts, excerpt{"from segment " + s.uri, slices.Clone(s.init)})
		}
		last := &parts[len(parts)-1]
		last.body = append(last.body, s.body...)
	}
	return parts
}

// decoderConfig returns what decoders are set up with for s: the program map of MPEG-TS with the
// first SPS, or the initialization section. It is empty if MPEG-TS has video but no SPS.
func (s segment) decoderConfig() string {
	if s.init != nil {
		return string(s.init)
	}
	const packet = 188
	set := slices.Clone(s.body[packet : 2*packet])
	set[3] = 0 // the continuity counter
	video := bytes.Contains(set, []byte{0x1b, 0xe1, 0x00}) || bytes.Contains(set, []byte{0x1b, 0xe1})
	at := bytes.Index(s.body, []byte{0, 0, 1, 0x67})
	if at < 0 {
		if video {
			return ""
		}
		return string(set)
	}
	sps := s.body[at+4:]
	if end := bytes.Index(sps, []byte{0, 0, 1}); end >= 0 {
		sps = sps[:end]
	}
	return string(set) + string(sps)
}

// startsWithKeyframe reports whether the first picture of s, if it has any, is a keyframe. For
// fragmented MP4 it reports true, because ffmpeg does not say: its segments are cut where those of
// MPEG-TS are.
func (s segment) startsWithKeyframe() bool {
	if s.init != nil {
		return true
	}
	units, err := mediacompare.ReadTS(s.body)
	pictures := units.Of(mediacompare.Video)
	return err == nil && (len(pictures) == 0 || pictures[0].Key)
}

func (s segment) String() string {
	mark := ""
	if s.discontinuity {
		mark = "|"
	}
	return fmt.Sprintf("%s%s %v %d bytes", mark, s.uri, s.duration, len(s.body))
}

// checkDecodes decodes p with ffmpeg. Most viewers of a scenario have received the same bytes.
func (sc *scenario) checkDecodes(p excerpt) error {
	sum := fmt.Sprintf("%x", md5.Sum(p.body))
	if err, ok := sc.decoded[sum]; ok {
		return err
	}
	err := sc.ffmpegDecode(p.body)
	if err != nil {
		if keep := os.Getenv("TEST_KEEP"); keep != "" {
			os.WriteFile(filepath.Join(keep, sc.room+"-"+sum[:6]), p.body, 0o644)
		}
	}
	sc.decoded[sum] = err
	return err
}

// decodeArgs returns the arguments with which ffmpeg decodes a file and reports every error.
// timeBase is the time base of the encoder, which produces nothing, so that it counts as the file
// does.
func decodeArgs(file, timeBase string) []string {
	return []string{"-nostdin", "-v", "error", "-threads", "1", "-xerror", "-err_detect", "explode", "-i", file,
		"-map", "0", "-enc_time_base:v", timeBase, "-fps_mode", "passthrough", "-max_muxing_queue_size", "9999", "-f", "null",
		"-"}
}

// ffmpegDecode decodes body, with the newer ffmpeg if the codec in FLV has a FourCC. Any message is
// an error.
func (sc *scenario) ffmpegDecode(body []byte) error {
	if bytes.HasPrefix(body, []byte("FLV")) && bytes.Contains(body[:min(len(body), 64)], []byte("hvc1")) {
		p := harness.NewerFFmpeg(sc.t, body, decodeArgs("pipe:0", "demux")...)
		if code := p.Wait(maxWait); code != 0 || p.Stderr() != "" {
			return fmt.Errorf("the newer ffmpeg decodes %d bytes: exit code %d\n%.300s", len(body), code, p.Stderr())
		}
		return nil
	}
	file := filepath.Join(sc.t.TempDir(), "recording")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		return err
	}
	cmd := exec.Command("ffmpeg", append([]string{"-hide_banner"}, decodeArgs(file, "-1")...)...)
	out, err := cmd.CombinedOutput()
	if err == nil && len(out) > 0 {
		err = errors.New("unexpected output")
	}
	if err != nil {
		return fmt.Errorf("ffmpeg decodes %d bytes: %w\n%.300s", len(body), err, out)
	}
	return nil
}

// awaitPlayers waits until the server counts n players of the room.
func (sc *scenario) awaitPlayers(n int) {
	sc.t.Helper()
	harness.Eventually(sc.t, maxWait, fmt.Sprintf("%d players", n), func() error {
		if got := sc.players(); got != n {
			return fmt.Errorf("%d players", got)
		}
		return nil
	})
}

func (sc *scenario) players() (n int) {
	sc.t.Helper()
	for _, p := range sc.viewersAt.Stat().Players {
		if p.Key == "live/"+sc.room {
			n++
		}
	}
	return n
}

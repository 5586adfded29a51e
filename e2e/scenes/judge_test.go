package scenes

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

	"livego/e2e/essence"
	"livego/e2e/rig"
)

// judgeViewer looks at what one viewer received, once he has been ended.
func (sc *scene) judgeViewer(v *viewer) {
	sc.t.Helper()
	if v.err != nil && !sc.comeBack {
		sc.t.Errorf("%v: his connection did not stay: %v", v, v.err)
	}
	got, err := v.units()
	if err != nil {
		sc.t.Errorf("%v: %v", v, err)
		return
	}
	for _, k := range []essence.Kind{essence.Video, essence.Audio} {
		follows := sc.follows
		if sc.switches > 0 {
			follows = sc.switched
		}
		if err := follows(v, k, got.Of(k)); err != nil {
			sc.t.Errorf("%v: %s: %v", v, k, err)
		}
		most := cmp.Or(sc.gap, 250*time.Millisecond)
		if sc.arrivals {
			most += sc.pause()
		}
		if err := steady(got.Of(k), most); err != nil {
			sc.t.Errorf("%v: %s: %v", v, k, err)
		}
	}
	if v.when == "early" {
		sc.judgeWhole(v, got)
	}
	if sc.rough && v.segmented() || v.query == oldHEVC {
		return
	}
	for _, p := range v.parts() {
		if err := sc.decode(p); err != nil {
			sc.t.Errorf("%v: %s: %v", v, p.name, err)
		}
	}
}

// judgeWhole looks at what only who was there from the start can tell.
func (sc *scene) judgeWhole(v *viewer, got essence.Stream) {
	sc.t.Helper()
	if lasted := span(got); lasted < sc.lasts {
		sc.t.Errorf("%v: his recording lasts %v, want %v or more", v, lasted, sc.lasts)
	}
	if v.segmented() {
		for _, s := range v.segments {
			if s.discontinuity && !sc.rough && sc.gap < time.Second && !s.keyed() {
				sc.t.Errorf("%v: after a discontinuity the picture begins in the middle of a GOP: %v", v, s)
			}
		}
		if n := v.joins(); n < sc.joins || n > max(sc.joins, sc.mostJoins) {
			sc.t.Errorf("%v: %d discontinuities, want %d: %v", v, n, sc.joins, v.segments)
		}
		return
	}
	want := cmp.Or(sc.headers, 2)
	if sc.only != "" && sc.headers == 0 {
		want = 1
	}
	if n := v.headers(false); n != want {
		sc.t.Errorf("%v: %d codec headers, want %d", v, n, want)
	}
}

// span returns how much of stream time s is.
func span(s essence.Stream) time.Duration {
	if len(s) == 0 {
		return 0
	}
	low, high := s[0].DTS, s[0].DTS
	for _, u := range s {
		low, high = min(low, u.DTS), max(high, u.DTS)
	}
	return high - low
}

// pause returns the longest time between two frames that were sent.
func (sc *scene) pause() (longest time.Duration) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	for i := 1; i < len(sc.log); i++ {
		longest = max(longest, sc.log[i].at.Sub(sc.log[i-1].at))
	}
	return longest
}

// steady checks that time does not go back, nor forward by more than most.
func steady(s essence.Stream, most time.Duration) error {
	for i := 1; i < len(s); i++ {
		if step := s[i].DTS - s[i-1].DTS; step < 0 || step > most {
			return fmt.Errorf("a step of %v from number %d of %d (%v) to the next (%v)", step, i-1, len(s), s[i-1], s[i])
		}
	}
	return nil
}

// follows checks that got is what was sent, in that order, from a keyframe on to the end.
func (sc *scene) follows(v *viewer, k essence.Kind, got essence.Stream) error {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	var want []item
	for _, s := range sc.log {
		if s.unit.Kind == k {
			want = append(want, s.item)
		}
	}
	switch {
	case sc.only != "" && sc.only != k && len(got) > 0:
		return fmt.Errorf("there are %d", len(got))
	case len(want) == 0, sc.only != "" && sc.only != k:
		return nil
	case len(got) == 0:
		return fmt.Errorf("none of %d frames", len(want))
	}
	at, missing := -1, 0
	for i, u := range got {
		next := slices.IndexFunc(want[at+1:], func(it item) bool { return u.Sum == it.unit.Sum || u.Sum == it.essence.Sum })
		if next < 0 {
			return fmt.Errorf("number %d of %d was not sent after number %d of what was sent: %v", i, len(got), at, u)
		}
		if i > 0 {
			missing += next
		} else if !want[next].unit.Key {
			return fmt.Errorf("begins with number %d of what was sent, which is no keyframe", next)
		}
		at += 1 + next
	}
	if missing += len(want) - 1 - at; missing > sc.missing {
		return fmt.Errorf("%d of %d frames are missing, the last %d of them at the end", missing, len(want), len(want)-1-at)
	}
	return nil
}

// A place is where an encoder sent a frame: so many frames of its kind after its first.
type place struct {
	by  *encoder
	n   int
	key bool
}

// switched checks that got is what one encoder sent, then what the other did, and so on, each piece without a frame missing and from a
// keyframe on. Encoders may send the same clip, so a frame alone does not tell who sent it: there must be one reading of all of got.
func (sc *scene) switched(v *viewer, k essence.Kind, got essence.Stream) error {
	places := sc.places(k)
	type reading struct {
		last     place
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
			return fmt.Errorf("number %d of %d goes on with nothing that was sent, with at most %d switches: %v; it was sent as %v, the one "+
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

// places returns where each frame of a kind was sent, by the sums in which it is seen.
func (sc *scene) places(k essence.Kind) map[string][]place {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	places, count := map[string][]place{}, map[*encoder]int{}
	for _, s := range sc.log {
		if s.unit.Kind != k {
			continue
		}
		p := place{s.by, count[s.by], s.unit.Key}
		count[s.by]++
		places[s.unit.Sum] = append(places[s.unit.Sum], p)
		if s.essence.Sum != s.unit.Sum {
			places[s.essence.Sum] = append(places[s.essence.Sum], p)
		}
	}
	return places
}

// units returns what the viewer received, frame by frame.
func (v *viewer) units() (essence.Stream, error) {
	var all essence.Stream
	switch v.proto {
	case "hls":
		for _, p := range v.hlsParts() {
			units, err := fragments(p.body)
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
		units, err := essence.ReadTS(s.body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.uri, err)
		}
		all = append(all, units...)
	}
	return all, nil
}

// fragments returns what ffmpeg finds in fragmented MP4.
func fragments(body []byte) (essence.Stream, error) {
	cmd := exec.Command("ffmpeg", "-nostdin", "-v", "error", "-copyts", "-i", "-", "-map", "0", "-c", "copy", "-copyinkf", "-f", "framemd5", "-")
	cmd.Stdin = bytes.NewReader(body)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil || complaints.Len() > 0 {
		return nil, fmt.Errorf("ffmpeg reads %d bytes: %w: %.300s", len(body), err, &complaints)
	}
	return essence.ReadFrameMD5(&out)
}

func (v *viewer) flvTags() []essence.FLVTag {
	tags := make([]essence.FLVTag, len(v.tags))
	for i, t := range v.tags {
		tags[i] = t.FLVTag
	}
	return tags
}

// file makes an FLV file of tags, whose header says what is in it.
func (v *viewer) file(tags []essence.FLVTag) *essence.FLVFile {
	f := &essence.FLVFile{Tags: tags}
	for _, t := range tags {
		f.HasVideo = f.HasVideo || t.Type == essence.TagVideo
		f.HasAudio = f.HasAudio || t.Type == essence.TagAudio
	}
	return f
}

// headers returns how often a codec header came that was not the one before, or any at all.
func (v *viewer) headers(any bool) (n int) {
	last := map[byte][]byte{}
	for _, t := range v.tags {
		if t.IsHeader() && (any || !bytes.Equal(last[t.Type], t.Body)) {
			last[t.Type] = t.Body
			n++
		}
	}
	return n
}

// joins returns how many discontinuities there are after the first segment.
func (v *viewer) joins() (n int) {
	for _, s := range v.segments[min(1, len(v.segments)):] {
		if s.discontinuity {
			n++
		}
	}
	return n
}

// A part is a piece of a recording that a decoder can go through.
type part struct {
	name string
	body []byte
}

// parts cuts the recording where a player sets up its decoders anew: at a discontinuity of HLS, and at new codec headers, for each
// track by itself, since the others go on in mid-GOP there.
func (v *viewer) parts() []part {
	if v.segmented() {
		return v.hlsParts()
	}
	tags := v.flvTags()
	if len(slices.Compact(slices.Sorted(slices.Values(v.file(tags).Headers())))) <= 2 {
		return []part{v.flvPart("whole", tags)}
	}
	var parts []part
	for _, typ := range []byte{essence.TagVideo, essence.TagAudio} {
		from := -1
		for i, t := range append(tags, essence.FLVTag{Type: typ, Body: []byte{0x17, 0}}) {
			if t.Type != typ || !t.IsHeader() && i < len(tags) || from >= 0 && i < len(tags) && bytes.Equal(t.Body, tags[from].Body) {
				continue
			}
			if from >= 0 {
				own := slices.DeleteFunc(slices.Clone(tags[from:i]), func(t essence.FLVTag) bool { return t.Type != typ })
				if len(own) > 1 {
					parts = append(parts, v.flvPart(fmt.Sprintf("type %d from tag %d", typ, from), own))
				}
			}
			from = i
		}
	}
	return parts
}

func (v *viewer) flvPart(name string, tags []essence.FLVTag) part {
	var b bytes.Buffer
	_ = v.file(tags).Write(&b) // into memory
	return part{name, b.Bytes()}
}

// hlsParts cuts at discontinuities where the parameters change.
func (v *viewer) hlsParts() []part {
	var parts []part
	var now string
	for i, s := range v.segments {
		if set := s.parameters(); i == 0 || s.discontinuity && set != "" && set != now {
			now = set
			parts = append(parts, part{"from segment " + s.uri, slices.Clone(s.init)})
		}
		last := &parts[len(parts)-1]
		last.body = append(last.body, s.body...)
	}
	return parts
}

// parameters returns what decoders are set up by for s: the programme map of MPEG-TS with the first SPS, or the initialization section;
// nothing where MPEG-TS has no SPS though it has pictures.
func (s segment) parameters() string {
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

// keyed reports whether the first picture of s, where there is any, is a keyframe. What ffmpeg tells of fragments does not say: they are
// cut where MPEG-TS is.
func (s segment) keyed() bool {
	if s.init != nil {
		return true
	}
	units, err := essence.ReadTS(s.body)
	pictures := units.Of(essence.Video)
	return err == nil && (len(pictures) == 0 || pictures[0].Key)
}

func (s segment) String() string {
	mark := ""
	if s.discontinuity {
		mark = "|"
	}
	return fmt.Sprintf("%s%s %v %d bytes", mark, s.uri, s.duration, len(s.body))
}

// decode has ffmpeg decode p. Most viewers of a scene have received the same.
func (sc *scene) decode(p part) error {
	sum := fmt.Sprintf("%x", md5.Sum(p.body))
	if err, ok := sc.decoded[sum]; ok {
		return err
	}
	err := sc.decodes(p.body)
	if err != nil {
		if keep := os.Getenv("TEST_KEEP"); keep != "" {
			os.WriteFile(filepath.Join(keep, sc.room+"-"+sum[:6]), p.body, 0o644)
		}
	}
	sc.decoded[sum] = err
	return err
}

// decoding is how ffmpeg goes through a file without forgiving anything.
// timeBase is how the encoder that makes nothing of it is told to count as the file does.
func decoding(file, timeBase string) []string {
	return []string{"-nostdin", "-v", "error", "-threads", "1", "-xerror", "-err_detect", "explode", "-i", file,
		"-map", "0", "-enc_time_base:v", timeBase, "-fps_mode", "passthrough", "-max_muxing_queue_size", "9999", "-f", "null", "-"}
}

// decodes has ffmpeg decode what it must go through without a complaint: the newer one, where the codec of FLV has a FourCC.
func (sc *scene) decodes(body []byte) error {
	if bytes.HasPrefix(body, []byte("FLV")) && bytes.Contains(body[:min(len(body), 64)], []byte("hvc1")) {
		p := rig.NewerFFmpeg(sc.t, body, decoding("pipe:0", "demux")...)
		if code := p.Wait(patience); code != 0 || p.Stderr() != "" {
			return fmt.Errorf("the newer ffmpeg decodes %d bytes: exit code %d\n%.300s", len(body), code, p.Stderr())
		}
		return nil
	}
	file := filepath.Join(sc.t.TempDir(), "recording")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		return err
	}
	cmd := exec.Command("ffmpeg", append([]string{"-hide_banner"}, decoding(file, "-1")...)...)
	out, err := cmd.CombinedOutput()
	if err == nil && len(out) > 0 {
		err = errors.New("it complained")
	}
	if err != nil {
		return fmt.Errorf("ffmpeg decodes %d bytes: %w\n%.300s", len(body), err, out)
	}
	return nil
}

// awaitPlayers waits until the server counts n players of the room.
func (sc *scene) awaitPlayers(n int) {
	sc.t.Helper()
	rig.Eventually(sc.t, patience, fmt.Sprintf("%d players", n), func() error {
		if got := sc.players(); got != n {
			return fmt.Errorf("%d players", got)
		}
		return nil
	})
}

func (sc *scene) players() (n int) {
	sc.t.Helper()
	for _, p := range sc.s.Stat().Players {
		if p.Key == "live/"+sc.room {
			n++
		}
	}
	return n
}

package health

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"livego/internal/codec"
	"livego/internal/media"
)

// A rule finds one problem. docs/doctor.md explains each.
type rule struct {
	Code     string
	Severity Severity
	// check returns the problem of now, "" if there is none.
	check func(*Analyzer) string
}

// rules are all rules. A problem that explains another keeps its rule silent, so that each fault has
// one finding.
var rules = [...]rule{
	{"no_configuration", Error, (*Analyzer).checkConfiguration},
	{"unusable_track", Error, (*Analyzer).checkUnusable},
	{"no_video", Error, (*Analyzer).checkVideo},
	{"no_audio", Error, (*Analyzer).checkAudio},
	{"frozen_picture", Warning, (*Analyzer).checkFrozen},
	{"silent_audio", Warning, (*Analyzer).checkSilence},
	{"keyframe_interval", Warning, (*Analyzer).checkKeyframes},
	{"variable_frame_rate", Warning, (*Analyzer).checkFrameRate},
	{"b_frames", Notice, (*Analyzer).checkBFrames},
	{"bitrate_peaks", Warning, (*Analyzer).checkPeaks},
	{"pixel_format", Warning, (*Analyzer).checkPixels},
	{"sample_rate", Warning, (*Analyzer).checkSampleRate},
	{"video_change", Warning, (*Analyzer).checkVideoChange},
	{"audio_change", Warning, (*Analyzer).checkAudioChange},
	{"timestamps_unreliable", Warning, (*Analyzer).checkClock},
	{"timestamp_jumps", Warning, (*Analyzer).checkJumps},
	{"audio_drift", Warning, (*Analyzer).checkAudioDrift},
	{"audio_gaps", Warning, (*Analyzer).checkAudioGaps},
	{"audio_skew", Warning, (*Analyzer).checkSkew},
	{"too_slow", Warning, (*Analyzer).checkSlow},
	{"too_fast", Warning, (*Analyzer).checkFast},
	{"clock_drift", Notice, (*Analyzer).checkClockDrift},
	{"unstable_uplink", Warning, (*Analyzer).checkPauses},
	{"damaged_frames", Warning, (*Analyzer).checkDamage},
	{"slow_viewers", Warning, (*Analyzer).checkViewers},
	{"playback_stalls", Warning, (*Analyzer).checkPlayback},
}

// Rules returns the code and the severity of each finding that there can be.
func Rules() []Finding {
	list := make([]Finding, len(rules))
	for i, r := range rules {
		list[i] = Finding{Code: r.Code, Severity: r.Severity}
	}
	return list
}

// eventWindow is how many seconds an event, such as a jump of timestamps, is a problem.
const eventWindow = 60

// window calls f for the samples of the last n seconds, newest first, and returns how many there are.
func (a *Analyzer) window(n int, f func(*Sample)) int {
	n = min(n, len(a.history))
	for i := range n {
		f(a.recent(i))
	}
	return n
}

// count returns the sum of a counter over the last eventWindow seconds.
func (a *Analyzer) count(of func(*Sample) uint8) (sum int) {
	a.window(eventWindow, func(s *Sample) { sum += int(of(s)) })
	return sum
}

func (a *Analyzer) hasUnusable(k media.Kind) bool {
	return slices.ContainsFunc(a.facts.Unusable, func(t media.UnusableTrack) bool { return t.Kind == k })
}

// unusableSeconds is how long a track must be unusable to be a problem: some encoders send their
// configuration after the first frames.
const unusableSeconds = 3

func (a *Analyzer) checkConfiguration() string {
	if a.unusable < unusableSeconds {
		return ""
	}
	for _, t := range a.facts.Unusable {
		if name := configName(t.Codec); name != "" && t.Cause == media.SkipNoConfig {
			return fmt.Sprintf("The %s %s cannot be decoded: its %s never arrived, in a sequence header or "+
				"in the stream. In OBS stop and start the stream; in ffmpeg add -flags +global_header, and "+
				"encode in place of -c copy.", t.Codec, t.Kind, name)
		}
	}
	return ""
}

// configName returns what a codec's configuration is called, "" for a codec that needs none.
func configName(name string) string {
	for c := media.H264; c <= media.EAC3; c++ {
		if c.String() != name {
			continue
		}
		if codec.HasParameterSets(c) {
			return "configuration (SPS and PPS)"
		}
		if n := codec.ConfigName(c); n != "" {
			return "configuration (" + n + ")"
		}
	}
	return ""
}

func (a *Analyzer) checkUnusable() string {
	if a.unusable < unusableSeconds || a.checkConfiguration() != "" {
		return ""
	}
	t := a.facts.Unusable[0]
	where, encoder, option := "Video Encoder", "x264", "-c:v libx264"
	if t.Kind == media.Audio {
		where, encoder, option = "Audio Encoder", "AAC", "-c:a aac"
	}
	return fmt.Sprintf("No viewer gets the %s (%s): %s. In OBS set Settings > Output > %s to %s; in ffmpeg add %s.",
		t.Kind, t.Codec, t.Reason, where, encoder, option)
}

// absentSeconds is how long a track may have no frame.
const absentSeconds = 10

// absent returns for how long t, of kind k, has had no frame, although it should have; 0 if it has.
func (a *Analyzer) absent(t, other *track, k media.Kind) time.Duration {
	newest := a.recent(0)
	if !t.expected && !a.meta.Kinds().Has(k) || !other.expected || a.hasUnusable(k) ||
		newest.Time.Sub(other.arrived) > 2*time.Second {
		return 0
	}
	since := t.arrived
	if !t.expected {
		since = a.connected
	}
	if d := newest.Time.Sub(since); d >= absentSeconds*time.Second {
		return d
	}
	return 0
}

func (a *Analyzer) checkVideo() string {
	d := a.absent(&a.video, &a.audio, media.Video)
	if d == 0 {
		return ""
	}
	return fmt.Sprintf("There has been no video for %.0f s, although the encoder announced it. In OBS "+
		"check the video encoder in Settings > Output; in ffmpeg check -map and that the video input still "+
		"delivers.", d.Seconds())
}

func (a *Analyzer) checkAudio() string {
	d := a.absent(&a.audio, &a.video, media.Audio)
	if d == 0 {
		return ""
	}
	return fmt.Sprintf("There has been no audio for %.0f s, although the encoder announced it: players "+
		"that wait for it stall. In OBS check Settings > Audio > Global Audio Devices; in ffmpeg check "+
		"-map and that the audio input still delivers, or add -f lavfi -i anullsrc.", d.Seconds())
}

func (a *Analyzer) checkFrozen() string {
	if !a.motion.frozen || a.video.track == nil || a.recent(0).videoFrames == 0 {
		return ""
	}
	return fmt.Sprintf("The picture froze %d s ago: it moved before, and no new scene came. In OBS "+
		"reactivate the capture source (its properties > Deactivate, then Activate); in ffmpeg restart the "+
		"input device.", a.motion.still)
}

// silentSeconds is how long audio must be silence to be a problem.
const silentSeconds = 20

func (a *Analyzer) checkSilence() string {
	silent := 0
	for s := a.recent(0); s != nil && (s.Silent || s.audioFrames == 0 && silent > 0); s = a.recent(silent) {
		silent++
	}
	if silent < silentSeconds {
		return ""
	}
	return fmt.Sprintf("The audio has been digital silence for %d s. In OBS unmute the sources in the "+
		"Audio Mixer, and select the devices in Settings > Audio; in ffmpeg check the audio input (-i) and "+
		"-map.", silent)
}

// maxGOP is the longest keyframe interval in seconds that viewers start well with: HLS segments become
// as long as it.
const maxGOP = 4.2

func (a *Analyzer) checkKeyframes() string {
	longest, none := 0.0, false
	a.window(eventWindow, func(s *Sample) {
		if s.Keyframes > 0 {
			longest = max(longest, float64(s.GOP))
		}
	})
	if !a.hasKey {
		return ""
	}
	if running := (a.video.end - a.keyAt).Seconds(); running > max(longest, 3*maxGOP) {
		longest, none = running, true
	}
	if longest <= maxGOP {
		return ""
	}
	rate := a.frameRate()
	is := fmt.Sprintf("is %.1f s", longest)
	if none {
		is = fmt.Sprintf("is longer than %.0f s", longest)
	}
	return fmt.Sprintf("Keyframe interval %s: new viewers wait that long for a picture, and HLS segments "+
		"become that long. In OBS set Settings > Output > Keyframe Interval to 2 s; in ffmpeg add -g %d "+
		"-keyint_min %d for %d fps.", is, 2*rate, 2*rate, rate)
}

// frameRate returns the frame rate of the last seconds, rounded; at least 1.
func (a *Analyzer) frameRate() int {
	sum, n := 0.0, 0
	a.window(10, func(s *Sample) {
		if s.videoFrames > 0 {
			sum += float64(s.FrameRate)
			n++
		}
	})
	return max(1, int(math.Round(sum/float64(max(n, 1)))))
}

const (
	frameRateSeconds = 10
	maxIrregular     = 0.1 // share of frame intervals
)

func (a *Analyzer) checkFrameRate() string {
	irregular, jumps := 0, 0
	n := a.window(frameRateSeconds, func(s *Sample) {
		if s.irregular >= maxIrregular {
			irregular++
		}
		jumps += int(s.Jumps)
	})
	if n < frameRateSeconds || irregular < n-1 || jumps > 0 || a.facts.ArrivalTimestamps {
		return ""
	}
	if a.recent(0).irregular < maxIrregular {
		return "" // the text describes the last intervals
	}
	shortest, longest := a.intervals.span()
	rate := (1000 + a.intervals.median/2) / max(a.intervals.median, 1)
	return fmt.Sprintf("Frame rate varies: frames are %d to %d ms apart. In OBS set Settings > Video > "+
		"Common FPS Values to %d, and choose a faster encoder preset if frames are skipped; in ffmpeg add "+
		"-fps_mode cfr -r %d.", shortest, longest, rate, rate)
}

const (
	maxBFrames = 4   // in a row: x264 uses up to 3 by default, x265 4
	maxReorder = 400 // ms
)

func (a *Analyzer) checkBFrames() string {
	seconds, row, delay := 0, uint8(0), int32(0)
	a.window(10, func(s *Sample) {
		if s.BFrames > maxBFrames || s.BFrames > 0 && s.ReorderMS > maxReorder {
			seconds++
		}
		row, delay = max(row, s.BFrames), max(delay, s.ReorderMS)
	})
	if seconds < 3 {
		return ""
	}
	return fmt.Sprintf("There are up to %d B-frames in a row, which delay the stream by %d ms. In OBS set "+
		"Settings > Output > Max B-frames to 2, or x264 Options to bframes=2; in ffmpeg add -bf 2, or -bf "+
		"0 for the lowest delay.", row, delay)
}

func (a *Analyzer) checkPeaks() string {
	announced := 0.0
	if a.meta != nil {
		announced = a.meta.VideoRate
	}
	usual, highest, count := a.peaks.find(announced)
	if count < 3 {
		return ""
	}
	return fmt.Sprintf("Bitrate peaks at %.1f Mbit/s, %.1f times the usual %.1f Mbit/s, %d times in the "+
		"last minute: slow lines stall. In OBS set Settings > Output > Rate Control to CBR; in ffmpeg add "+
		"-b:v %dk -maxrate %dk -bufsize %dk.",
		float64(highest)/1000, float64(highest)/float64(usual), float64(usual)/1000, count, usual, usual, 2*usual)
}

func (a *Analyzer) checkPixels() string {
	t := a.video.track
	if t == nil || t.Codec != media.H264 || t.BitDepth <= 8 && !strings.Contains(t.Profile, "4:2:2") &&
		!strings.Contains(t.Profile, "4:4:4") {
		return ""
	}
	return fmt.Sprintf("H.264 profile %s with %d bits plays in few browsers and phones. In OBS set "+
		"Settings > Advanced > Color Format to NV12; in ffmpeg add -pix_fmt yuv420p.", t.Profile, t.BitDepth)
}

func (a *Analyzer) checkSampleRate() string {
	t := a.audio.track
	if t == nil || t.Codec != media.AAC && t.Codec != media.MP3 || t.SampleRate <= 48000 {
		return ""
	}
	return fmt.Sprintf("The sample rate is %d Hz: phones and many players support at most 48000 Hz. In OBS "+
		"set Settings > Audio > Sample Rate to 48 kHz; in ffmpeg add -ar 48000.", t.SampleRate)
}

func (a *Analyzer) checkVideoChange() string {
	n := a.count(func(s *Sample) uint8 { return s.VideoChanges })
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("The video changed %s %s: players restart their decoder, and "+
		"some stop. In OBS keep Settings > Video > Output Resolution and the encoder while you stream; in "+
		"ffmpeg add -s and -r before the output.", times(n), a.videoChange)
}

func (a *Analyzer) checkAudioChange() string {
	n := a.count(func(s *Sample) uint8 { return s.AudioChanges })
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("The audio changed %s %s: players restart their decoder, and "+
		"some stop. In OBS keep Settings > Audio > Sample Rate and Channels while you stream; in ffmpeg "+
		"add -ar 48000 -ac 2.", times(n), a.audioChange)
}

// times says how often an event happened, before what the last one was.
func times(n int) string {
	if n == 1 {
		return "once in the last minute"
	}
	return fmt.Sprintf("%d times in the last minute, the last time", n)
}

func describeVideoChange(old, t *media.Track) string {
	switch {
	case old.Codec != t.Codec:
		return fmt.Sprintf("from %v to %v", old.Codec, t.Codec)
	case old.Width != t.Width || old.Height != t.Height:
		return fmt.Sprintf("from %dx%d to %dx%d", old.Width, old.Height, t.Width, t.Height)
	}
	return "in its parameter sets"
}

func describeAudioChange(old, t *media.Track) string {
	switch {
	case old.Codec != t.Codec:
		return fmt.Sprintf("from %v to %v", old.Codec, t.Codec)
	case old.SampleRate != t.SampleRate:
		return fmt.Sprintf("from %d to %d Hz", old.SampleRate, t.SampleRate)
	case old.Channels != t.Channels:
		return fmt.Sprintf("from %d to %d channels", old.Channels, t.Channels)
	}
	return "in its configuration"
}

func (a *Analyzer) checkClock() string {
	if !a.facts.ArrivalTimestamps {
		return ""
	}
	return "The timestamps stand still or jump all the time, so frames are timestamped when they arrive: " +
		"playback is uneven. In OBS restart OBS, or use another encoder in Settings > Output; in ffmpeg " +
		"add -use_wallclock_as_timestamps 1 before -i."
}

func (a *Analyzer) checkJumps() string {
	n := a.count(func(s *Sample) uint8 { return s.Jumps })
	if n == 0 || a.facts.ArrivalTimestamps {
		return ""
	}
	return fmt.Sprintf("Timestamps jumped %s by %+.1f s: playback stalls or skips "+
		"there. In OBS turn off Use Device Timestamps in the properties of audio sources, and do not change "+
		"the clock of the machine; in ffmpeg add -fflags +genpts -use_wallclock_as_timestamps 1 before -i.",
		times(n), a.jumpBy.Seconds())
}

const (
	driftSeconds  = 30
	minDrift      = 60 // ms in driftSeconds: 0.2 %
	minHalfDrift  = minDrift / 3
	maxSkew       = 700 // ms
	maxShareSkew  = 8   // of ten seconds
	audioGapCount = 3
)

// steady reports whether value, which rose by change since the sample of seconds ago, rose in both
// halves of that time by at least half.
func steady(change, firstHalf, half float64) bool {
	return change > 0 && firstHalf >= half && change-firstHalf >= half ||
		change < 0 && firstHalf <= -half && change-firstHalf <= -half
}

func (a *Analyzer) checkAudioDrift() string {
	now, middle, start := a.recent(0), a.recent(driftSeconds/2), a.recent(driftSeconds)
	if start == nil || a.facts.ArrivalTimestamps || a.count(func(s *Sample) uint8 { return s.AudioGaps + s.Jumps }) > 0 {
		return ""
	}
	change, first := float64(now.DriftMS-start.DriftMS), float64(middle.DriftMS-start.DriftMS)
	if math.Abs(change) < minDrift || !steady(change, first, minHalfDrift) || now.audioFrames == 0 {
		return ""
	}
	pace := "slower"
	if change > 0 {
		pace = "faster"
	}
	return fmt.Sprintf("Audio drifts: its timestamps run %.1f %% %s than its samples, so sound and picture "+
		"part by %.1f s in an hour. In OBS set Settings > Audio > Sample Rate to the rate of the audio "+
		"device; in ffmpeg add -af aresample=async=1.",
		math.Abs(change)/(driftSeconds*10), pace, math.Abs(change)/1000*3600/driftSeconds)
}

func (a *Analyzer) checkAudioGaps() string {
	n := a.count(func(s *Sample) uint8 { return s.AudioGaps })
	if n < audioGapCount || a.facts.ArrivalTimestamps || a.count(func(s *Sample) uint8 { return s.Jumps }) > 0 {
		return ""
	}
	return fmt.Sprintf("The audio has %d gaps in the last minute, the last of %.0f ms. In OBS close other "+
		"programs that use the audio device, and set Settings > Audio > Sample Rate to its rate; in ffmpeg "+
		"add -af aresample=async=1 and -thread_queue_size 1024 before -i.", n, float64(a.gapBy.Milliseconds()))
}

func (a *Analyzer) checkSkew() string {
	seconds, sum := 0, 0.0
	n := a.window(10, func(s *Sample) {
		if s.hasSkew && (s.SkewMS > maxSkew || s.SkewMS < -maxSkew) {
			seconds++
			sum += float64(s.SkewMS)
		}
	})
	if n < 10 || seconds < maxShareSkew {
		return ""
	}
	mean := sum / float64(seconds) / 1000
	order := "later"
	if mean > 0 {
		order = "earlier"
	}
	return fmt.Sprintf("Audio arrives %.1f s %s than its video: players with a short buffer stall. In OBS "+
		"set Sync Offset to 0 in Advanced Audio Properties, and remove Render Delay filters; in ffmpeg add "+
		"-max_interleave_delta 0 and check -itsoffset.", math.Abs(mean), order)
}

const (
	slowSeconds  = 20
	minSlow      = 0.75 // s in slowSeconds
	minHalfSlow  = minSlow / 3
	fastSeconds  = 10
	minFast      = 2.0 // s in fastSeconds
	clockSeconds = 120
	minClock     = 0.24 // s in clockSeconds: 0.2 %
	minHalfClock = minClock / 3
	lagSpan      = 5 // seconds whose least lag counts
)

// leastLag returns the least lag in seconds of a few seconds, the newest of which is back ago; false if
// there is none.
func (a *Analyzer) leastLag(back int) (float64, bool) {
	least, ok := int32(0), false
	for i := back; i < back+lagSpan && i < len(a.history); i++ {
		if s := a.recent(i); s.hasLag && (!ok || s.LagMS < least) {
			least, ok = s.LagMS, true
		}
	}
	return float64(least) / 1000, ok
}

// lagChange returns by how many seconds the lag rose in the last n seconds, and in the first half of
// them; false if the connection is shorter.
func (a *Analyzer) lagChange(n int) (change, first float64, ok bool) {
	if a.lag.seconds < n+lagSpan || a.facts.ArrivalTimestamps {
		return 0, 0, false
	}
	now, ok1 := a.leastLag(0)
	middle, ok2 := a.leastLag(n / 2)
	start, ok3 := a.leastLag(n)
	return now - start, middle - start, ok1 && ok2 && ok3
}

func (a *Analyzer) checkSlow() string {
	change, first, ok := a.lagChange(slowSeconds)
	if !ok || change < minSlow || !steady(change, first, minHalfSlow) || a.checkPauses() != "" {
		return ""
	}
	return fmt.Sprintf("Only %.2f s of the stream arrive in a second: players stall. The encoder or the "+
		"uplink is too slow. In OBS choose a faster preset or lower Video Bitrate in Settings > Output; in "+
		"ffmpeg add -preset veryfast or lower -b:v, and see that it reports speed=1x.", 1-change/slowSeconds)
}

// leastLagBefore returns the least lag in seconds since the start of the connection until back seconds
// ago; false if there is none.
func (a *Analyzer) leastLagBefore(back int) (least float64, ok bool) {
	for i := back; i < min(a.lag.seconds, len(a.history)); i++ {
		if s := a.recent(i); s.hasLag && (!ok || float64(s.LagMS)/1000 < least) {
			least, ok = float64(s.LagMS)/1000, true
		}
	}
	return least, ok
}

func (a *Analyzer) checkFast() string {
	if a.lag.seconds < fastSeconds+1 || a.facts.ArrivalTimestamps {
		return ""
	}
	now := a.recent(0)
	// After a pause the rest of the stream comes fast: compare with the least lag of all time before. At
	// the start of a relay a part of the stream comes fast: see both halves of the time.
	start, ok := a.leastLagBefore(fastSeconds)
	middle, _ := a.leastLagBefore(fastSeconds / 2)
	lag := float64(now.LagMS) / 1000
	gain := start - lag
	if !ok || !now.hasLag || gain < minFast || start-middle < minFast/3 || middle-lag < minFast/3 {
		return ""
	}
	return fmt.Sprintf("The stream comes %.1f times as fast as it plays: viewers skip parts of it. In OBS "+
		"play the file as a Media Source; in ffmpeg add -re before -i.", 1+gain/fastSeconds)
}

func (a *Analyzer) checkClockDrift() string {
	change, first, ok := a.lagChange(clockSeconds)
	if !ok || math.Abs(change) < minClock || !steady(change, first, minHalfClock) ||
		a.checkSlow() != "" || a.checkFast() != "" || a.checkPauses() != "" {
		return ""
	}
	pace := "slow"
	if change < 0 {
		pace = "fast"
	}
	return fmt.Sprintf("The encoder's clock is %.1f %% %s against the server's: %.0f s in an hour, by "+
		"which players stall or skip. In OBS turn off Use Device Timestamps in the properties of audio "+
		"sources; in ffmpeg add -use_wallclock_as_timestamps 1 before -i.",
		math.Abs(change)/clockSeconds*100, pace, math.Abs(change)*3600/clockSeconds)
}

func (a *Analyzer) checkPauses() string {
	n := a.count(func(s *Sample) uint8 { return s.Pauses })
	if n < 3 {
		return ""
	}
	return fmt.Sprintf("The stream arrived with %d pauses in the last minute: the uplink is unstable or "+
		"too slow. In OBS lower Settings > Output > Video Bitrate, or turn on Settings > Advanced > "+
		"Dynamically change bitrate; in ffmpeg lower -b:v and -maxrate.", n)
}

func (a *Analyzer) checkDamage() string {
	n := a.count(func(s *Sample) uint8 { return s.Damaged })
	if n < 3 {
		return ""
	}
	return fmt.Sprintf("%d frames in the last minute were damaged. In OBS use another encoder in Settings "+
		"> Output; in ffmpeg encode again in place of -c copy, or add -err_detect explode to find the "+
		"damaged input.", n)
}

const (
	minViewers     = 4
	minShareBehind = 0.25
)

func (a *Analyzer) checkViewers() string {
	if a.facts.Viewers < minViewers || float64(a.facts.Behind) < minShareBehind*float64(a.facts.Viewers) ||
		a.arrivesUnevenly() {
		return ""
	}
	rate := a.bitrate()
	return fmt.Sprintf("%d of %d viewers fell behind and skipped: their lines take less than the %.1f "+
		"Mbit/s of the stream. In OBS lower Settings > Output > Video Bitrate to %.0f Kbps; in ffmpeg add "+
		"-b:v %.0fk -maxrate %.0fk.", a.facts.Behind, a.facts.Viewers, rate/1000, rate*0.6, rate*0.6, rate*0.6)
}

// arrivesUnevenly reports whether the stream stalls or jumps: then viewers skip and stall, whatever their lines take.
func (a *Analyzer) arrivesUnevenly() bool {
	return a.checkPauses() != "" || a.checkJumps() != "" || a.checkFast() != ""
}

// bitrate returns the bitrate of the stream over the last ten seconds, in kbit/s.
func (a *Analyzer) bitrate() float64 {
	sum := 0.0
	seconds := a.window(10, func(s *Sample) { sum += float64(s.VideoKbps + s.AudioKbps) })
	return sum / float64(max(seconds, 1))
}

const (
	minStalled      = 3
	minShareStalled = 0.05
)

func (a *Analyzer) checkPlayback() string {
	p := a.facts.Playback
	if p.Stalled < minStalled || float64(p.Stalled) < minShareStalled*float64(p.Players) || a.hasStopped() ||
		a.arrivesUnevenly() || a.checkViewers() != "" {
		return ""
	}
	text := fmt.Sprintf("%d of %d players (%d %%) stalled in the last minute", p.Stalled, p.Players,
		100*p.Stalled/p.Players)
	if p.Most != "" {
		text += "; most of them play " + p.Most
	}
	if p.Most != "" && 2*p.Slow < p.Stalled {
		return text + ". Watch the stream like that to see why; a proxy or a CDN may be too slow."
	}
	rate := a.bitrate()
	return text + fmt.Sprintf(". Their lines may take less than the %.1f Mbit/s of the stream: in OBS lower Settings > "+
		"Output > Video Bitrate to %.0f Kbps; in ffmpeg add -b:v %.0fk -maxrate %.0fk.", rate/1000, rate*0.6, rate*0.6,
		rate*0.6)
}

// hasStopped reports whether nothing arrived for a second of the last minute, so that the players had nothing to play.
func (a *Analyzer) hasStopped() (stopped bool) {
	a.window(eventWindow, func(s *Sample) {
		stopped = stopped || s.videoFrames == 0 && s.audioFrames == 0 || s.Pauses > 0
	})
	return stopped
}

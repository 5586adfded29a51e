package probe

import (
	"fmt"
	"path/filepath"
	"strings"

	"livego/internal/media"
	"livego/internal/source"
)

// A repair is what a command must do to mend something.
type repair struct {
	video, audio bool // encode anew
	silence      bool // add sound
	retime       bool // count time stamps anew
	copy         bool // write the file anew, as it is
	rate         int  // of the sound, Hz
}

func (f repair) union(g repair) repair {
	return repair{f.video || g.video, f.audio || g.audio, f.silence || g.silence, f.retime || g.retime, f.copy || g.copy,
		max(f.rate, g.rate)}
}

func (f repair) isZero() bool { return f == repair{} }

// Bounds of what viewers do not notice.
const (
	maxGOP           = 4.0 // s between keyframes: who joins waits as long for a picture
	maxHiddenStart   = 0.1 // s before what the edit list shows
	maxKeyframeDelay = 0.5 // s of pictures that nobody can decode
	maxStartOffset   = 0.5 // s between the beginnings of picture and sound
	maxSampleRate    = 48000
	maxFrameSize     = 8 << 20 // bytes: livego's limit for a message
)

// addRemarks makes remarks, the verdict and the commands.
func (r *Report) addRemarks(s *source.Source, cut *source.TruncatedError) {
	for _, t := range r.Tracks {
		r.checkCodec(t)
		if t.Frames == 0 && t.track.Codec != media.Passthrough {
			r.add(Remark{Code: "no-frames", Fatal: !r.hasPlayableBeside(t.track.Kind),
				Text: fmt.Sprintf("The %s track has no frames.", t.Kind)})
			continue
		}
		if t.track.Kind == media.Video {
			r.checkVideo(t)
		} else {
			r.checkAudio(t)
		}
		if t.stats.jumps > 0 {
			r.add(Remark{Code: "jump", repair: repair{video: true, audio: true, retime: true}, Text: fmt.Sprintf(
				"Time stamps of the %s jump by %+.1f s at %.1f s%s: players stop or hurry there.", t.Kind, t.stats.jumpBy.Seconds(),
				t.stats.jumpAt.Seconds(), more(t.stats.jumps))})
		}
		if t.stats.largest > maxFrameSize {
			r.add(Remark{Code: "large-frame", repair: repair{video: true},
				Text: fmt.Sprintf("A frame has %.1f MB: many servers take no message of more than 8 MB.",
					float64(t.stats.largest)/1e6)})
		}
	}
	r.checkFile(s, cut)
	r.setVerdict()
}

func more(n int) string {
	if n > 1 {
		return fmt.Sprintf(", and %d times more", n-1)
	}
	return ""
}

// checkCodec says what some output can't carry.
func (r *Report) checkCodec(t *Track) {
	f := repair{video: t.track.Kind == media.Video, audio: t.track.Kind == media.Audio}
	switch {
	case t.RTMP == "no" && (strings.Contains(t.Codec, "encrypted") || t.Codec == "scrambled"):
		r.add(Remark{Code: "encrypted", Fatal: true,
			Text: fmt.Sprintf("The %s is encrypted (%s): nobody can play it without its key.", t.Kind, t.Codec)})
	case t.RTMP == "no":
		r.add(Remark{Code: "codec", Fatal: true, repair: f,
			Text: fmt.Sprintf("The %s is %s, which no output can carry.", t.Kind, t.Codec)})
	case t.RTMP == "old":
		r.add(Remark{Code: "old-codec", repair: f,
			Text: fmt.Sprintf("The %s is %s, which only RTMP and HTTP-FLV can carry, and only old players and ffmpeg play.",
				t.Kind, t.Codec)})
	case t.RTMP == "enhanced":
		const known = "The %s is %s: by RTMP and HTTP-FLV it plays only in players that know Enhanced RTMP"
		text := fmt.Sprintf(known, t.Kind, t.Codec)
		switch {
		case t.FMP4 == "no" && t.TS == "no":
			text += ", and HLS can't carry it"
		case t.TS == "no":
			text += ", and HLS in MPEG-TS can't carry it"
		case t.FMP4 == "no":
			text += ", and HLS in fMP4 can't carry it"
		}
		r.add(Remark{Code: "enhanced-codec", repair: f, Text: text + "."})
	case t.TS == "no" && t.Frames > 0:
		r.add(Remark{Code: "ts", repair: f,
			Text: fmt.Sprintf("HLS in MPEG-TS can't carry this %s (%s %s).", t.Codec, t.Profile, t.RFC6381)})
	}
}

func (r *Report) checkVideo(t *Track) {
	f := repair{video: true}
	m := t.track
	switch {
	case t.Frames == 0:
	case t.Keys == 0:
		r.add(Remark{Code: "no-key", Fatal: r.Whole, repair: f,
			Text: fmt.Sprintf("There is no keyframe in %.1f s: nobody sees a picture.", r.Seen)})
	case t.KeyAt > maxKeyframeDelay:
		r.add(Remark{Code: "late-key", repair: f,
			Text: fmt.Sprintf("The first keyframe comes after %.1f s: until then there is no picture.", t.KeyAt)})
	}
	if t.GOP > maxGOP {
		r.add(Remark{Code: "gop", repair: f,
			Text: fmt.Sprintf("Up to %.1f s pass from keyframe to keyframe: who joins waits as long for a picture, and HLS "+
				"segments get as long.", t.GOP)})
	}
	if t.Rotation != 0 {
		r.add(Remark{Code: "rotation", repair: f,
			Text: fmt.Sprintf("The picture is to be turned by %d degrees, which no output can say: it will lie on its side "+
				"or stand on its head.", t.Rotation)})
	}
	if m.Codec == media.H264 && (m.BitDepth > 8 || strings.Contains(m.Profile, "4:2:2") ||
		strings.Contains(m.Profile, "4:4:4")) {
		r.add(Remark{Code: "profile", repair: f,
			Text: fmt.Sprintf("H.264 of profile %s with %d bits plays in hardly any browser or phone.", m.Profile, m.BitDepth)})
	}
	if t.stream.Edited {
		r.add(Remark{Code: "edit-list", repair: repair{video: true, audio: true},
			Text: "The edit list shows pieces of the film, or in another order: a live stream shows all of it as it was " +
				"recorded."})
	} else if before := -t.stats.first.Seconds(); before > maxHiddenStart && !r.Live {
		r.add(Remark{Code: "edit-list", repair: repair{video: true, audio: true},
			Text: fmt.Sprintf("The edit list hides the first %.1f s, which the pictures behind them need: in a live stream "+
				"they are seen.", before)})
	}
	if t.Changes > 0 && m.Codec != media.Passthrough {
		r.add(Remark{Code: "changes", repair: f,
			Text: fmt.Sprintf("The video changes its parameters %s: not every player follows.", times(t.Changes))})
	}
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func (r *Report) checkAudio(t *Track) {
	if t.RTMP == "yes" && t.SampleRate > maxSampleRate {
		r.add(Remark{Code: "sample-rate", repair: repair{audio: true, rate: maxSampleRate},
			Text: fmt.Sprintf("The sampling rate is %d Hz: phones and many players stop at 48000.", t.SampleRate)})
	}
}

// checkFile looks at the tracks together.
func (r *Report) checkFile(s *source.Source, cut *source.TruncatedError) {
	video, audio := r.firstOf(media.Video), r.firstOf(media.Audio)
	if video != nil && audio == nil && (r.Whole || r.Seen > 3) {
		r.add(Remark{Code: "no-audio", repair: repair{silence: true},
			Text: "There is no sound: players that wait for it begin late or never."})
	}
	if video != nil && audio != nil && video.Frames > 0 && audio.Frames > 0 && !r.Live {
		if d := audio.Start - video.Start; d > maxStartOffset || d < -maxStartOffset {
			r.add(Remark{Code: "offset", repair: repair{audio: true, video: true},
				Text: fmt.Sprintf("The sound begins %+.1f s from the picture: players that wait for both begin late.", d)})
		}
	}
	for _, k := range []media.Kind{media.Video, media.Audio} {
		if n := r.count(k); n > 1 {
			r.add(Remark{Code: "tracks", repair: repair{copy: true},
				Text: fmt.Sprintf("There are %d %s tracks: push sends the first of them, others by --tracks.", n, k)})
		}
	}
	if cut != nil {
		text := fmt.Sprintf("The file is cut off or damaged at %.1f s: what is behind that is not played.", cut.At.Seconds())
		if cut.Growing {
			text = "The file is still being written: only what was there when it was opened is played."
		}
		r.add(Remark{Code: "cut", repair: repair{copy: true}, Text: text})
	}
	for _, t := range s.Unusable() {
		text := fmt.Sprintf("The %s track (%s) is unusable: %s.", t.Kind, t.Codec, t.Reason)
		r.add(Remark{Code: "unusable-track", repair: repair{copy: true}, Text: text})
	}
	if r.readErr != nil {
		text := fmt.Sprintf("The rest of it cannot be read: %v.", r.readErr)
		r.add(Remark{Code: "damaged", repair: repair{copy: true}, Text: text})
	}
	if trouble := s.Problems(); trouble != "" {
		r.add(Remark{Code: "damaged", repair: repair{copy: true},
			Text: "Something is wrong within the file: " + trouble + "."})
	}
	if len(r.Tracks) == 0 {
		r.add(Remark{Code: "nothing", Fatal: true, Text: fmt.Sprintf("Neither picture nor sound came in %.1f s.", r.Seen)})
	}
}

func (r *Report) add(m Remark) { r.Remarks = append(r.Remarks, m) }

func (r *Report) firstOf(k media.Kind) *Track {
	for _, t := range r.Tracks {
		if t.track.Kind == k {
			return t
		}
	}
	return nil
}

func (r *Report) count(k media.Kind) (n int) {
	for _, t := range r.Tracks {
		if t.track.Kind == k {
			n++
		}
	}
	return n
}

// hasPlayableBeside reports whether a track of another kind than k has frames that can be carried.
func (r *Report) hasPlayableBeside(k media.Kind) bool {
	for _, t := range r.Tracks {
		if t.track.Kind != k && t.Frames > 0 && t.RTMP != "no" {
			return true
		}
	}
	return false
}

// setVerdict makes the verdict and the commands.
func (r *Report) setVerdict() {
	r.Verdict = Fine
	if len(r.Remarks) > 0 {
		r.Verdict = Playable
	}
	var all repair
	for i := range r.Remarks {
		m := &r.Remarks[i]
		if m.Fatal {
			r.Verdict = Unplayable
		}
		if !m.repair.isZero() && !r.Live {
			m.RepairCommand = r.command(m.repair)
			all = all.union(m.repair)
		}
	}
	if !all.isZero() {
		r.RepairCommand = r.command(all)
	}
}

// command returns the ffmpeg command that writes a mended file beside the source.
func (r *Report) command(f repair) string {
	video, audio := r.firstOf(media.Video), r.firstOf(media.Audio)
	f.video = f.video && video != nil || video != nil &&
		(video.track.Codec == media.Passthrough || video.track.Codec == media.VP8)
	f.audio = f.audio && audio != nil || audio != nil &&
		(audio.track.Codec == media.Passthrough || audio.track.Codec == media.FLAC)
	f.silence = f.silence && audio == nil
	args := []string{"ffmpeg", "-i", ShellQuote(r.Source)}
	if f.silence {
		args = append(args, "-f", "lavfi", "-i", "anullsrc=r=48000:cl=stereo", "-shortest")
	}
	if video != nil {
		args = append(args, "-map", "0:v:0")
	}
	switch {
	case audio != nil:
		args = append(args, "-map", "0:a:0")
	case f.silence:
		args = append(args, "-map", "1:a:0")
	}
	if video != nil {
		args = append(args, r.videoArgs(f, video)...)
	}
	if audio != nil || f.silence {
		args = append(args, r.audioArgs(f, audio)...)
	}
	return strings.Join(append(args, ShellQuote(repairedPath(r.Source))), " ")
}

func (r *Report) videoArgs(f repair, t *Track) []string {
	if !f.video {
		return []string{"-c:v", "copy"}
	}
	var filters []string
	if f.retime {
		filters = append(filters, "setpts=N/FRAME_RATE/TB")
	}
	if t.Width%2 != 0 || t.Height%2 != 0 {
		filters = append(filters, "crop=trunc(iw/2)*2:trunc(ih/2)*2")
	}
	var args []string
	if len(filters) > 0 {
		args = append(args, "-vf", "'"+strings.Join(filters, ",")+"'")
	}
	return append(args, h264Args()...)
}

func (r *Report) audioArgs(f repair, t *Track) []string {
	if !f.audio && !f.silence {
		return []string{"-c:a", "copy"}
	}
	var args []string
	if f.retime {
		args = append(args, "-af", "asetpts=N/SR/TB")
	} else if f.video && !f.silence {
		args = append(args, "-af", "aresample=async=1:first_pts=0")
	}
	args = append(args, "-c:a", "aac", "-b:a", "128k")
	if t != nil && t.track.Codec == media.Passthrough { // ffmpeg does not always know which channels these are
		args = append(args, "-ac", "2")
	}
	if f.rate > 0 || t != nil && t.SampleRate > maxSampleRate {
		args = append(args, "-ar", fmt.Sprint(maxSampleRate))
	}
	return args
}

// repairedPath returns the path of the file that a command writes: beside the source.
func repairedPath(name string) string {
	return strings.TrimSuffix(name, filepath.Ext(name)) + "-live.mp4"
}

// ConvertCommand returns the ffmpeg command that makes a file that livego reads of one that it does not.
func ConvertCommand(path string, e *source.UnsupportedContainerError) string {
	args := []string{"ffmpeg", "-i", ShellQuote(path)}
	if !e.AudioOnly {
		args = append(args, h264Args()...)
	}
	args = append(args, "-c:a", "aac", "-b:a", "128k", ShellQuote(repairedPath(path)))
	return strings.Join(args, " ")
}

// h264Args encode pictures that play everywhere.
func h264Args() []string {
	return []string{"-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p",
		"-force_key_frames", "'expr:gte(t,n_forced*2)'"}
}

// ShellQuote writes a word for a shell.
func ShellQuote(s string) string {
	plain := strings.IndexFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/+:@%,=", r)
	}) < 0
	if strings.HasPrefix(s, "-") {
		s = "./" + s
	}
	if plain && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

package probe

import (
	"fmt"
	"path/filepath"
	"strings"

	"livego/internal/media"
	"livego/internal/source"
)

// A repair is what an ffmpeg command must do.
type repair struct {
	video, audio bool // encode again
	silence      bool // add a silent audio track
	retime       bool // regenerate timestamps
	copy         bool // rewrite the file without encoding
	rate         int  // sampling rate of the audio, Hz
}

func (f repair) union(g repair) repair {
	return repair{f.video || g.video, f.audio || g.audio, f.silence || g.silence, f.retime || g.retime, f.copy || g.copy,
		max(f.rate, g.rate)}
}

func (f repair) isZero() bool { return f == repair{} }

// Limits below which viewers notice no problem.
const (
	maxGOP           = 4.0 // s between keyframes: a new viewer waits this long for a picture
	maxHiddenStart   = 0.1 // s hidden by the edit list
	maxKeyframeDelay = 0.5 // s of pictures before the first keyframe
	maxStartOffset   = 0.5 // s between the starts of video and audio
	maxSampleRate    = 48000
	maxFrameSize     = 8 << 20 // bytes: livego's limit for a message
)

// addRemarks adds the remarks, the verdict and the commands.
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
				"Timestamps of the %s jump by %+.1f s at %.1f s%s: playback stalls or skips there.", t.Kind,
				t.stats.jumpBy.Seconds(),
				t.stats.jumpAt.Seconds(), more(t.stats.jumps))})
		}
		if t.stats.largest > maxFrameSize {
			r.add(Remark{Code: "large-frame", repair: repair{video: true},
				Text: fmt.Sprintf("A frame has %.1f MB: many servers reject messages above 8 MB.",
					float64(t.stats.largest)/1e6)})
		}
	}
	r.checkFile(s, cut)
	r.addFindings()
	r.setVerdict()
}

func more(n int) string {
	if n > 1 {
		return fmt.Sprintf(", and %d times more", n-1)
	}
	return ""
}

// checkCodec adds a remark if an output does not support the codec.
func (r *Report) checkCodec(t *Track) {
	f := repair{video: t.track.Kind == media.Video, audio: t.track.Kind == media.Audio}
	switch {
	case t.RTMP == "no" && (strings.Contains(t.Codec, "encrypted") || t.Codec == "scrambled"):
		r.add(Remark{Code: "encrypted", Fatal: true,
			Text: fmt.Sprintf("The %s is encrypted (%s): it cannot be played without its key.", t.Kind, t.Codec)})
	case t.RTMP == "no":
		r.add(Remark{Code: "codec", Fatal: true, repair: f,
			Text: fmt.Sprintf("The %s codec is %s, which no output supports.", t.Kind, t.Codec)})
	case t.RTMP == "old":
		r.add(Remark{Code: "old-codec", repair: f,
			Text: fmt.Sprintf("The %s codec is %s: only RTMP and HTTP-FLV support it, and only old players and ffmpeg play it.",
				t.Kind, t.Codec)})
	case t.RTMP == "enhanced":
		const known = "The %s codec is %s: over RTMP and HTTP-FLV it plays only in players that support Enhanced RTMP"
		text := fmt.Sprintf(known, t.Kind, t.Codec)
		switch {
		case t.FMP4 == "no" && t.TS == "no":
			text += ", and HLS does not support it"
		case t.TS == "no":
			text += ", and HLS in MPEG-TS does not support it"
		case t.FMP4 == "no":
			text += ", and HLS in fMP4 does not support it"
		}
		r.add(Remark{Code: "enhanced-codec", repair: f, Text: text + "."})
	case t.TS == "no" && t.Frames > 0:
		r.add(Remark{Code: "ts", repair: f,
			Text: fmt.Sprintf("HLS in MPEG-TS does not support this %s (%s %s).", t.Codec, t.Profile, t.RFC6381)})
	}
}

func (r *Report) checkVideo(t *Track) {
	f := repair{video: true}
	m := t.track
	switch {
	case t.Frames == 0:
	case t.Keys == 0:
		r.add(Remark{Code: "no-key", Fatal: r.Whole, repair: f,
			Text: fmt.Sprintf("There is no keyframe in %.1f s: players show no picture.", r.Seen)})
	case t.KeyAt > maxKeyframeDelay:
		r.add(Remark{Code: "late-key", repair: f,
			Text: fmt.Sprintf("The first keyframe comes after %.1f s: until then there is no picture.", t.KeyAt)})
	}
	if t.GOP > maxGOP {
		r.add(Remark{Code: "gop", repair: f,
			Text: fmt.Sprintf("Keyframes are up to %.1f s apart: new viewers wait up to this long for a picture, "+
				"and HLS segments become as long.", t.GOP)})
	}
	if t.Rotation != 0 {
		r.add(Remark{Code: "rotation", repair: f,
			Text: fmt.Sprintf("The video is rotated by %d degrees, which no output supports: it will be shown "+
				"without the rotation.", t.Rotation)})
	}
	if m.Codec == media.H264 && (m.BitDepth > 8 || strings.Contains(m.Profile, "4:2:2") ||
		strings.Contains(m.Profile, "4:4:4")) {
		r.add(Remark{Code: "profile", repair: f,
			Text: fmt.Sprintf("H.264 profile %s with %d bits plays in few browsers and phones.", m.Profile, m.BitDepth)})
	}
	if t.stream.Edited {
		r.add(Remark{Code: "edit-list", repair: repair{video: true, audio: true},
			Text: "The edit list selects or reorders parts of the file: a live stream shows all of it " +
				"as recorded."})
	} else if before := -t.stats.first.Seconds(); before > maxHiddenStart && !r.Live {
		r.add(Remark{Code: "edit-list", repair: repair{video: true, audio: true},
			Text: fmt.Sprintf("The edit list hides the first %.1f s, which later pictures depend on: a live stream "+
				"shows them.", before)})
	}
	if t.Changes > 0 && m.Codec != media.Passthrough {
		r.add(Remark{Code: "changes", repair: f,
			Text: fmt.Sprintf("The video changes its parameters %s: some players do not support that.", times(t.Changes))})
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
			Text: fmt.Sprintf("The sampling rate is %d Hz: phones and many players support at most 48000 Hz.", t.SampleRate)})
	}
}

// checkFile adds the remarks about the file as a whole.
func (r *Report) checkFile(s *source.Source, cut *source.TruncatedError) {
	video, audio := r.firstOf(media.Video), r.firstOf(media.Audio)
	if video != nil && audio == nil && (r.Whole || r.Seen > 3) {
		r.add(Remark{Code: "no-audio", repair: repair{silence: true},
			Text: "There is no audio: players that wait for it start late or never."})
	}
	if video != nil && audio != nil && video.Frames > 0 && audio.Frames > 0 && !r.Live {
		if d := audio.Start - video.Start; d > maxStartOffset || d < -maxStartOffset {
			r.add(Remark{Code: "offset", repair: repair{audio: true, video: true},
				Text: fmt.Sprintf("The audio starts %+.1f s from the video: players that wait for both start late.", d)})
		}
	}
	for _, k := range []media.Kind{media.Video, media.Audio} {
		if n := r.count(k); n > 1 {
			r.add(Remark{Code: "tracks", repair: repair{copy: true},
				Text: fmt.Sprintf("There are %d %s tracks: push sends the first; select others with --tracks.", n, k)})
		}
	}
	if cut != nil {
		text := fmt.Sprintf("The file is truncated or damaged at %.1f s: the rest is not played.", cut.At.Seconds())
		if cut.Growing {
			text = "The file is still being written: only the part written before it was opened is played."
		}
		r.add(Remark{Code: "cut", repair: repair{copy: true}, Text: text})
	}
	for _, t := range s.Unusable() {
		text := fmt.Sprintf("The %s track (%s) is unusable: %s.", t.Kind, t.Codec, t.Reason)
		r.add(Remark{Code: "unusable-track", repair: repair{copy: true}, Text: text})
	}
	if r.readErr != nil {
		text := fmt.Sprintf("The rest cannot be read: %v.", r.readErr)
		r.add(Remark{Code: "damaged", repair: repair{copy: true}, Text: text})
	}
	if trouble := s.Problems(); trouble != "" {
		r.add(Remark{Code: "damaged", repair: repair{copy: true},
			Text: "The file has problems: " + trouble + "."})
	}
	if len(r.Tracks) == 0 {
		r.add(Remark{Code: "nothing", Fatal: true, Text: fmt.Sprintf("There was no video or audio in %.1f s.", r.Seen)})
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

// hasPlayableBeside reports whether a track of another kind than k has frames that an output
// supports.
func (r *Report) hasPlayableBeside(k media.Kind) bool {
	for _, t := range r.Tracks {
		if t.track.Kind != k && t.Frames > 0 && t.RTMP != "no" {
			return true
		}
	}
	return false
}

// setVerdict sets the verdict and the commands.
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

// command returns the ffmpeg command that writes a repaired file beside the source.
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
	if t != nil && t.track.Codec == media.Passthrough { // ffmpeg does not always know their channel layout
		args = append(args, "-ac", "2")
	}
	if f.rate > 0 || t != nil && t.SampleRate > maxSampleRate {
		args = append(args, "-ar", fmt.Sprint(maxSampleRate))
	}
	return args
}

// repairedPath returns the path of the file that a command writes, beside the source.
func repairedPath(name string) string {
	return strings.TrimSuffix(name, filepath.Ext(name)) + "-live.mp4"
}

// ConvertCommand returns the ffmpeg command that converts a file in an unsupported container.
func ConvertCommand(path string, e *source.UnsupportedContainerError) string {
	args := []string{"ffmpeg", "-i", ShellQuote(path)}
	if !e.AudioOnly {
		args = append(args, h264Args()...)
	}
	args = append(args, "-c:a", "aac", "-b:a", "128k", ShellQuote(repairedPath(path)))
	return strings.Join(args, " ")
}

// h264Args returns the options for video that plays everywhere.
func h264Args() []string {
	return []string{"-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p",
		"-force_key_frames", "'expr:gte(t,n_forced*2)'"}
}

// ShellQuote quotes a word for a shell.
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

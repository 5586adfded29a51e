package playout

import (
	"cmp"
	"slices"
	"time"

	"livego/internal/media"
)

// A timeline joins the timestamps of each file to those of the previous one. Within a file the
// distance of audio and video is kept. At a join the presentation continues where the previous
// file ended, and decoding times never go back. Output timestamps are whole milliseconds, as in
// RTMP. The zero timeline is ready for the first file.
type timeline struct {
	tracks  []*trackTime
	started bool
	zero    time.Duration // output time of the current file's start
	shift   time.Duration // offset of a track that appears later
}

// trackTime is the time of one track. "Out" times are those of the output stream.
type trackTime struct {
	track         *media.Track  // any of its configurations
	shift         time.Duration // output time minus input time
	lastIn        time.Duration // latest decoding time of the file
	lastOut       time.Duration // latest decoding time of the output
	end           time.Duration // when everything sent has been displayed
	frameInterval time.Duration // the last distance of two frames
	started       bool          // a frame was sent
	present       bool          // a frame of the current file was sent,
	priming       bool          // but only the frame that was kept despite its overlap
}

const (
	// maxAudioPadding is how much longer than the video the audio of a file may be for the next
	// file to start at the end of the video: encoders pad that much. The start of the next file's
	// audio, their priming, is dropped as far as it overlaps.
	maxAudioPadding = 100 * time.Millisecond
	// jumpAhead and jumpBack are the largest steps of the timestamps within a file that are not
	// corrected.
	jumpAhead = 2 * time.Second
	jumpBack  = 500 * time.Millisecond
	// audioLead is how long the first frame of changed audio precedes the video. A server that
	// names segments by their time in milliseconds then has distinct names for those that start
	// with either.
	audioLead = 5 * time.Millisecond
	// tick is the clock resolution of RTMP.
	tick = time.Millisecond
)

// track returns the time of a track.
func (t *timeline) track(track *media.Track) *trackTime {
	for _, k := range t.tracks {
		if sameTrack(k.track, track) {
			return k
		}
	}
	k := &trackTime{track: track, shift: t.shift}
	t.tracks = append(t.tracks, k)
	return k
}

// firstTrack returns the time of the first track of a kind, the zero trackTime if there is none.
func (t *timeline) firstTrack(kind media.Kind) trackTime {
	for _, k := range t.tracks {
		if k.track.Kind == kind && k.track.ID == 0 {
			return *k
		}
	}
	return trackTime{}
}

// join starts a file. head is its frames up to the first keyframe, if it has video, and has at
// least one frame. declared is the duration of the previous file by its list, 0 for its actual
// one. audioChange means that the audio configuration changes: then no frame of the file comes
// before the end of the old audio, so that everything changes at one time.
func (t *timeline) join(head []*media.Frame, declared time.Duration, newSound bool) {
	zero := startPTS(head)
	shift := t.end(declared) - zero
	if !t.started {
		shift = -earliestDTS(head)
	}
	for _, f := range head {
		k := t.track(f.Track)
		if least := k.lastOut + max(k.frameInterval, tick); f.Track.Kind == media.Video && k.started && f.DTS+shift < least {
			shift = least - f.DTS
		}
	}
	if least := t.firstTrack(media.Audio).lastOut + audioLead + tick; newSound && earliestDTS(head)+shift < least {
		shift = least - earliestDTS(head)
	}
	t.started, t.zero, t.shift = true, zero+shift, shift
	for _, k := range t.tracks {
		k.shift, k.present = shift, false
	}
}

// end returns when the next file starts.
func (t *timeline) end(declared time.Duration) time.Duration {
	v, a := t.firstTrack(media.Video), t.firstTrack(media.Audio)
	at := max(v.end, a.end)
	if v.started && v.end >= a.end-maxAudioPadding {
		at = v.end
	}
	if declared > 0 {
		at = t.zero + declared
	}
	return at
}

// startPTS returns the presentation time of the start of a file: that of the video, or of the
// audio if it starts much earlier or alone.
func startPTS(head []*media.Frame) time.Duration {
	picture, sound := firstFrame(head, media.Video), firstFrame(head, media.Audio)
	if picture == nil || sound != nil && sound.PTS < picture.PTS-maxAudioPadding {
		return sound.PTS
	}
	return picture.PTS
}

// firstFrame returns the first frame of a kind, nil if there is none.
func firstFrame(head []*media.Frame, kind media.Kind) *media.Frame {
	for _, f := range head {
		if f.Track.Kind == kind {
			return f
		}
	}
	return nil
}

func earliestDTS(head []*media.Frame) time.Duration {
	return slices.MinFunc(head, func(a, b *media.Frame) int { return cmp.Compare(a.DTS, b.DTS) }).DTS
}

// rebase gives f, of the current file, its output timestamps. It returns false if f must be
// dropped, because audio of the previous file lasts longer. If keep is true, it never drops f.
func (t *timeline) rebase(f *media.Frame, keep bool) bool {
	k := t.track(f.Track)
	if k.present && !k.priming {
		t.fixJump(k, f)
	}
	dts := roundToTick(f.DTS + k.shift)
	if f.Track.Kind == media.Audio && k.started && !keep && (!k.present || k.priming) && dts < roundToTick(k.end)-tick {
		return false
	}
	pts := max(roundToTick(f.PTS+k.shift), dts-10*time.Second)
	if k.started {
		if d := dts - k.lastOut; d > 0 && d < time.Second {
			k.frameInterval = d
		}
		dts = max(dts, k.lastOut)
	}
	k.priming = keep
	k.lastIn = f.DTS
	f.DTS, f.PTS = dts, pts
	length := f.Duration
	if length == 0 || f.Track.Kind == media.Video {
		length = k.frameInterval
	}
	if keep { // it precedes the next frame
		length = 0
	}
	k.lastOut, k.end, k.started, k.present = dts, max(k.end, pts+length), true, true
	return true
}

// fixJump removes a jump from the timestamps of a file. All tracks jump by the same distance:
// later ones follow the first.
func (t *timeline) fixJump(k *trackTime, f *media.Frame) {
	d := f.DTS - k.lastIn
	if -jumpBack <= d && d <= jumpAhead {
		return
	}
	for _, other := range t.tracks {
		if at := f.DTS + other.shift - k.lastOut; other.present && other.shift != k.shift && -jumpBack <= at &&
			at <= jumpAhead {
			k.shift = other.shift
			return
		}
	}
	k.shift = k.lastOut + max(k.frameInterval, tick) - f.DTS
}

func roundToTick(d time.Duration) time.Duration { return d.Round(tick) }

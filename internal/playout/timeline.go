package playout

import (
	"cmp"
	"slices"
	"time"

	"livego/internal/media"
)

// A timeline joins the times of one file to those of the next. Within a file the distance of sound
// and pictures is kept; at a join what is shown goes on where the file before has ended, and
// decoding times never go back. Times out are whole milliseconds, as RTMP has them. The zero
// timeline is ready for the first file.
type timeline struct {
	tracks  []*trackTime
	started bool
	zero    time.Duration // out, of the present file
	shift   time.Duration // of a track that shows itself
}

// trackTime is the time of one track.
type trackTime struct {
	track         *media.Track  // any of its configurations
	shift         time.Duration // out less in
	lastIn        time.Duration // newest decoding time of the file
	lastOut       time.Duration // newest decoding time out
	end           time.Duration // when all that is out has been shown
	frameInterval time.Duration // the last distance of two frames
	started       bool          // something is out
	present       bool          // something of the present file is out,
	priming       bool          // but only what was kept
}

const (
	// maxAudioPadding is how much longer than the pictures sound may be so that the next file begins
	// with the end of the pictures: what encoders pad. The beginning of its sound, their priming, is
	// left out as far as it overlaps.
	maxAudioPadding = 100 * time.Millisecond
	// jumpAhead and jumpBack are steps of the times within a file that are mended.
	jumpAhead = 2 * time.Second
	jumpBack  = 500 * time.Millisecond
	// audioLead is how much the first frame of new sound precedes the pictures: what a server calls by
	// its time in milliseconds has then names of its own for what begins with either.
	audioLead = 5 * time.Millisecond
	// tick is the clock of RTMP.
	tick = time.Millisecond
)

// track returns the time track a track.
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

// firstTrack returns the time of the firstTrack track of a kind, whose zero is that of one that there is not.
func (t *timeline) firstTrack(kind media.Kind) trackTime {
	for _, k := range t.tracks {
		if k.track.Kind == kind && k.track.ID == 0 {
			return *k
		}
	}
	return trackTime{}
}

// join begins a file. head is its frames, at least one, up to and with the first keyframe, if it
// has pictures. declared is how long the file before is to count, 0 for as long as it was.
// audioChange says that sound has other parameters than before: then nothing of the file comes
// earlier than what was the last of the old sound, so that all changes at one time.
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

// end returns when the next file is to begin.
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

// startPTS returns the presentation time that counts as the beginning of a file: that of the
// pictures, or of the sound where it begins well before or alone.
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

// rebase gives f, of the present file, its times. False: it is to be left out, since sound of the
// file before lasts longer; keep says that it is needed all the same.
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
	if keep { // its place in time is before that of what comes next
		length = 0
	}
	k.lastOut, k.end, k.started, k.present = dts, max(k.end, pts+length), true, true
	return true
}

// fixJump takes a jump out of the times of a file. All tracks jump by the same: who comes later follows the first.
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

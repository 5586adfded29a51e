package playout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"livego/internal/media"
	"livego/internal/source"
)

// An item is a frame to send.
type item struct {
	f     *media.Frame
	entry int           // index of its file
	at    time.Duration // position in the file
	round int           // of the list, counted from 0
}

// A reader reads the files of a list, repeatedly if Options.Times says so, and gives their frames
// the timestamps of one stream.
type reader struct {
	o          *Options
	out        chan<- item
	budget     *byteBudget
	warn       func(string)
	timeline   timeline
	lastTracks *media.Program // latest configuration of each track
	program    *media.Program // of the file
	meta       *media.Meta
	position   item

	declared time.Duration // declared duration of the last joined file, 0 if the list has none
}

const (
	maxHeadFrames = 2000            // frames before the first keyframe of a file
	maxHeadTime   = 5 * time.Second // duration of these frames

	maxAudioWait = 500 * time.Millisecond // before the first audio frame of a file
)

// run reads until the list ends, which is not an error.
func (r *reader) run(ctx context.Context) error {
	start := r.o.Start
	for round := 0; r.o.Times == 0 || round < r.o.Times; round++ {
		sent := false
		for i, e := range r.o.Entries {
			from := e.In
			if start > 0 {
				d := r.o.durations[i]
				if d > 0 && start >= d {
					start -= d
					continue
				}
				from, start = from+start, 0
			}
			r.position = item{entry: i, round: round}
			n, err := r.play(ctx, e, from)
			if err != nil {
				return err
			}
			sent = sent || n > 0
		}
		if !sent {
			return errors.New("no file has a frame to play")
		}
	}
	return nil
}

// play reads one file, from a position in it. It returns the number of frames sent.
func (r *reader) play(ctx context.Context, e Entry, from time.Duration) (n int, err error) {
	s, err := r.o.open(ctx, e, from)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	p := &fileReader{reader: r, s: s, entry: e}
	for {
		f, err := s.Next()
		if err == nil {
			if err = p.addFrame(ctx, f); p.pastEnd(f) {
				return p.n, err
			}
		}
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil:
			return p.n, ctx.Err()
		case errors.Is(err, io.EOF):
		case p.n == 0 && len(p.head) == 0:
			return 0, err
		default: // the frames before the error are played
			r.warn(err.Error())
		}
		return p.n, p.flush(ctx)
	}
}

// A fileReader reads one file.
type fileReader struct {
	*reader
	s            *source.Source
	entry        Entry
	head         []*media.Frame // frames read before the file is joined to the timeline
	joined       bool
	seenKeyframe bool          // a keyframe was read
	n            int           // frames sent
	startTime    time.Duration // time in the file that the list counts as 0
}

// addFrame handles the next frame of the file.
func (p *fileReader) addFrame(ctx context.Context, f *media.Frame) error {
	number, wanted := p.o.Tracks.outputID(p.s, f.Track)
	if !wanted || p.pastOutpoint(f) {
		return nil
	}
	f.Track = withID(f.Track, number)
	if f.Track.Kind == media.Video && !p.seenKeyframe {
		if p.seenKeyframe = f.RAP != media.NoRandomAccess && number == 0; !p.seenKeyframe {
			return nil // cannot be decoded
		}
	}
	if p.joined {
		return p.send(ctx, f)
	}
	p.head = append(p.head, f)
	if p.headComplete() || len(p.head) > maxHeadFrames || f.DTS-p.head[0].DTS > maxHeadTime {
		return p.flush(ctx)
	}
	return nil
}

// headComplete reports whether the head has a frame of each kind in the file, for video a
// keyframe. It waits for audio only for maxAudioWait.
func (p *fileReader) headComplete() bool {
	if p.hasKind(media.Video) && !p.seenKeyframe {
		return false
	}
	if !p.hasKind(media.Audio) || p.head[len(p.head)-1].DTS-p.head[0].DTS > maxAudioWait {
		return true
	}
	return firstFrame(p.head, media.Audio) != nil
}

// pastOutpoint reports whether f is at or after the outpoint.
func (p *fileReader) pastOutpoint(f *media.Frame) bool {
	return p.entry.Out > 0 && p.joined && f.PTS-p.startTime >= p.entry.Out
}

// pastEnd reports whether f is so far after the outpoint that no frame before it can follow.
func (p *fileReader) pastEnd(f *media.Frame) bool {
	const reordered = 3 * time.Second
	return p.entry.Out > 0 && p.joined && f.DTS-p.startTime > p.entry.Out+reordered
}

// hasKind reports whether the file has a track of kind k that is sent.
func (p *fileReader) hasKind(k media.Kind) bool {
	return slices.ContainsFunc(p.tracks(), func(t *media.Track) bool { return t.Kind == k })
}

// tracks returns the tracks that are sent, by the head of the file.
func (p *fileReader) tracks() (list []*media.Track) {
	for _, st := range p.s.Streams() {
		if n, ok := p.o.Tracks.outputID(p.s, st.Track); ok && rtmpSupports(st.Track, p.s) {
			list = append(list, withID(st.Track, n))
		}
	}
	return list
}

// flush joins the file to the timeline, and sends the frames that waited for it.
func (p *fileReader) flush(ctx context.Context) error {
	head := p.head
	p.head = nil
	if p.joined || len(head) == 0 {
		return nil
	}
	i := p.audioChange(head)
	p.timeline.join(head, p.declared, i >= 0)
	p.declared = p.entry.Duration
	p.startTime = fileZero(head)
	p.joined = true
	p.updateMeta(head)
	if i >= 0 {
		f := head[i]
		f.DTS = min(f.DTS, head[0].DTS-audioLead)
		f.PTS = f.DTS
		head = slices.Delete(head, i, i+1)
		if err := p.sendAt(ctx, f, true); err != nil {
			return err
		}
	}
	for _, f := range head {
		if err := p.send(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// audioChange returns the index in head of the first audio frame if its configuration differs
// from the audio of the previous file, else -1. This frame is sent first, a little before the
// video: a server that cuts the stream at the change would otherwise cut after the keyframe, and
// leave pictures that cannot be decoded. The frame is usually encoder priming, and inaudible.
func (p *fileReader) audioChange(head []*media.Frame) int {
	i := slices.IndexFunc(head, func(f *media.Frame) bool { return f.Track.Kind == media.Audio && f.Track.ID == 0 })
	if i < 0 {
		return -1
	}
	if last := p.lastTracks.Track(media.Audio, 0); last == nil || last.SameConfig(head[i].Track) {
		return -1
	}
	return i
}

// fileZero returns the time in the file that lists count from: 0, or the first frame if the
// timestamps start more than a minute from 0.
func fileZero(head []*media.Frame) time.Duration {
	if z := startPTS(head); z > time.Minute || z < -time.Minute {
		return z
	}
	return 0
}

// updateMeta sets the metadata of the file: its tracks, so that servers know for which to wait.
func (p *fileReader) updateMeta(head []*media.Frame) {
	tracks := p.tracks()
	for _, f := range slices.Backward(head) { // frames describe their track best
		tracks = append(tracks, f.Track)
	}
	tracks = slices.Clone(media.NewProgram(tracks...).Tracks)
	for i, t := range tracks {
		tracks[i] = p.reuseTrack(t)
	}
	p.program = media.NewProgram(tracks...)
	m := media.Meta{Encoder: "livego push", HasVideo: p.program.Has(media.Video), HasAudio: p.program.Has(media.Audio)}
	if p.meta == nil || *p.meta != m {
		p.meta = &m
	}
}

// send gives f its timestamps and sends it.
func (p *fileReader) send(ctx context.Context, f *media.Frame) error { return p.sendAt(ctx, f, false) }

// sendAt is send. If keep is true, it sends audio that overlaps with the previous file.
func (p *fileReader) sendAt(ctx context.Context, f *media.Frame, keep bool) error {
	it := p.position
	it.at = f.DTS - p.startTime
	track := p.reuseTrack(f.Track)
	p.program = p.program.With(track)
	out := &media.Frame{Track: track, Meta: p.meta, Program: p.program, DTS: f.DTS, PTS: f.PTS, Duration: f.Duration,
		RAP: f.RAP, KeyFlag: f.KeyFlag, Payload: f.Payload}
	if !p.timeline.rebase(out, keep) {
		return nil
	}
	it.f = out
	if err := p.budget.reserve(ctx, len(f.Payload)); err != nil {
		return err
	}
	select {
	case p.out <- it:
		p.n++
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// maxQueuedBytes limits the bytes of frames that have been read and are not yet due.
const maxQueuedBytes = 32 << 20

// A byteBudget limits queued bytes.
type byteBudget struct {
	bytes    atomic.Int64
	released chan struct{} // signals that bytes were released
}

// reserve waits until the budget has room, and takes n bytes of it.
func (q *byteBudget) reserve(ctx context.Context, n int) error {
	for q.bytes.Load() > maxQueuedBytes {
		select {
		case <-q.released:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	q.bytes.Add(int64(n))
	return nil
}

// release returns n bytes to the budget.
func (q *byteBudget) release(n int) {
	q.bytes.Add(int64(-n))
	select {
	case q.released <- struct{}{}:
	default:
	}
}

// reuseTrack returns the last track if t has the same configuration, so that viewers need no new
// header. Else it stores and returns t.
func (r *reader) reuseTrack(t *media.Track) *media.Track {
	if last := r.lastTracks.Track(t.Kind, t.ID); last != nil && last.SameConfig(t) {
		return last
	}
	r.lastTracks = r.lastTracks.With(t)
	return t
}

// rtmpSupports reports whether frames of t can be sent over RTMP. Passthrough frames can only if
// they come from FLV.
func rtmpSupports(t *media.Track, s *source.Source) bool {
	return t.Codec != media.Passthrough || s.Container == "flv"
}

// A CodecError is returned for a file with a track that RTMP does not support.
type CodecError struct {
	Path string
	Kind media.Kind
	Name string // name of the codec
}

func (e *CodecError) Error() string {
	return fmt.Sprintf("%s: RTMP does not support the %s codec %s", e.Path, e.Kind, e.Name)
}

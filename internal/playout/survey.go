package playout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"livego/internal/media"
	"livego/internal/source"
)

// facts are what is compared of files before they are played.
type facts struct {
	tracks  map[media.Kind]*media.Track
	trouble *CodecError
	length  time.Duration
}

// surveyFrames is how many frames are read of a file whose tracks are described by these.
const surveyFrames = 40

// Survey opens each file of o once, and returns in sentences what differs between them: viewers get new parameters there. An error is a
// file that cannot be read, or a *CodecError of a track that cannot be carried.
func Survey(ctx context.Context, o *Options) (differences []string, err error) {
	seen := map[string]facts{}
	var first facts
	o.durations = make([]time.Duration, len(o.Entries))
	for i, e := range o.Entries {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		f, ok := seen[e.Path]
		if !ok {
			if f, err = o.look(e); err != nil {
				return nil, err
			}
			seen[e.Path] = f
			if i == 0 {
				first = f
			} else if d := first.differ(f); d != "" {
				differences = append(differences, fmt.Sprintf("%s has %s", e.Path, d))
			}
		}
		if f.trouble != nil && !o.Transcode {
			return nil, f.trouble
		}
		o.durations[i] = e.length(f.length)
	}
	return differences, nil
}

// length returns how long an entry plays of a file that lasts so long.
func (e Entry) length(whole time.Duration) time.Duration {
	if e.Duration > 0 {
		return e.Duration
	}
	if e.Out > 0 && (whole == 0 || e.Out < whole) {
		whole = e.Out
	}
	return max(whole-e.In, 0)
}

// look opens a file for its facts.
func (o *Options) look(e Entry) (facts, error) {
	s, err := source.Open(e.Path)
	if err != nil {
		return facts{}, e.named(err)
	}
	defer s.Close()
	f := facts{tracks: map[media.Kind]*media.Track{}, length: s.Duration}
	for _, st := range s.Streams() {
		if n, ok := o.Tracks.number(s, st.Track); !ok || n > 0 {
			continue
		}
		f.tracks[st.Track.Kind] = st.Track
		if !carried(st.Track, s) && f.trouble == nil {
			f.trouble = &CodecError{e.Path, st.Track.Kind, st.Track.Label}
		}
	}
	for range surveyFrames {
		m, err := s.Next()
		if err != nil {
			break // it shows when it is played
		}
		if n, ok := o.Tracks.number(s, m.Track); ok && n == 0 {
			f.tracks[m.Track.Kind] = m.Track
		}
	}
	return f, nil
}

// named says which line of a list names a file.
func (e Entry) named(err error) error {
	if e.From == "" {
		return err
	}
	return fmt.Errorf("%s: %w", e.From, err)
}

// differ says what g has that f has not.
func (f facts) differ(g facts) string {
	var words []string
	for _, k := range []media.Kind{media.Video, media.Audio} {
		a, b := f.tracks[k], g.tracks[k]
		switch {
		case a == nil && b == nil:
		case b == nil:
			words = append(words, "no "+k.String())
		case a == nil:
			words = append(words, k.String())
		default:
			words = append(words, differTrack(a, b)...)
		}
	}
	return strings.Join(words, ", ")
}

func differTrack(a, b *media.Track) []string {
	var words []string
	if name(a) != name(b) {
		words = append(words, fmt.Sprintf("%s instead of %s", name(b), name(a)))
	}
	if a.Width != b.Width || a.Height != b.Height {
		words = append(words, fmt.Sprintf("%dx%d instead of %dx%d", b.Width, b.Height, a.Width, a.Height))
	}
	if a.SampleRate != b.SampleRate && b.SampleRate > 0 {
		words = append(words, fmt.Sprintf("%d Hz instead of %d", b.SampleRate, a.SampleRate))
	}
	if a.Channels != b.Channels && b.Channels > 0 {
		words = append(words, fmt.Sprintf("%d channels instead of %d", b.Channels, a.Channels))
	}
	if d := b.FrameRate - a.FrameRate; (d > 0.01 || d < -0.01) && a.FrameRate > 0 && b.FrameRate > 0 {
		words = append(words, fmt.Sprintf("%.4g frames/s instead of %.4g", b.FrameRate, a.FrameRate))
	}
	return words
}

func name(t *media.Track) string {
	if t.Codec == media.Opaque {
		return t.Label
	}
	return strings.TrimSpace(t.Codec.String() + " " + t.Profile)
}

// open opens an entry to play it from a place on, by ffmpeg where a track must be encoded.
func (o *Options) open(ctx context.Context, e Entry, from time.Duration) (*source.Source, error) {
	s, err := source.Open(e.Path)
	if err != nil {
		return nil, e.named(err)
	}
	var video, audio bool
	for _, st := range s.Streams() {
		if n, ok := o.Tracks.number(s, st.Track); ok && n == 0 && !carried(st.Track, s) {
			video = video || st.Track.Kind == media.Video
			audio = audio || st.Track.Kind == media.Audio
		}
	}
	if !video && !audio {
		if from > 0 {
			if err := s.Seek(from); err != nil {
				s.Close()
				return nil, e.named(err)
			}
		}
		return s, nil
	}
	s.Close()
	if !o.Transcode {
		return nil, errors.New("a file has another codec than it had before")
	}
	return transcode(ctx, e, from, video, audio)
}

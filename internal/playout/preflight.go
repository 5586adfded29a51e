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

// fileInfo is what Preflight knows of a file.
type fileInfo struct {
	tracks   map[media.Kind]*media.Track
	codecErr *CodecError
	length   time.Duration
}

// preflightFrames is how many frames are read of each file, since frames may describe the tracks.
const preflightFrames = 40

// Preflight opens each file of o once, and describes the differences between them: viewers get
// new parameters there. It returns an error if a file cannot be read, and a *CodecError if RTMP
// does not support a track.
func Preflight(ctx context.Context, o *Options) (differences []string, err error) {
	seen := map[string]fileInfo{}
	var first fileInfo
	o.durations = make([]time.Duration, len(o.Entries))
	for i, e := range o.Entries {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		f, ok := seen[e.Path]
		if !ok {
			if f, err = o.inspect(e); err != nil {
				return nil, err
			}
			seen[e.Path] = f
			if i == 0 {
				first = f
			} else if d := first.diff(f); d != "" {
				differences = append(differences, fmt.Sprintf("%s has %s", e.Path, d))
			}
		}
		if f.codecErr != nil && !o.Transcode {
			return nil, f.codecErr
		}
		o.durations[i] = e.playTime(f.length)
	}
	return differences, nil
}

// playTime returns how long the entry plays, of a file whose length is whole.
func (e Entry) playTime(whole time.Duration) time.Duration {
	if e.Duration > 0 {
		return e.Duration
	}
	if e.Out > 0 && (whole == 0 || e.Out < whole) {
		whole = e.Out
	}
	return max(whole-e.In, 0)
}

// inspect opens a file and returns its fileInfo.
func (o *Options) inspect(e Entry) (fileInfo, error) {
	s, err := source.Open(e.Path)
	if err != nil {
		return fileInfo{}, e.wrapError(err)
	}
	defer s.Close()
	f := fileInfo{tracks: map[media.Kind]*media.Track{}, length: s.Duration}
	for _, st := range s.Streams() {
		if n, ok := o.Tracks.outputID(s, st.Track); !ok || n > 0 {
			continue
		}
		f.tracks[st.Track.Kind] = st.Track
		if !rtmpSupports(st.Track, s) && f.codecErr == nil {
			f.codecErr = &CodecError{e.Path, st.Track.Kind, st.Track.Label}
		}
	}
	for range preflightFrames {
		m, err := s.Next()
		if err != nil {
			break // Play reports it
		}
		if n, ok := o.Tracks.outputID(s, m.Track); ok && n == 0 {
			f.tracks[m.Track.Kind] = m.Track
		}
	}
	return f, nil
}

// wrapError prefixes err with the line of the list that names the file.
func (e Entry) wrapError(err error) error {
	if e.ListLine == "" {
		return err
	}
	return fmt.Errorf("%s: %w", e.ListLine, err)
}

// diff describes what g has that f has not.
func (f fileInfo) diff(g fileInfo) string {
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
			words = append(words, diffTrack(a, b)...)
		}
	}
	return strings.Join(words, ", ")
}

func diffTrack(a, b *media.Track) []string {
	var words []string
	if codecName(a) != codecName(b) {
		words = append(words, fmt.Sprintf("%s instead of %s", codecName(b), codecName(a)))
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

func codecName(t *media.Track) string {
	if t.Codec == media.Passthrough {
		return t.Label
	}
	return strings.TrimSpace(t.Codec.String() + " " + t.Profile)
}

// open opens an entry from a position, through ffmpeg if a track must be encoded.
func (o *Options) open(ctx context.Context, e Entry, from time.Duration) (*source.Source, error) {
	s, err := source.Open(e.Path)
	if err != nil {
		return nil, e.wrapError(err)
	}
	var video, audio bool
	for _, st := range s.Streams() {
		if n, ok := o.Tracks.outputID(s, st.Track); ok && n == 0 && !rtmpSupports(st.Track, s) {
			video = video || st.Track.Kind == media.Video
			audio = audio || st.Track.Kind == media.Audio
		}
	}
	if !video && !audio {
		if from > 0 {
			if err := s.Seek(from); err != nil {
				s.Close()
				return nil, e.wrapError(err)
			}
		}
		return s, nil
	}
	s.Close()
	if !o.Transcode {
		return nil, errors.New("the file's codec has changed since the start")
	}
	return transcode(ctx, e, from, video, audio)
}

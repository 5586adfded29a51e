package api

import (
	"context"
	"math"
	"time"

	"livego/internal/domain"
	"livego/internal/health"
)

// A finding is a problem of a stream.
type finding struct {
	Code     string    `json:"code" enum:"no_configuration,unusable_track,no_video,no_audio,frozen_picture,silent_audio,keyframe_interval,variable_frame_rate,b_frames,bitrate_peaks,pixel_format,sample_rate,video_change,audio_change,timestamps_unreliable,timestamp_jumps,audio_drift,audio_gaps,audio_skew,too_slow,too_fast,clock_drift,unstable_uplink,damaged_frames,slow_viewers,playback_stalls" doc:"The problem in a word."`
	Severity string    `json:"severity" enum:"notice,warning,error"`
	Text     string    `json:"text" doc:"The problem, and the settings to change in OBS and in ffmpeg."`
	Since    time.Time `json:"since"`
	LastSeen time.Time `json:"last_seen"`
}

// findings returns the problems of a stream, the worst first; not nil.
func (s *server) findings(name domain.Name) []finding {
	list := []finding{}
	for _, f := range s.Health.FindingsOf(name) {
		list = append(list, finding{f.Code, string(f.Severity), f.Text, f.Since.UTC(), f.LastSeen.UTC()})
	}
	return list
}

// A streamSample describes one second of a stream.
type streamSample struct {
	At           time.Time `json:"at" doc:"The end of the second."`
	VideoKbps    float64   `json:"video_kbps"`
	AudioKbps    float64   `json:"audio_kbps"`
	FrameRate    float64   `json:"frame_rate"`
	JitterMS     float64   `json:"jitter_ms" doc:"Mean deviation of frame intervals from their median."`
	GOP          float64   `json:"gop" doc:"Seconds between the last two keyframes, or since the last one if that is longer."`
	SkewMS       int32     `json:"skew_ms" doc:"How much later the timestamps of audio are that arrives with video."`
	LagMS        int32     `json:"lag_ms" doc:"How much later frames arrive than at the start, by their timestamps."`
	DriftMS      int32     `json:"audio_drift_ms" doc:"By how much timestamps of audio have run ahead of its samples."`
	ReorderMS    int32     `json:"reorder_ms" doc:"The longest delay by B-frames."`
	BFrames      int       `json:"b_frames" doc:"The most B-frames in a row."`
	Keyframes    int       `json:"keyframes"`
	Jumps        int       `json:"timestamp_jumps"`
	AudioGaps    int       `json:"audio_gaps"`
	VideoChanges int       `json:"video_changes" doc:"Changes of the decoder configuration."`
	AudioChanges int       `json:"audio_changes"`
	Pauses       int       `json:"pauses" doc:"Pauses in the arrival of frames."`
	Damaged      int       `json:"damaged_frames"`
	Silent       bool      `json:"silent" doc:"The audio was silence."`
	Static       bool      `json:"static" doc:"The picture did not change."`
	Viewers      int32     `json:"viewers"`

	Protocols map[string]int `json:"viewers_by_protocol,omitempty" doc:"The same by protocol; absent without viewers."`

	Behind  int32 `json:"viewers_behind" doc:"Viewers that skipped to a newer keyframe in the last half minute."`
	Players int32 `json:"players" doc:"Players that report how well they play."`
	Stalled int32 `json:"players_stalled" doc:"Of these, how many stalled in the last minute."`
}

type historyInput struct {
	StreamInput
	Seconds int `query:"seconds" minimum:"1" maximum:"600" default:"600" doc:"How many of the newest seconds."`
}

type streamHistory struct {
	Body struct {
		Health  []finding      `json:"health" doc:"The problems of now, the worst first."`
		Samples []streamSample `json:"samples" doc:"One for each second, oldest first."`
	}
}

func (s *server) streamHistory(_ context.Context, in *historyInput) (*streamHistory, error) {
	name := domain.Name{App: in.App, Room: in.Room}
	if !s.Hub.Has(name) {
		return nil, humaError(errNoStream)
	}
	out := new(streamHistory)
	out.Body.Health = s.findings(name)
	samples := s.Health.History(name)
	samples = samples[max(0, len(samples)-in.Seconds):]
	out.Body.Samples = make([]streamSample, 0, len(samples))
	for i := range samples {
		out.Body.Samples = append(out.Body.Samples, newStreamSample(&samples[i]))
	}
	return out, nil
}

func newStreamSample(s *health.Sample) streamSample {
	return streamSample{
		At: s.Time.UTC(), VideoKbps: round(s.VideoKbps), AudioKbps: round(s.AudioKbps), FrameRate: round(s.FrameRate),
		JitterMS: round(s.JitterMS), GOP: round(s.GOP), SkewMS: s.SkewMS, LagMS: s.LagMS, DriftMS: s.DriftMS,
		ReorderMS: s.ReorderMS, BFrames: int(s.BFrames), Keyframes: int(s.Keyframes), Jumps: int(s.Jumps),
		AudioGaps: int(s.AudioGaps), VideoChanges: int(s.VideoChanges), AudioChanges: int(s.AudioChanges),
		Pauses: int(s.Pauses), Damaged: int(s.Damaged), Silent: s.Silent, Static: s.Static, Viewers: s.Viewers,
		Protocols: s.Protocols, Behind: s.Behind, Players: s.Players, Stalled: s.Stalled,
	}
}

// round rounds to two decimals.
func round(f float32) float64 { return math.Round(float64(f)*100) / 100 }

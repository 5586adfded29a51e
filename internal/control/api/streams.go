package api

import (
	"context"
	"math"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

const streamsPath = v1 + "/streams"

// States of a stream.
const (
	stateLive = "live"
	stateHeld = "held"
)

// routeStreams registers the routes for streams.
func (s *server) routeStreams(api huma.API) {
	huma.Register(api, operation("GET", streamsPath, "list-streams", "List streams"), s.listStreams)
	huma.Register(api, operation("GET", streamsPath+"/{app}/{room}", "get-stream", "Get a stream", http.StatusNotFound),
		s.getStream)
	huma.Register(api, operation("GET", streamsPath+"/{app}/{room}/history", "get-stream-history",
		"Get the problems of a stream, and its last ten minutes second by second", http.StatusNotFound), s.streamHistory)
	huma.Register(api, operation("DELETE", streamsPath+"/{app}/{room}", "end-stream",
		"End a stream and disconnect its publishers, which may reconnect by themselves", http.StatusNotFound), s.endStream)
}

// A streamInfo is a stream that is live or held.
type streamInfo struct {
	App        string    `json:"app"`
	Room       string    `json:"room"`
	State      string    `json:"state" enum:"live,held" doc:"held: the publisher was lost, and viewers wait for publish_hold."`
	Since      time.Time `json:"since" doc:"When the stream started."`
	Private    bool      `json:"private,omitempty" doc:"Viewers need a token, or the permission of the webhook."`
	Uptime     float64   `json:"uptime" doc:"Since it started, in seconds."`
	Publishers []session `json:"publishers" doc:"The primary encoder and its backup."`
	Tracks     []track   `json:"tracks"`
	GOP        float64   `json:"gop,omitempty" doc:"Time between the last two keyframes, in seconds. Absent if unknown."`
	Health     []finding `json:"health" doc:"The problems that its bytes show, the worst first."`

	Quality *playQuality `json:"quality,omitempty" doc:"What players reported in the last minute. Absent if none did."`

	Viewers  map[string]int `json:"viewers" doc:"Number of viewers by protocol."`
	BytesIn  uint64         `json:"bytes_in" doc:"Bytes of media that the current publishers have sent."`
	BytesOut uint64         `json:"bytes_out" doc:"Bytes of media that were sent to viewers."`
	Bitrate  uint64         `json:"bitrate" doc:"Of the active publisher over the last seconds, in kbit/s."`
	Skips    uint64         `json:"skips" doc:"How often viewers fell behind and skipped to a newer keyframe."`

	Skipped      map[media.SkipReason]uint64 `json:"skipped,omitempty" doc:"Frames of the active publisher that no viewer gets, by reason."`
	SilentFrames uint64                      `json:"silent_frames,omitempty" doc:"Audio frames without content."`
	Unusable     []unusableTrack             `json:"unusable_tracks,omitempty" doc:"Tracks that no viewer gets."`
	Arrival      bool                        `json:"arrival_paced,omitempty" doc:"The timestamps of the encoder are not usable: frames are shown as they arrive."`
	Off          []string                    `json:"off,omitempty" doc:"Parts of the server that have failed repeatedly for this stream, and are off."`
}

// A track is an elementary stream.
type track struct {
	Kind      string  `json:"kind" enum:"video,audio,data"`
	ID        uint8   `json:"id" doc:"Distinguishes tracks of one kind."`
	Default   bool    `json:"default" doc:"Viewers get it unless they ask for all tracks."`
	Codec     string  `json:"codec"`
	Profile   string  `json:"profile,omitempty"`
	RFC6381   string  `json:"codecs,omitempty" doc:"The codec as playlists name it (RFC 6381)."`
	Width     int     `json:"width,omitempty"`
	Height    int     `json:"height,omitempty"`
	FrameRate float64 `json:"frame_rate,omitempty" doc:"As the encoder announces it, in frames a second."`

	MeasuredFrameRate float64 `json:"measured_frame_rate,omitempty" doc:"Over the last seconds, in frames a second."`

	SampleRate int    `json:"sample_rate,omitempty" doc:"In Hz."`
	Channels   int    `json:"channels,omitempty"`
	Bitrate    uint64 `json:"bitrate" doc:"Over the last seconds, in kbit/s."`
}

// newStream returns what is known of a stream without a look at its frames.
func newStream(in stream.Info, now time.Time) streamInfo {
	d := streamInfo{
		App: in.Name.App, Room: in.Name.Room, State: stateLive, Since: in.Since.UTC(),
		Uptime: round3(now.Sub(in.Since).Seconds()), Publishers: publishers(in), Tracks: []track{},
		Viewers: map[string]int{}, Off: in.Off,
	}
	if in.Held {
		d.State = stateHeld
	}
	for proto, sum := range in.Viewers {
		if sum.Viewers > 0 {
			d.Viewers[proto] = sum.Viewers
		}
		d.BytesOut += sum.Bytes
		d.Skips += sum.Skips
	}
	for i, c := range in.Publishers {
		d.BytesIn += d.Publishers[i].Bytes
		if !c.Active {
			continue
		}
		d.Bitrate, d.Arrival = d.Publishers[i].Bitrate, c.ArrivalTimestamps
		d.Skipped, d.SilentFrames, d.Unusable = c.Skipped.Skipped, c.Skipped.Silent, unusableTracks(c)
	}
	return d
}

// measure adds the tracks of the stream, what is measured of them, and the problems.
func (s *server) measure(d *streamInfo, program *media.Program) {
	name := domain.Name{App: d.App, Room: d.Room}
	d.Health, d.Private = s.findings(name), s.Private != nil && s.Private(name)
	d.Quality = newPlayQuality(s.Quality.Figures(name))
	m, _ := s.Hub.Measure(name)
	d.GOP = m.GOP.Seconds()
	for _, r := range m.Tracks {
		t := r.Track
		shown := track{
			Kind: t.Kind.String(), ID: t.ID, Default: program.IsDefault(t), Codec: t.Codec.String(), Profile: t.Profile,
			RFC6381: t.RFC6381, Width: t.Width, Height: t.Height, FrameRate: round3(t.FrameRate), SampleRate: t.SampleRate,
			Channels: t.Channels,
		}
		if t.Codec == media.Passthrough {
			shown.Codec = t.Label
		}
		if d.State == stateLive {
			shown.Bitrate, shown.MeasuredFrameRate = uint64(math.Round(r.Kbps)), round3(r.FrameRate)
		}
		d.Tracks = append(d.Tracks, shown)
	}
}

func round3(v float64) float64 { return math.Round(v*1000) / 1000 }

// A listedStream is a stream whose tracks are added when it is on the page.
type listedStream struct {
	streamInfo
	program *media.Program
}

func streamFields() sortable[listedStream] {
	return sortable[listedStream]{
		"name":      func(d *listedStream) sortKey { return textKey(d.App + "/" + d.Room) },
		"app":       func(d *listedStream) sortKey { return textKey(d.App) },
		"room":      func(d *listedStream) sortKey { return textKey(d.Room) },
		"state":     func(d *listedStream) sortKey { return textKey(d.State) },
		"since":     func(d *listedStream) sortKey { return timeKey(d.Since) },
		"bitrate":   func(d *listedStream) sortKey { return numberKey(d.Bitrate) },
		"bytes_in":  func(d *listedStream) sortKey { return numberKey(d.BytesIn) },
		"bytes_out": func(d *listedStream) sortKey { return numberKey(d.BytesOut) },
		"skips":     func(d *listedStream) sortKey { return numberKey(d.Skips) },
		"viewers": func(d *listedStream) sortKey {
			n := 0
			for _, of := range d.Viewers {
				n += of
			}
			return numberKey(n)
		},
	}
}

type streamsInput struct {
	ListInput
	App   string `query:"app" maxLength:"128" doc:"Only streams of this app."`
	Room  string `query:"room" maxLength:"128" doc:"Only streams of this room."`
	State string `query:"state" enum:"live,held" doc:"Only streams in this state."`
}

type streamList struct {
	Body struct {
		Streams []streamInfo `json:"streams"`
		Next    string       `json:"next,omitempty" doc:"Cursor of the next page; absent on the last page."`
	}
}

func (s *server) listStreams(_ context.Context, in *streamsInput) (*streamList, error) {
	page, err := newPager(in.ListInput, streamFields(), "name", "name")
	if err != nil {
		return nil, humaError(err)
	}
	now := time.Now()
	for _, name := range s.Hub.Names() {
		if in.App != "" && name.App != in.App || in.Room != "" && name.Room != in.Room {
			continue
		}
		info, live := s.Hub.Info(name)
		if d := newStream(info, now); live && (in.State == "" || d.State == in.State) {
			page.add(listedStream{d, info.Program})
		}
	}
	list, next := page.page()
	out := new(streamList)
	out.Body.Streams, out.Body.Next = make([]streamInfo, 0, len(list)), next
	for _, d := range list {
		s.measure(&d.streamInfo, d.program)
		out.Body.Streams = append(out.Body.Streams, d.streamInfo)
	}
	return out, nil
}

// A StreamInput names a stream. It is exported to be embedded in inputs.
type StreamInput struct {
	App  string `path:"app" maxLength:"128"`
	Room string `path:"room" maxLength:"128"`
}

var errNoStream = domain.Errorf(domain.NotFound, "the stream is not live")

type oneStream struct{ Body streamInfo }

func (s *server) getStream(_ context.Context, in *StreamInput) (*oneStream, error) {
	info, live := s.Hub.Info(domain.Name{App: in.App, Room: in.Room})
	if !live {
		return nil, humaError(errNoStream)
	}
	out := &oneStream{newStream(info, time.Now())}
	s.measure(&out.Body, info.Program)
	return out, nil
}

type endStreamInput struct {
	StreamInput
	Hold bool `query:"hold" doc:"Hold the stream for publish_hold, as if the publisher was lost, instead of ending it: viewers stay, and another encoder can continue it."`
}

func (s *server) endStream(_ context.Context, in *endStreamInput) (*struct{}, error) {
	reason := domain.CodeErrorf(domain.Denied, domain.SessionEnded, "stream ended by the operator")
	if !s.Hub.EndStream(domain.Name{App: in.App, Room: in.Room}, in.Hold, reason) {
		return nil, humaError(errNoStream)
	}
	s.Log.Info("control", "action", "end stream", "app", in.App, "room", in.Room, "hold", in.Hold)
	return nil, nil
}

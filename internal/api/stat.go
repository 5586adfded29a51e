package api

import (
	"math"
	"net/http"
	"net/url"
	"path"
	"strings"

	"livego/internal/live"
	"livego/internal/stream"
)

// liveStats is the data of /stat/livestat. Its lists are null when empty: the documented interface has it so.
type liveStats struct {
	Publishers []connStats `json:"publishers"`
	Players    []connStats `json:"players"`
}

// connStats is one publisher or player. Names and order are the documented interface's; what is new stands behind them.
type connStats struct {
	Key             string `json:"key"` // the stream, "app/room": never a push key
	URL             string `json:"url"`
	StreamID        uint64 `json:"stream_id"`
	VideoTotalBytes uint64 `json:"video_total_bytes"`
	VideoSpeed      uint64 `json:"video_speed"` // kbit/s
	AudioTotalBytes uint64 `json:"audio_total_bytes"`
	AudioSpeed      uint64 `json:"audio_speed"` // kbit/s

	// GatherMS is of a publisher: how long its frames are gathered before they are written to viewers, in ms, for each
	// protocol that somebody watches by.
	GatherMS map[string]int64 `json:"gather_ms,omitzero"`
	// ArrivalPaced is of a publisher whose time stamps are of no use.
	ArrivalPaced bool `json:"arrival_paced,omitzero"`

	// Of a player.
	Proto  string  `json:"proto,omitzero"`       // rtmp, flv, ws or hls
	Delay  *int64  `json:"delay_ms,omitzero"`    // ms from the newest frame to the last that has left for him; not of HLS
	Queued *int    `json:"queue_bytes,omitzero"` // what the kernel holds for him of that; not of HLS
	Skips  *uint64 `json:"skips,omitzero"`       // of a publisher: of all players there were
}

// liveStat serves /stat/livestat[?room=A/R].
func (s *server) liveStat(_ *http.Request, args url.Values) (any, error) {
	room, given, err := argument(args, "room")
	if err != nil {
		return nil, err
	}
	var stats liveStats
	if !given {
		for _, in := range s.Hub.Snapshot() {
			stats.add(in)
		}
		return stats, nil
	}
	in, err := s.find(room)
	if err != nil {
		return nil, err
	}
	stats.add(in)
	return stats, nil
}

// find returns the stream that the argument room, "app/room", names.
func (s *server) find(room string) (stream.Info, error) {
	notFound := live.Errorf(live.NotFound, "room not found or inactive")
	app, room, ok := strings.Cut(room, "/")
	if !ok {
		if err := live.CheckRoom(app); err != nil {
			return stream.Info{}, err
		}
		return stream.Info{}, notFound
	}
	name, err := live.ParseName(app, room)
	if err != nil {
		return stream.Info{}, err
	}
	in, ok := s.Hub.Info(name)
	if !ok {
		return stream.Info{}, notFound
	}
	return in, nil
}

func (s *liveStats) add(in stream.Info) {
	for _, c := range in.Publishers {
		p := statsOf(in.Name, c)
		p.GatherMS = make(map[string]int64, len(in.Gather))
		for proto, window := range in.Gather {
			p.GatherMS[proto] = window.Milliseconds()
		}
		p.ArrivalPaced, p.Skips = c.Paced, &in.Skips
		s.Publishers = append(s.Publishers, p)
	}
	for _, c := range in.Viewers {
		p := statsOf(in.Name, c)
		p.Proto = c.Proto
		if c.Flushed {
			p.Delay, p.Queued, p.Skips = new(c.Delay.Milliseconds()), &c.Queued, &c.Skips
		}
		s.Players = append(s.Players, p)
	}
}

func statsOf(name live.Name, c stream.ConnInfo) connStats {
	return connStats{
		Key:             name.String(),
		URL:             publicURL(c.URL, name),
		StreamID:        c.ID,
		VideoTotalBytes: c.VideoBytes,
		VideoSpeed:      uint64(math.Round(c.VideoKbps)),
		AudioTotalBytes: c.AudioBytes,
		AudioSpeed:      uint64(math.Round(c.AudioKbps)),
	}
}

// publicURL returns raw without anything that may be secret. The edges promise to have left that out; this is where it would
// come to light.
func publicURL(raw string, name live.Name) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.ForceQuery, u.Fragment = nil, "", false, ""
	if dir, last := path.Split(u.Path); live.LooksLikeKey(last) {
		u.Path, u.RawPath = dir+name.Room, ""
	}
	return u.String()
}

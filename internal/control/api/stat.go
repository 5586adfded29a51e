package api

import (
	"encoding/json"
	"io"
	"iter"
	"math"
	"net/http"
	"net/url"
	"path"
	"strings"

	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/ops/logging"
	"livego/internal/stream"
)

// connStats is one publisher or player. Names and order are the documented interface's; what is new stands behind them.
type connStats struct {
	Key             string `json:"key"` // the stream, "app/room": never a push key
	URL             string `json:"url"`
	StreamID        uint64 `json:"stream_id"`
	VideoTotalBytes uint64 `json:"video_total_bytes"`
	VideoSpeed      uint64 `json:"video_speed"` // kbit/s
	AudioTotalBytes uint64 `json:"audio_total_bytes"`
	AudioSpeed      uint64 `json:"audio_speed"` // kbit/s

	// BatchWindowMS is of a publisher: how long its frames are gathered before they are written to
	// viewers, in ms, for each protocol that somebody watches by.
	BatchWindowMS map[string]int64 `json:"gather_ms,omitzero"`
	// ArrivalTimestamps is of a publisher whose time stamps are of no use.
	ArrivalTimestamps bool `json:"arrival_paced,omitzero"`
	// Of a publisher: what of it reaches no viewer, by reason, and the tracks that are unusable as a whole.
	Skipped      map[media.SkipReason]uint64 `json:"skipped,omitzero"`
	SilentFrames uint64                      `json:"silent_frames,omitzero"`
	Unusable     []unusableTrack             `json:"unusable_tracks,omitzero"`

	// Of a player.
	Proto  string  `json:"proto,omitzero"`       // rtmp, flv, ws or hls
	Delay  *int64  `json:"delay_ms,omitzero"`    // ms from the newest frame to the last that has left for him; not of HLS
	Queued *int    `json:"queue_bytes,omitzero"` // what the kernel holds for him of that; not of HLS
	Skips  *uint64 `json:"skips,omitzero"`       // of a publisher: of all players there were
}

// unusableTrack is a track that a publisher sends and no viewer gets.
type unusableTrack struct {
	Kind   string `json:"kind"`
	Track  uint8  `json:"track"`
	Codec  string `json:"codec"`
	Reason string `json:"reason"`
}

// liveStat serves /stat/livestat[?room=A/R].
func (s *server) liveStat(_ *http.Request, args url.Values) (any, error) {
	room, given, err := argument(args, "room")
	if err != nil {
		return nil, err
	}
	if !given {
		return s.liveStats(s.Hub.Names()), nil
	}
	in, err := s.findStream(room)
	if err != nil {
		return nil, err
	}
	return s.liveStats([]domain.Name{in.Name}), nil
}

// statBatch is how many viewers are copied at once: 64 KiB of them.
const statBatch = 256

// liveStats returns the data of /stat/livestat for names, {"publishers":[...],"players":[...]},
// each list null when it is empty: the documented interface has it so. It is encoded as it is read
// from the hub: a server may have any number of players, and neither the document nor a copy of
// what it says is ever in memory as a whole.
func (s *server) liveStats(names []domain.Name) streamedJSON {
	return func(w io.Writer) error {
		list := func(name string, fill func(add func(connStats) error) error) error {
			if _, err := io.WriteString(w, name+":"); err != nil {
				return err
			}
			before := "["
			err := fill(func(c connStats) error {
				data, err := json.Marshal(c)
				if err != nil {
					return err
				}
				_, err = io.WriteString(w, before+string(data))
				before = ","
				return err
			})
			if err != nil {
				return err
			}
			after := "]"
			if before == "[" {
				after = "null"
			}
			_, err = io.WriteString(w, after)
			return err
		}
		if err := list(`{"publishers"`, func(add func(connStats) error) error {
			for _, name := range names {
				in, _ := s.Hub.Info(name)
				for _, c := range in.Publishers {
					if err := add(publisherStats(in, c)); err != nil {
						return err
					}
				}
			}
			return nil
		}); err != nil {
			return err
		}
		if err := list(`,"players"`, func(add func(connStats) error) error {
			piece := make([]stream.ConnInfo, statBatch)
			for _, name := range names {
				for c := range s.viewers(name, piece) {
					if err := add(playerStats(name, c)); err != nil {
						return err
					}
				}
			}
			return nil
		}); err != nil {
			return err
		}
		_, err := io.WriteString(w, "}")
		return err
	}
}

// viewers returns those of name, of which it copies as many as piece holds at a time. What is
// returned is valid until the next.
func (s *server) viewers(name domain.Name, piece []stream.ConnInfo) iter.Seq[*stream.ConnInfo] {
	return func(yield func(*stream.ConnInfo) bool) {
		for after, n := uint64(0), len(piece); n == len(piece); {
			n = s.Hub.Viewers(name, after, piece)
			for i := range piece[:n] {
				if !yield(&piece[i]) {
					return
				}
				after = piece[i].ID
			}
		}
	}
}

// findStream returns the stream that the argument room, "app/room", names.
func (s *server) findStream(room string) (stream.Info, error) {
	notFound := domain.Errorf(domain.NotFound, "room not found or inactive")
	app, room, ok := strings.Cut(room, "/")
	if !ok {
		if err := domain.CheckRoom(app); err != nil {
			return stream.Info{}, err
		}
		return stream.Info{}, notFound
	}
	name, err := domain.ParseName(app, room)
	if err != nil {
		return stream.Info{}, err
	}
	in, ok := s.Hub.Info(name)
	if !ok {
		return stream.Info{}, notFound
	}
	return in, nil
}

func publisherStats(in stream.Info, c stream.ConnInfo) connStats {
	p := statsOf(in.Name, &c)
	p.BatchWindowMS = make(map[string]int64, len(in.BatchWindows))
	for proto, window := range in.BatchWindows {
		p.BatchWindowMS[proto] = window.Milliseconds()
	}
	p.ArrivalTimestamps, p.Skips = c.ArrivalTimestamps, &in.Skips
	p.Skipped, p.SilentFrames = c.Skipped.Skipped, c.Skipped.Silent
	for _, t := range c.Skipped.Unusable {
		p.Unusable = append(p.Unusable, unusableTrack{t.Kind.String(), t.ID, t.Codec, t.Reason})
	}
	return p
}

func playerStats(name domain.Name, c *stream.ConnInfo) connStats {
	p := statsOf(name, c)
	p.Proto = c.Proto
	if c.DelayKnown {
		p.Delay, p.Queued, p.Skips = new(c.Delay.Milliseconds()), &c.Queued, &c.Skips
	}
	return p
}

func statsOf(name domain.Name, c *stream.ConnInfo) connStats {
	return connStats{
		Key:             name.String(),
		URL:             redactURL(c.URL, name),
		StreamID:        c.ID,
		VideoTotalBytes: c.VideoBytes,
		VideoSpeed:      uint64(math.Round(c.VideoKbps)),
		AudioTotalBytes: c.AudioBytes,
		AudioSpeed:      uint64(math.Round(c.AudioKbps)),
	}
}

// redactURL returns raw without anything that may be secret. The edges promise to have left that
// out; this is where it would come to light.
func redactURL(raw string, name domain.Name) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.ForceQuery, u.Fragment = nil, "", false, ""
	if dir, last := path.Split(u.Path); domain.LooksLikeKey(last) {
		u.Path, u.RawPath = dir+name.Room, ""
	}
	parts := strings.Split(u.Path, "/")
	for i, part := range parts {
		if part != name.App && part != name.Room {
			parts[i] = logging.MaskKeys(part)
		}
	}
	if shown := strings.Join(parts, "/"); shown != u.Path {
		u.Path, u.RawPath = shown, ""
	}
	return u.String()
}

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

// connStats are the statistics of one publisher or player. The names and the order of the first
// fields are documented and must not change; new fields come after them.
type connStats struct {
	Key             string `json:"key"` // the stream, "app/room"; never a stream key
	URL             string `json:"url"`
	StreamID        uint64 `json:"stream_id"`
	VideoTotalBytes uint64 `json:"video_total_bytes"`
	VideoSpeed      uint64 `json:"video_speed"` // kbit/s
	AudioTotalBytes uint64 `json:"audio_total_bytes"`
	AudioSpeed      uint64 `json:"audio_speed"` // kbit/s

	// BatchWindowMS is for publishers: the current batching window in ms, by protocol of the
	// viewers.
	BatchWindowMS map[string]int64 `json:"gather_ms,omitzero"`
	// ArrivalPaced is for publishers: the encoder's timestamps are unusable, and frames are
	// timestamped by arrival.
	ArrivalTimestamps bool `json:"arrival_paced,omitzero"`
	// For publishers: frames and messages that reach no viewer, by reason, and the unusable tracks.
	Skipped      map[media.SkipReason]uint64 `json:"skipped,omitzero"`
	SilentFrames uint64                      `json:"silent_frames,omitzero"`
	Unusable     []unusableTrack             `json:"unusable_tracks,omitzero"`
	// Off is for publishers: the parts of the server, such as hls, that have failed for this stream and
	// are off until it starts again.
	Off []string `json:"off,omitzero"`

	// For players.
	Proto  string  `json:"proto,omitzero"`       // rtmp, flv, ws or hls
	Delay  *int64  `json:"delay_ms,omitzero"`    // from the newest frame to the last one sent; not for HLS
	Queued *int    `json:"queue_bytes,omitzero"` // bytes of that in the kernel's send buffer; not for HLS
	Skips  *uint64 `json:"skips,omitzero"`       // for a publisher: of all its players so far
}

// unusableTrack is a track that is published but not sent to viewers.
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

// statBatch is the number of viewers that are copied at once, which takes 64 KiB.
const statBatch = 256

// liveStats returns the data of /stat/livestat, {"publishers":[...],"players":[...]}; an empty list
// is null, as documented. The data is encoded while it is read from the hub, so that memory does
// not grow with the number of players.
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
			buf := make([]stream.ConnInfo, statBatch)
			for _, name := range names {
				for c := range s.viewers(name, buf) {
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

// viewers iterates over the viewers of name. It copies as many as fit into buf at a time; a yielded
// value is valid until the next one.
func (s *server) viewers(name domain.Name, buf []stream.ConnInfo) iter.Seq[*stream.ConnInfo] {
	return func(yield func(*stream.ConnInfo) bool) {
		for after, n := uint64(0), len(buf); n == len(buf); {
			n = s.Hub.Viewers(name, after, buf)
			for i := range buf[:n] {
				if !yield(&buf[i]) {
					return
				}
				after = buf[i].ID
			}
		}
	}
}

// findStream returns the stream "app/room" that the argument room names.
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
	p.ArrivalTimestamps, p.Skips, p.Off = c.ArrivalTimestamps, &in.Skips, in.Off
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

// redactURL returns raw without secrets. The edges leave secrets out already; this is a second
// check.
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

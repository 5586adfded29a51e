package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
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
	// ArrivalTimestamps is for publishers: the encoder's timestamps are unusable, and frames are
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

	// Players is for publishers: the sums of their players, by protocol.
	Players map[string]protoStats `json:"players,omitzero"`
}

// protoStats sums up the players of a stream by one protocol.
type protoStats struct {
	Count int    `json:"count"` // of now
	Bytes uint64 `json:"bytes"` // so far, also of those that have left
	Skips uint64 `json:"skips"` // so far
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
	name, err := s.findStream(room)
	if err != nil {
		return nil, err
	}
	return s.liveStats([]domain.Name{name}), nil
}

// statBatch is the number of viewers that are copied at once, which takes 64 KiB.
const statBatch = 256

// liveStats returns the data of /stat/livestat, {"publishers":[...],"players":[...]}; an empty list
// is null, as documented. The data is encoded while it is read from the hub, so that memory does
// not grow with the number of players.
func (s *server) liveStats(names []domain.Name) streamedJSON {
	return func(w io.Writer) error {
		l := newStatWriter(w)
		l.startList(`{"publishers":`)
		for _, name := range names {
			in, _ := s.Hub.Info(name)
			for _, c := range in.Publishers {
				l.add(l.publisher(in, c))
			}
		}
		l.endList()
		l.startList(`,"players":`)
		buf := make([]stream.ConnInfo, statBatch)
		for _, name := range names {
			for c := range viewers(s.Hub.Viewers, name, buf) {
				l.add(l.player(name, c))
			}
		}
		l.endList()
		l.write("}")
		return l.err
	}
}

// A statWriter writes lists of connStats. A list may have 10,000 of them, ten times a second.
type statWriter struct {
	w       io.Writer
	err     error // of the first write that failed
	n       int   // entries of the current list
	entry   connStats
	buf     bytes.Buffer
	encoder *json.Encoder     // writes entry to buf
	shown   map[string]string // redacted URLs of stream: most players of a stream have one URL
	stream  domain.Name
}

// maxShown bounds statWriter.shown.
const maxShown = 64

func newStatWriter(w io.Writer) *statWriter {
	l := &statWriter{w: w}
	l.encoder = json.NewEncoder(&l.buf)
	return l
}

func (l *statWriter) write(text string) {
	if l.err == nil {
		_, l.err = io.WriteString(l.w, text)
	}
}

func (l *statWriter) startList(name string) {
	l.n = 0
	l.write(name)
}

func (l *statWriter) endList() {
	if l.n == 0 {
		l.write("null")
	} else {
		l.write("]")
	}
}

func (l *statWriter) add(c connStats) {
	before := ","
	if l.n == 0 {
		before = "["
	}
	l.n++
	l.write(before)
	l.entry = c
	l.buf.Reset()
	err := l.encoder.Encode(&l.entry)
	if l.err = cmp.Or(l.err, err); l.err == nil {
		_, l.err = l.w.Write(bytes.TrimSuffix(l.buf.Bytes(), []byte("\n")))
	}
}

func (l *statWriter) publisher(in stream.Info, c stream.ConnInfo) connStats {
	p := l.statsOf(in.Name, &c)
	p.BatchWindowMS = make(map[string]int64)
	skips := uint64(0)
	for proto, sum := range in.Viewers {
		if p.Players == nil {
			p.Players = make(map[string]protoStats)
		}
		p.Players[proto] = protoStats{sum.Viewers, sum.Bytes, sum.Skips}
		skips += sum.Skips
		if sum.Viewers > 0 {
			p.BatchWindowMS[proto] = sum.BatchWindow.Milliseconds()
		}
	}
	p.ArrivalTimestamps, p.Skips, p.Off = c.ArrivalTimestamps, &skips, in.Off
	p.Skipped, p.SilentFrames = c.Skipped.Skipped, c.Skipped.Silent
	p.Unusable = unusableTracks(c)
	return p
}

// unusableTracks returns the tracks of a publisher that no viewer gets.
func unusableTracks(c stream.ConnInfo) (list []unusableTrack) {
	for _, t := range c.Skipped.Unusable {
		list = append(list, unusableTrack{t.Kind.String(), t.ID, t.Codec, t.Reason})
	}
	return list
}

func (l *statWriter) player(name domain.Name, c *stream.ConnInfo) connStats {
	p := l.statsOf(name, c)
	p.Proto = c.Proto
	if c.DelayKnown {
		p.Delay, p.Queued, p.Skips = new(c.Delay.Milliseconds()), &c.Queued, &c.Skips
	}
	return p
}

func (l *statWriter) statsOf(name domain.Name, c *stream.ConnInfo) connStats {
	return connStats{
		Key:             name.String(),
		URL:             l.redactURL(c.URL, name),
		StreamID:        c.ID,
		VideoTotalBytes: c.VideoBytes,
		VideoSpeed:      uint64(math.Round(c.VideoKbps)),
		AudioTotalBytes: c.AudioBytes,
		AudioSpeed:      uint64(math.Round(c.AudioKbps)),
	}
}

// redactURL is redactURL, once for each URL.
func (l *statWriter) redactURL(raw string, name domain.Name) string {
	if l.stream != name || len(l.shown) >= maxShown {
		l.stream, l.shown = name, make(map[string]string)
	}
	shown, ok := l.shown[raw]
	if !ok {
		shown = redactURL(raw, name)
		l.shown[raw] = shown
	}
	return shown
}

// findStream returns the name of the stream "app/room" that the argument room names.
func (s *server) findStream(room string) (name domain.Name, err error) {
	if app, room, ok := strings.Cut(room, "/"); ok {
		name, err = domain.ParseName(app, room)
	} else {
		err = domain.CheckRoom(app)
	}
	if err == nil && !s.Hub.Has(name) {
		err = domain.Errorf(domain.NotFound, "room not found or inactive")
	}
	return name, err
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

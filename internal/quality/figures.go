package quality

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"livego/internal/domain"
	"livego/internal/ops/histogram"
)

// Figures describe the playback of a stream: of the players that report, in the last minute.
type Figures struct {
	Players  int            // that have reported
	Share    float64        // the share of the stream's connected players that are asked to report, 0 to 1
	Stalled  int            // players whose picture has stopped
	Slow     int            // players that measured less throughput than the bitrate of what they request
	Switched int            // players that have changed the protocol
	Failed   map[string]int // players with an error, by the code of the last one
	Groups   []Group        // the players by protocol and browser, the largest group first

	StallRatio   float64 // share of the time for which the picture stood still; NaN if unknown
	DroppedRatio float64 // share of frames that were not shown; NaN if unknown
	Start        Spread  // time from the wish to play to the first picture
	Latency      Spread  // from the server to the screen
}

// A Group is the players of one protocol and browser.
type Group struct {
	Proto, Browser   string
	Players, Stalled int
}

// A Spread is how a duration is spread over the players that know it. Both are 0 if none does.
type Spread struct{ Median, P95 time.Duration }

// Figures returns the figures of a stream. They are zero if no player reports.
func (c *Collector) Figures(name domain.Name) Figures {
	if c == nil {
		return Figures{}
	}
	now := time.Now()
	sample, share := c.sample(name, now)
	f := Figures{Players: len(sample), Share: share, StallRatio: math.NaN(), DroppedRatio: math.NaN()}
	if f.Players == 0 {
		return Figures{}
	}
	var stallTime, played time.Duration
	var frames, dropped int
	var starts, latencies []int
	groups := map[Group]Group{}
	for i := range sample {
		s := &sample[i]
		key := Group{Proto: s.proto, Browser: s.browser}
		g := groups[key]
		g.Players++
		if isRecent(s.stalled, now) {
			f.Stalled++
			g.Stalled++
		}
		groups[key] = g
		if s.last.Throughput >= 0 && s.last.Throughput < s.last.Bitrate {
			f.Slow++
		}
		if isRecent(s.switched, now) {
			f.Switched++
		}
		if isRecent(s.failed, now) {
			if f.Failed == nil {
				f.Failed = make(map[string]int)
			}
			f.Failed[s.failure]++
		}
		if s.last.StallTime >= 0 {
			stallTime += s.stallTime
			played += s.interval
		}
		frames += s.frames
		dropped += s.dropped
		if s.last.StartDelay >= 0 {
			starts = append(starts, s.last.StartDelay)
		}
		if s.last.Latency >= 0 {
			latencies = append(latencies, s.last.Latency)
		}
	}
	if played > 0 {
		f.StallRatio = min(1, stallTime.Seconds()/played.Seconds())
	}
	if frames > 0 {
		f.DroppedRatio = float64(dropped) / float64(frames)
	}
	f.Start, f.Latency = spread(starts), spread(latencies)
	for key, g := range groups {
		g.Proto, g.Browser = key.Proto, key.Browser
		f.Groups = append(f.Groups, g)
	}
	slices.SortFunc(f.Groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Players, a.Players), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Browser, b.Browser))
	})
	return f
}

// sample returns a copy of the sessions of a stream that have reported lately, and the share of them.
func (c *Collector) sample(name domain.Name, now time.Time) (sample []session, share float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.streams[name]
	if of == nil {
		return nil, 0
	}
	connected := 0
	for _, s := range of.stored {
		if !of.samples(s.id) {
			continue
		}
		if s.conns > 0 {
			connected++
		}
		if !s.reported.IsZero() && now.Sub(s.reported) <= activeFor && (s.conns > 0 || isRecent(s.ended, now)) {
			sample = append(sample, *s)
		}
	}
	return sample, min(1, float64(connected)/float64(max(of.count, 1)))
}

func isRecent(t, now time.Time) bool { return !t.IsZero() && now.Sub(t) <= recent }

// spread returns the spread of durations in ms.
func spread(ms []int) Spread {
	if len(ms) == 0 {
		return Spread{}
	}
	slices.Sort(ms)
	at := func(share float64) time.Duration {
		return time.Duration(ms[int(share*float64(len(ms)-1)+0.5)]) * time.Millisecond
	}
	return Spread{at(0.5), at(0.95)}
}

const (
	// minShareOfStalled is the share of the stalled players from which on what they have in common is worth a word.
	minShareOfStalled = 0.6
	// minMore is how much larger this share must be than that of all players.
	minMore = 1.5
)

// Most returns what most of the stalled players have in common and the others have not, in words: "HLS in Safari",
// "Safari", "HLS". It returns "" if there is nothing.
func (f Figures) Most() string {
	best, highest := "", minMore
	for _, of := range []func(Group) string{
		func(g Group) string { return browserNames[g.Browser] },
		func(g Group) string { return protoNames[g.Proto] },
		func(g Group) string {
			if browserNames[g.Browser] == "" || protoNames[g.Proto] == "" {
				return ""
			}
			return protoNames[g.Proto] + " in " + browserNames[g.Browser]
		},
	} {
		sums := map[string]Group{}
		for _, g := range f.Groups {
			sum := sums[of(g)]
			sum.Players += g.Players
			sum.Stalled += g.Stalled
			sums[of(g)] = sum
		}
		delete(sums, "")
		for name, sum := range sums {
			ofStalled := float64(sum.Stalled) / float64(max(f.Stalled, 1))
			ofAll := float64(sum.Players) / float64(max(f.Players, 1))
			if more := ofStalled / ofAll; ofStalled >= minShareOfStalled && more >= highest {
				best, highest = name, more
			}
		}
	}
	return best
}

// Names of protocols and browsers for people.
var (
	protoNames   = map[string]string{"hls": "HLS", "ws": "WebSocket-FLV"}
	browserNames = map[string]string{"chrome": "Chrome", "edge": "Edge", "firefox": "Firefox", "safari": "Safari"}
)

// browserOf returns the family of a browser by its User-Agent: chrome, edge, firefox, safari or other. A player by one
// protocol works in one family and not in another, so an operator needs it to find a fault. It is too coarse to
// recognize a viewer.
func browserOf(agent string) string {
	for _, b := range [...]struct{ token, browser string }{
		{"Edg", "edge"}, {"Firefox/", "firefox"}, {"FxiOS/", "safari"}, {"CriOS/", "safari"}, // WebKit on iPhones
		{"Chrome/", "chrome"}, {"Safari/", "safari"}, {"AppleCoreMedia/", "safari"},
	} {
		if strings.Contains(agent, b.token) {
			return b.browser
		}
	}
	return "other"
}

// Totals are the counts of the players by one protocol since the start of the server, of those that report.
type Totals struct {
	Players   uint64 // that have reported
	Played    time.Duration
	Stalls    uint64
	StallTime time.Duration
	Frames    uint64
	Dropped   uint64
	Switches  uint64            // to this protocol
	Errors    map[string]uint64 // by code
	Start     *histogram.Histogram
	Latency   *histogram.Histogram
}

var (
	startBounds = []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
		3 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second}
	latencyBounds = []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second,
		5 * time.Second, 10 * time.Second, 20 * time.Second, 60 * time.Second}
)

func newTotals() *Totals {
	return &Totals{Errors: make(map[string]uint64), Start: histogram.New(startBounds),
		Latency: histogram.New(latencyBounds)}
}

// Statistics returns the totals by protocol, and the reports by Result.
func (c *Collector) Statistics() (totals map[string]Totals, reports map[string]uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	totals, reports = make(map[string]Totals, len(c.totals)), make(map[string]uint64)
	for proto, t := range c.totals {
		copied := *t
		copied.Errors = maps.Clone(t.Errors)
		totals[proto] = copied
	}
	for result := range resultCount {
		reports[result.String()] = c.reports[result]
	}
	return totals, reports
}

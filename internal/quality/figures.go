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

	StallRatio   float64 // share of the time for which playback stalled; NaN if unknown
	DroppedRatio float64 // share of frames that were not shown; NaN if unknown
	Start        Spread  // time from the start of the player to the first picture
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
	var sum summary
	share := c.summarize(name, now, &sum)
	f := sum.Figures
	if f.Players == 0 {
		return Figures{}
	}
	f.Share, f.StallRatio, f.DroppedRatio = share, math.NaN(), math.NaN()
	if sum.played > 0 {
		f.StallRatio = min(1, sum.stallTime.Seconds()/sum.played.Seconds())
	}
	if sum.frames > 0 {
		f.DroppedRatio = float64(sum.dropped) / float64(sum.frames)
	}
	f.Start, f.Latency = spread(sum.starts), spread(sum.latencies)
	slices.SortFunc(f.Groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Players, a.Players), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Browser, b.Browser))
	})
	return f
}

// summarize adds the sessions of a stream that have reported lately to sum. It returns the share of the connected
// players that may report.
func (c *Collector) summarize(name domain.Name, now time.Time, sum *summary) (share float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.streams[name]
	if of == nil {
		return 0
	}
	connected := 0
	sum.starts, sum.latencies = make([]int, 0, len(of.stored)), make([]int, 0, len(of.stored))
	for _, s := range of.stored {
		if !s.sampled() {
			continue
		}
		if s.conns > 0 {
			connected++
		}
		if !s.reported.IsZero() && now.Sub(s.reported) <= activeFor && (s.conns > 0 || isRecent(s.ended, now)) {
			sum.add(s, now)
		}
	}
	return min(1, float64(connected)/float64(max(of.count, 1)))
}

// A summary sums up sessions.
type summary struct {
	Figures
	stallTime, played time.Duration
	frames, dropped   int
	starts, latencies []int // in ms
}

func (sum *summary) add(s *session, now time.Time) {
	sum.Players++
	i := slices.IndexFunc(sum.Groups, func(g Group) bool { return g.Proto == s.proto && g.Browser == s.browser })
	if i < 0 {
		i = len(sum.Groups)
		sum.Groups = append(sum.Groups, Group{Proto: s.proto, Browser: s.browser})
	}
	sum.Groups[i].Players++
	if isRecent(s.stalled, now) {
		sum.Stalled++
		sum.Groups[i].Stalled++
	}
	if s.last.Throughput >= 0 && s.last.Throughput < s.last.Bitrate {
		sum.Slow++
	}
	if isRecent(s.switched, now) {
		sum.Switched++
	}
	if isRecent(s.failed, now) {
		if sum.Failed == nil {
			sum.Failed = make(map[string]int)
		}
		sum.Failed[s.failure]++
	}
	if s.last.StallTime >= 0 {
		sum.stallTime += s.stallTime
		sum.played += s.interval
	}
	sum.frames += s.frames
	sum.dropped += s.dropped
	if s.last.StartDelay >= 0 {
		sum.starts = append(sum.starts, s.last.StartDelay)
	}
	if s.last.Latency >= 0 {
		sum.latencies = append(sum.latencies, s.last.Latency)
	}
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

// Most returns what most of the stalled players play and the others do not, in words: "HLS in Safari", "in Safari" or
// "HLS". It returns "" if there is nothing.
func (f Figures) Most() string {
	best, highest := "", minMore
	for _, of := range []func(Group) string{
		func(g Group) string {
			if browserNames[g.Browser] == "" {
				return ""
			}
			return "in " + browserNames[g.Browser]
		},
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
	protoNames   = map[string]string{"hls": "HLS", "ws": "WebSocket-FLV", "flv": "HTTP-FLV"}
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

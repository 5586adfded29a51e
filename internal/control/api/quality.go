package api

import (
	"math"

	"livego/internal/quality"
)

// playQuality is what the players of a stream have reported.
type playQuality struct {
	Players  int            `json:"players" doc:"Players that reported in the last minute. The other numbers are of them."`
	Share    float64        `json:"share" doc:"Share of the stream's players that are asked to report: 1 for all. Divide a number by it to estimate that of all players."`
	Stalled  int            `json:"stalled" doc:"Players that stalled in the last minute."`
	Slow     int            `json:"slow" doc:"Players that measured less throughput than the bitrate of the stream (CMCD)."`
	Switched int            `json:"switched" doc:"Players that changed the protocol in the last minute."`
	Failed   map[string]int `json:"failed" doc:"Players with an error in the last minute, by the last one: network, unplayable, other."`

	StallRatio   *float64 `json:"stall_ratio,omitempty" doc:"Share of the time for which they stalled."`
	DroppedRatio *float64 `json:"dropped_ratio,omitempty" doc:"Share of the frames that were dropped."`
	Start        *spread  `json:"start,omitempty" doc:"Time from the start of the player to the first picture, in seconds."`
	Delay        *spread  `json:"delay,omitempty" doc:"How far the picture is behind the newest media, in seconds, as the players estimate it."`

	Groups []playGroup `json:"groups" doc:"The players by protocol and browser, the largest group first."`
}

// A spread is how a value is spread over players.
type spread struct {
	Median float64 `json:"median"`
	P95    float64 `json:"p95" doc:"95 % of the players have at most this."`
}

// A playGroup is the players of one protocol and browser.
type playGroup struct {
	Proto   string `json:"proto"`
	Browser string `json:"browser" enum:"chrome,edge,firefox,safari,other"`
	Players int    `json:"players"`
	Stalled int    `json:"stalled"`
}

// newPlayQuality returns what f says, nil if no player reports.
func newPlayQuality(f quality.Figures) *playQuality {
	if f.Players == 0 {
		return nil
	}
	q := &playQuality{
		Players: f.Players, Share: round3(f.Share), Stalled: f.Stalled, Slow: f.Slow, Switched: f.Switched, Failed: f.Failed,
		StallRatio: known(f.StallRatio), DroppedRatio: known(f.DroppedRatio), Start: newSpread(f.Start),
		Delay: newSpread(f.Latency),
	}
	if q.Failed == nil {
		q.Failed = map[string]int{}
	}
	for _, g := range f.Groups {
		q.Groups = append(q.Groups, playGroup{g.Proto, g.Browser, g.Players, g.Stalled})
	}
	return q
}

func known(ratio float64) *float64 {
	if math.IsNaN(ratio) {
		return nil
	}
	ratio = round3(ratio)
	return &ratio
}

func newSpread(s quality.Spread) *spread {
	if s == (quality.Spread{}) {
		return nil
	}
	return &spread{round3(s.Median.Seconds()), round3(s.P95.Seconds())}
}

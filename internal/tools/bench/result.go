package bench

import (
	"fmt"
	"time"
)

// A Result is the outcome of a run. Times are in milliseconds unless their name says otherwise.
type Result struct {
	Started   time.Time `json:"started"`
	Protocols []string  `json:"protocols"`
	Stream    Stream    `json:"stream"`
	Seconds   float64   `json:"seconds"` // length of the window
	Joins
	Delivery Delivery `json:"delivery"`
	// Latency is the time from just before a video frame was written to the server until a viewer
	// had its last byte, over all frames sent in the window and all viewers; for HLS until the
	// segment or part was complete. Empty without markers.
	Latency Percentiles `json:"latency_ms"`
	// PartSpread is the time from the first low-latency HLS viewer that has a part until each other
	// viewer has it.
	PartSpread Percentiles `json:"part_spread_ms"`
	// Storm is how the viewers of a join storm joined, nil without one. Nothing else of them counts
	// here: Latency is that of the viewers that were watching.
	Storm *Joins `json:"storm,omitempty"`
	Polls *Polls `json:"polls,omitempty"` // nil without Options.Poll
	// EncoderBlocked is how long writing a message to the server took.
	EncoderBlocked Percentiles `json:"encoder_blocked_ms"`
	Server         *ServerLoad `json:"server,omitempty"`
	Bench          BenchLoad   `json:"bench"`
}

// Stream describes what was published; it is empty without a publisher.
type Stream struct {
	Source  string  `json:"source,omitempty"`
	Streams int     `json:"streams"`
	Kbps    float64 `json:"kbps"` // of each stream
	FPS     float64 `json:"fps"`
}

// Joins describes how viewers joined.
type Joins struct {
	Viewers Viewers `json:"viewers"`
	// FirstPicture is the time from the start of a viewer's connection until it had the first
	// keyframe; for HLS the first segment.
	FirstPicture Percentiles `json:"first_picture_ms"`
	// Handshake and ResumedHandshake are the times from the start of a viewer's connection until its
	// TLS handshake was complete. PictureAfterHandshake is the rest of FirstPicture.
	Handshake             Percentiles `json:"handshake_ms,omitzero"`
	ResumedHandshake      Percentiles `json:"resumed_handshake_ms,omitzero"`
	PictureAfterHandshake Percentiles `json:"picture_after_handshake_ms,omitzero"`
}

// Viewers counts viewers by outcome.
type Viewers struct {
	Wanted int            `json:"wanted"`
	Joined int            `json:"joined"` // received a keyframe
	Lost   int            `json:"lost"`   // of those, disconnected before the end
	Errors map[string]int `json:"errors,omitempty"`
}

// Delivery describes how much arrived of what was sent in the window.
type Delivery struct {
	Mbps     float64 `json:"mbps"` // received by all viewers
	Expected int64   `json:"expected_frames"`
	Frames   int64   `json:"frames"`
	Share    float64 `json:"share"`   // Frames / Expected; 0 for a stream without markers
	Missing  int64   `json:"missing"` // frames missing between two received ones
	Repeats  int64   `json:"repeats"` // frames received again or out of order
	Gaps     int64   `json:"gaps"`    // video timestamp steps above half a second; expired HLS segments
	StepBack int64   `json:"step_back"`
	Checked  int64   `json:"checked"` // frames compared with what was sent
	Corrupt  int64   `json:"corrupt"` // of those, different
}

// ServerLoad is the resource usage of the processes under test on this machine.
type ServerLoad struct {
	PIDs         []int   `json:"pids"`
	CPU          float64 `json:"cpu"`               // processors
	CPUPerViewer float64 `json:"cpu_per_viewer_us"` // microseconds of CPU per viewer and second
	IdleKB       int64   `json:"idle_kb"`           // resident, with published streams and no viewers
	MemoryKB     int64   `json:"memory_kb"`         // resident at the end
	KBPerViewer  float64 `json:"kb_per_viewer"`
}

// BenchLoad is the resource usage of the bench itself. A void result says more about the bench than
// about the server.
type BenchLoad struct {
	Cores   int         `json:"cores"`
	CPU     float64     `json:"cpu"`       // processors
	Lag     Percentiles `json:"lag_ms"`    // how late timers fired
	Behind  Percentiles `json:"behind_ms"` // how long reading received data took
	Machine float64     `json:"machine"`   // busy fraction of the machine's CPU, all processes
	Void    []string    `json:"void,omitempty"`
}

// minShare is the lowest fraction of frames that a good run delivers.
const minShare = 0.99

// Failures describes the failures of a run, a sentence each: viewers that did not join or stay,
// frames that did not arrive or not as sent, and reasons why the result is void.
func (r *Result) Failures() []string {
	var f []string
	addIf := func(bad bool, format string, args ...any) {
		if bad {
			f = append(f, fmt.Sprintf(format, args...))
		}
	}
	v, d := r.Viewers, r.Delivery
	addIf(v.Joined < v.Wanted, "%d of %d viewers received no keyframe", v.Wanted-v.Joined, v.Wanted)
	addIf(v.Lost > 0, "%d viewers were disconnected", v.Lost)
	addIf(d.Expected > 0 && d.Share < minShare, "only %.1f %% of the frames were delivered", 100*d.Share)
	addIf(d.Corrupt > 0, "%d of %d checked frames differ from what was sent", d.Corrupt, d.Checked)
	if s := r.Storm; s != nil {
		addIf(s.Viewers.Joined < s.Viewers.Wanted, "%d of %d viewers of the storm received no keyframe",
			s.Viewers.Wanted-s.Viewers.Joined, s.Viewers.Wanted)
		addIf(s.Viewers.Lost > 0, "%d viewers of the storm were disconnected", s.Viewers.Lost)
	}
	if p := r.Polls; p != nil {
		addIf(p.Requests == 0, "%s was never requested: it does not respond", p.URL)
		addIf(p.Failed > 0, "%d of %d requests to %s failed", p.Failed, p.Requests, p.URL)
	}
	for _, why := range r.Bench.Void {
		addIf(true, "result void: the bench was the bottleneck: %s", why)
	}
	return f
}

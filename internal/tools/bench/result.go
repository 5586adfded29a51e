package bench

import (
	"fmt"
	"time"
)

// A Result is what one run has measured. Times are in milliseconds unless their name says otherwise.
type Result struct {
	Started   time.Time `json:"started"`
	Protocols []string  `json:"protocols"`
	Stream    Stream    `json:"stream"`
	Seconds   float64   `json:"seconds"` // of the window
	Viewers   Viewers   `json:"viewers"`
	Delivery  Delivery  `json:"delivery"`
	// Latency is from just before a video frame was written to the server until a viewer had its last
	// byte, over all frames sent in the window and all viewers; of HLS until the segment, or the part,
	// was complete. Empty without markers.
	Latency Percentiles `json:"latency_ms"`
	// FirstPicture is from the start of a viewer's connection until he had the first key frame; of HLS the first segment.
	FirstPicture Percentiles `json:"first_picture_ms"`
	// PartSpread is from the first viewer of low-latency HLS who holds a part until each other holds it.
	PartSpread Percentiles `json:"part_spread_ms"`
	// EncoderBlocked is how long the server took to accept a message.
	EncoderBlocked Percentiles `json:"encoder_blocked_ms"`
	Server         *ServerLoad `json:"server,omitempty"`
	Bench          BenchLoad   `json:"bench"`
}

// Stream tells what was published; without a source, nothing was.
type Stream struct {
	Source  string  `json:"source,omitempty"`
	Streams int     `json:"streams"`
	Kbps    float64 `json:"kbps"` // of each
	FPS     float64 `json:"fps"`
}

// Viewers tells how they fared.
type Viewers struct {
	Wanted int            `json:"wanted"`
	Joined int            `json:"joined"` // saw a key frame
	Lost   int            `json:"lost"`   // of those, did not stay to the end
	Errors map[string]int `json:"errors,omitempty"`
}

// Delivery tells what arrived of what was sent in the window.
type Delivery struct {
	Mbps     float64 `json:"mbps"` // received by all viewers
	Expected int64   `json:"expected_frames"`
	Frames   int64   `json:"frames"`
	Share    float64 `json:"share"`   // frames of expected; of a stream without markers, 0
	Missing  int64   `json:"missing"` // frames left out between two that came
	Repeats  int64   `json:"repeats"` // frames that came again or out of order
	Gaps     int64   `json:"gaps"`    // steps of video time stamps above half a second; segments of HLS that were gone
	StepBack int64   `json:"step_back"`
	Checked  int64   `json:"checked"` // frames compared with what was sent, byte for byte
	Corrupt  int64   `json:"corrupt"` // of those, different
}

// ServerLoad is what the processes under test used, on this machine.
type ServerLoad struct {
	PIDs         []int   `json:"pids"`
	CPU          float64 `json:"cpu"`               // processors
	CPUPerViewer float64 `json:"cpu_per_viewer_us"` // microseconds of CPU per viewer and second
	IdleKB       int64   `json:"idle_kb"`           // resident, while the stream was published and nobody watched
	MemoryKB     int64   `json:"memory_kb"`         // resident at the end
	KBPerViewer  float64 `json:"kb_per_viewer"`
}

// BenchLoad is what the bench itself used. A Void result says more about the bench than about the server.
type BenchLoad struct {
	Cores   int         `json:"cores"`
	CPU     float64     `json:"cpu"`       // processors
	Lag     Percentiles `json:"lag_ms"`    // how late timers came
	Behind  Percentiles `json:"behind_ms"` // how long it took to read what had come
	Machine float64     `json:"machine"`   // share of the machine's CPU that was busy, by everybody
	Void    []string    `json:"void,omitempty"`
}

// minShare is the share of frames that a good run delivers at least.
const minShare = 0.99

// Failures says in a sentence each why the run is none to be proud of: viewers who did not come or
// stay, frames that did not arrive or not as they were sent, and what makes the result void.
func (r *Result) Failures() []string {
	var f []string
	say := func(bad bool, format string, args ...any) {
		if bad {
			f = append(f, fmt.Sprintf(format, args...))
		}
	}
	v, d := r.Viewers, r.Delivery
	say(v.Joined < v.Wanted, "%d of %d viewers saw no picture", v.Wanted-v.Joined, v.Wanted)
	say(v.Lost > 0, "%d viewers were disconnected", v.Lost)
	say(d.Expected > 0 && d.Share < minShare, "only %.1f %% of the frames were delivered", 100*d.Share)
	say(d.Corrupt > 0, "%d of %d frames that were checked were not as sent", d.Corrupt, d.Checked)
	for _, why := range r.Bench.Void {
		say(true, "the bench was the bottleneck: result void: %s", why)
	}
	return f
}

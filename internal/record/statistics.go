package record

import (
	"maps"

	"livego/internal/domain"
)

// Statistics describe a Recorder at one moment. Counts are since the start of the server.
type Statistics struct {
	States map[domain.RecordingState]int     // current recordings
	Files  map[domain.RecordingReason]uint64 // closed files, by why they were closed
	Bytes  int64                             // written to files
	Gaps   uint64                            // see domain.Recording
}

// Statistics returns the current state.
func (r *Recorder) Statistics() Statistics {
	states := make(map[domain.RecordingState]int)
	for _, i := range r.current() {
		states[i.State]++
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.statistics
	s.States = states
	s.Files = maps.Clone(s.Files)
	return s
}

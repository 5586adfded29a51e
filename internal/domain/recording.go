package domain

import "time"

// A Recording describes a file to which a stream is recorded.
type Recording struct {
	Name     Name
	File     string // path below the directory of recordings, with slashes; "" if there is none yet
	Started  time.Time
	Bytes    int64
	Duration time.Duration
	Gaps     int // how often media of the stream is missing in the file
	State    RecordingState
	Reason   RecordingReason // why it is finished; "" before
	Error    string          // the error of the disk; "" if there is none
}

// A RecordingState is the state of a recording.
type RecordingState string

// States of a recording.
const (
	RecordingActive   RecordingState = "recording"
	RecordingStalled  RecordingState = "stalled"  // the disk is slow
	RecordingWaiting  RecordingState = "waiting"  // records nothing: disk full, or see Error
	RecordingFinished RecordingState = "finished" // the file is closed
)

// A RecordingReason is why a file was closed.
type RecordingReason string

// Reasons to close a file.
const (
	EndOfStream  RecordingReason = "ended"
	CodecChanged RecordingReason = "changed" // the stream continues in another file
	DiskFailed   RecordingReason = "failed"
	AfterCrash   RecordingReason = "mended" // repaired at the start after the server was killed
)

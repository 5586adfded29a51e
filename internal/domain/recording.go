package domain

import "time"

// A Recording is what is known of a file that a stream is recorded in, or is to be.
type Recording struct {
	Name     Name
	File     string // below the directory of recordings, with slashes; "" while there is none
	Started  time.Time
	Bytes    int64
	Duration time.Duration
	Gaps     int // how often something of the stream is not in the file
	State    RecordingState
	Reason   RecordingReason // why it is finished; "" before
	Error    string          // what the disk says; "" while it says nothing
}

// A RecordingState tells what becomes of a recording.
type RecordingState string

// States of a recording.
const (
	RecordingActive   RecordingState = "recording"
	RecordingStalled  RecordingState = "stalled"  // the disk takes its time
	RecordingWaiting  RecordingState = "waiting"  // for room on the disk, or for what Error tells: nothing is recorded
	RecordingFinished RecordingState = "finished" // the file is closed
)

// A RecordingReason tells why a file was closed.
type RecordingReason string

// Reasons to close a file.
const (
	EndOfStream  RecordingReason = "ended"
	CodecChanged RecordingReason = "changed" // the stream goes on in another file
	DiskFailed   RecordingReason = "failed"
	AfterCrash   RecordingReason = "mended" // the server was killed, and has brought the file to an end at its next start
)

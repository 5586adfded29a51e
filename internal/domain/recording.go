package domain

import (
	"path"
	"strings"
	"time"
)

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

// RecordingIDSeparator stands between app and file in the ID of a recording. No name contains it.
const RecordingIDSeparator = "~"

// ID returns what identifies the recording, also after a restart; "" while it has no file.
func (r Recording) ID() string {
	return strings.Replace(strings.TrimSuffix(r.File, path.Ext(r.File)), "/", RecordingIDSeparator, 1)
}

// Event returns an event about the recording.
func (r Recording) Event(t EventType, reason string) Event {
	fields := map[string]any{"file": r.File, "bytes": r.Bytes, "duration": r.Duration.Seconds(), "gaps": r.Gaps}
	if r.Error != "" {
		fields["error"] = r.Error
	}
	return Event{Type: t, App: r.Name.App, Room: r.Name.Room, Reason: reason, Fields: fields}
}

// A RecordingState is the state of a recording.
type RecordingState string

// States of a recording.
const (
	RecordingActive     RecordingState = "recording"
	RecordingStalled    RecordingState = "stalled"    // the disk is slow
	RecordingWaiting    RecordingState = "waiting"    // records nothing: disk full, or see Error
	RecordingFinished   RecordingState = "finished"   // the file is closed
	RecordingUnfinished RecordingState = "unfinished" // another process writes it, or a crash left it
)

// A RecordingReason is why a file was closed.
type RecordingReason string

// Reasons to close a file.
const (
	EndOfStream  RecordingReason = "ended"
	CodecChanged RecordingReason = "changed" // the stream continues in another file
	DiskFull     RecordingReason = "full"    // record_min_free is reached
	DiskFailed   RecordingReason = "failed"
	AfterCrash   RecordingReason = "mended" // repaired at the start after the server was killed
)

// A RecordingFilter selects recordings. Zero fields select all.
type RecordingFilter struct {
	App, Room string
	State     RecordingState
	Since     time.Time // the earliest start
	Until     time.Time // the latest start
}

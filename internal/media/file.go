package media

import "time"

// A Stream describes an elementary stream of a file, beyond its Track. Zero fields are unknown.
type Stream struct {
	// Track at the start of the stream. A track that no output supports has Codec Passthrough, a
	// Label, and no frames.
	Track *Track

	Duration time.Duration
	Bytes    int64 // of all its frames

	Rotation int  // degrees clockwise by which players rotate the picture: 0, 90, 180 or 270
	Edited   bool // its edit list plays only a part, or changes the order
}

package media

import "time"

// A Stream is what a file says of one of its elementary streams, beyond its Track. Zero fields are unknown.
type Stream struct {
	// Track as the stream begins. One whose frames no output can name has Codec Opaque, a Label, and no frames.
	Track *Track

	Duration time.Duration
	Bytes    int64 // of all its frames

	Rotation int  // degrees clockwise by which players are to turn the picture: 0, 90, 180 or 270
	Edited   bool // its edit list shows less than there is, or in another order
}

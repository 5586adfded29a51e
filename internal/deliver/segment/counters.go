package segment

import "sync/atomic"

// Counters count what Segmenters have made, over all that share them. A nil Counters counts nothing.
type Counters struct {
	segments, parts                 atomic.Uint64
	renderedSegments, renderedParts atomic.Uint64
}

// Counts are the values of Counters.
type Counts struct {
	Segments, Parts uint64 // completed
	// RenderedSegments and RenderedParts are how often the bytes of a segment or of a part have been
	// made for a request: once for each format, and again after they were dropped.
	RenderedSegments, RenderedParts uint64
}

// Counts returns the values.
func (c *Counters) Counts() Counts {
	return Counts{c.segments.Load(), c.parts.Load(), c.renderedSegments.Load(), c.renderedParts.Load()}
}

func (c *Counters) addSegment() {
	if c != nil {
		c.segments.Add(1)
	}
}

func (c *Counters) addPart() {
	if c != nil {
		c.parts.Add(1)
	}
}

func (c *Counters) addRenderedSegment() {
	if c != nil {
		c.renderedSegments.Add(1)
	}
}

func (c *Counters) addRenderedPart() {
	if c != nil {
		c.renderedParts.Add(1)
	}
}

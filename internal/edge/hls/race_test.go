//go:build race

package hls

// slower is by what the race detector's work is allowed to be.
const slower = 20

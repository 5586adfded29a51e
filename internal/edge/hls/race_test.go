//go:build race

package hls

// slowFactor is by what the race detector's work is allowed to be.
const slowFactor = 20

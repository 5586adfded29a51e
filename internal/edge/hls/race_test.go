//go:build race

package hls

// slowFactor is how much slower the race detector may make the test.
const slowFactor = 20

//go:build !race

package hls

// slowFactor is how much slower a machine that does other things at the same time may be. An idle
// one takes 20 ms.
const slowFactor = 4

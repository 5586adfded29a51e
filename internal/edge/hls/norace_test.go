//go:build !race

package hls

// slowFactor is by what a machine that does other things at the same time is allowed to be. One
// that does not takes 20 ms.
const slowFactor = 4

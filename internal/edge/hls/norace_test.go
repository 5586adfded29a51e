//go:build !race

package hls

const slower = 1

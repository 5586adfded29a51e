//go:build !linux

package bench

import (
	"errors"
	"time"
)

// The usage of processes is read from /proc, which only Linux has.

func usageOf([]int) (usage, error) {
	return usage{}, errors.New("process usage can be measured on Linux only")
}
func ownCPU() time.Duration           { return 0 }
func machineTimes() (busy, all int64) { return 0, 0 }
func processesOnPort(int) []int       { return nil }
func checkFileLimit(int) error        { return nil }

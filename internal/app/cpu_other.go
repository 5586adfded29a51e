//go:build !unix

package app

import "time"

// cpuTime is not known here: frames are gathered by the number of viewers alone.
func cpuTime() time.Duration { return 0 }

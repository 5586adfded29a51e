//go:build !unix

package batching

import "time"

// cpuTime returns 0: the processor time is not known on this system, and the batching window
// depends on the number of viewers only.
func cpuTime() time.Duration { return 0 }

package logging

import (
	"log/slog"
	"runtime/debug"
)

// Recover keeps a panic to the connection it happened in. To be deferred by the connection's
// goroutine; the stack goes to log, since a panic is always a fault of ours.
func Recover(log *slog.Logger) {
	if r := recover(); r != nil {
		log.Error("panic", "panic", r, "stack", string(debug.Stack()))
	}
}

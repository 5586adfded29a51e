package logging

import (
	"log/slog"
	"runtime/debug"
)

// Recover recovers a panic, so that it ends only one connection, and logs it with the stack. The
// goroutine of the connection defers it.
func Recover(log *slog.Logger) {
	if r := recover(); r != nil {
		log.Error("panic", "panic", r, "stack", string(debug.Stack()))
	}
}

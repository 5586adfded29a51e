package logging

import (
	"errors"
	"io"
	"log/slog"
	"os"

	"livego/internal/domain"
)

// PlayerEnded logs how a player ended: with its stream (io.EOF), disconnected by the server (a
// domain.Error), as a slow consumer (os.ErrDeadlineExceeded), or because the client left.
func PlayerEnded(log *slog.Logger, err error) {
	switch {
	case errors.Is(err, io.EOF):
		log.Info("player saw the end")
	case domain.KindOf(err) != domain.Internal:
		log.Info("player disconnected", "reason", domain.Reason(err))
	case errors.Is(err, os.ErrDeadlineExceeded):
		log.Info("player disconnected", "reason", "slow consumer: no progress for write_timeout")
	default:
		log.Info("player left")
	}
}

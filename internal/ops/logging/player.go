package logging

import (
	"errors"
	"io"
	"log/slog"
	"os"

	"livego/internal/domain"
)

// PlayerEnded logs how a player ended: by the end of his stream (io.EOF), against his will (a
// domain.Error), because he took nothing (os.ErrDeadlineExceeded), or because he left.
func PlayerEnded(log *slog.Logger, err error) {
	switch {
	case errors.Is(err, io.EOF):
		log.Info("player saw the end")
	case domain.KindOf(err) != domain.Internal:
		log.Info("player disconnected", "reason", domain.Reason(err))
	case errors.Is(err, os.ErrDeadlineExceeded):
		log.Info("player disconnected", "reason", "nothing taken for write_timeout")
	default:
		log.Info("player left")
	}
}

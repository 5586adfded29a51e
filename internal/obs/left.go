package obs

import (
	"errors"
	"io"
	"log/slog"
	"os"

	"livego/internal/live"
)

// PlayerLeft logs how a player ended: by the end of his stream (io.EOF), against his will (a live.Error), because he took nothing
// (os.ErrDeadlineExceeded), or because he left.
func PlayerLeft(log *slog.Logger, err error) {
	switch {
	case errors.Is(err, io.EOF):
		log.Info("player saw the end")
	case live.KindOf(err) != live.Internal:
		log.Info("player disconnected", "reason", live.Reason(err))
	case errors.Is(err, os.ErrDeadlineExceeded):
		log.Info("player disconnected", "reason", "nothing taken for write_timeout")
	default:
		log.Info("player left")
	}
}

package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// certCheckInterval is how often the certificate files are checked for changes.
const certCheckInterval = 2 * time.Second

// A certificate is a certificate file and a key file, which are reloaded when they change.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	pair      atomic.Pointer[tls.Certificate]
	lastState string // state of the files at the last load; used by run only
}

// loadCertificate loads the files.
func loadCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	c.lastState = c.fileState()
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("rtmps_cert and rtmps_key: %w", err)
	}
	c.pair.Store(&pair)
	return c, nil
}

// get implements tls.Config.GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil }

// fileState returns a text that changes with the files, "" if one of them is missing. It follows
// symbolic links, because a whole directory may be replaced.
func (c *certificate) fileState() string {
	state := ""
	for _, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return "" // during a replacement, or deleted: keep the loaded pair
		}
		state += fmt.Sprint(info.Size(), info.ModTime().UnixNano(), ";")
	}
	return state
}

// run reloads the files after a change, until ctx ends. It keeps the loaded pair if the new files
// are invalid.
func (c *certificate) run(ctx context.Context) {
	t := time.NewTicker(certCheckInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			c.reloadIfChanged()
		case <-ctx.Done():
			return
		}
	}
}

func (c *certificate) reloadIfChanged() {
	now := c.fileState()
	if now == "" || now == c.lastState {
		return
	}
	c.lastState = now
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		c.log.Error("changed certificate is invalid: keeping the old one", "err", err)
		return
	}
	c.pair.Store(&pair)
	c.log.Info("certificate reloaded", "not_after", pair.Leaf.NotAfter)
}

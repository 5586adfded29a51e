// Package certfile serves a certificate and its key from files, and reloads them when they change.
package certfile

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// checkInterval is how often the certificate files are checked for changes.
const checkInterval = 2 * time.Second

// A Certificate is a certificate file and a key file, which Run reloads when they change.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	pair      atomic.Pointer[tls.Certificate]
	lastState string // state of the files at the last load; used by Run only
}

// Load loads the files.
func Load(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log}
	c.lastState = c.fileState()
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	c.pair.Store(&pair)
	return c, nil
}

// Get implements tls.Config.GetCertificate.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil }

// fileState returns a text that changes with the files, "" if one of them is missing. It follows
// symbolic links, because a whole directory may be replaced.
func (c *Certificate) fileState() string {
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

// Run reloads the files after a change, until ctx ends. It keeps the loaded pair if the new files
// are invalid.
func (c *Certificate) Run(ctx context.Context) {
	t := time.NewTicker(checkInterval)
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

func (c *Certificate) reloadIfChanged() {
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

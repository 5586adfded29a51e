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

// certCheckInterval is how often it is looked whether the files of the certificate have changed.
const certCheckInterval = 2 * time.Second

// A certificate is a pair of files that is read again when it changes.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	pair      atomic.Pointer[tls.Certificate]
	lastState string // what the files looked like when they were last read; for the goroutine of run
}

// loadCertificate reads the files.
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

// get is for tls.Config.GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil }

// fileState returns what tells one state of the files from another. They may be links to a
// directory that is replaced as a whole.
func (c *certificate) fileState() string {
	state := ""
	for _, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return "" // in the middle of a change, or gone: what is in memory is good
		}
		state += fmt.Sprint(info.Size(), info.ModTime().UnixNano(), ";")
	}
	return state
}

// run reads the files again when they have changed, until ctx ends. What is no certificate is not taken.
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
		c.log.Error("the certificate has changed and cannot be used: the old one stays", "err", err)
		return
	}
	c.pair.Store(&pair)
	c.log.Info("a new certificate is in use", "not after", pair.Leaf.NotAfter)
}

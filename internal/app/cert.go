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

// certEvery is how often it is looked whether the files of the certificate have changed.
const certEvery = 2 * time.Second

// A certificate is a pair of files that is read again when it changes.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	pair atomic.Pointer[tls.Certificate]
	seen string // what the files looked like when they were last read; for the goroutine of run
}

// loadCertificate reads the files.
func loadCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	c.seen = c.look()
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("rtmps_cert and rtmps_key: %w", err)
	}
	c.pair.Store(&pair)
	return c, nil
}

// get is for tls.Config.GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil }

// look returns what tells one state of the files from another. They may be links to a directory that is replaced as a whole.
func (c *certificate) look() string {
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
	t := time.NewTicker(certEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			c.refresh()
		case <-ctx.Done():
			return
		}
	}
}

func (c *certificate) refresh() {
	now := c.look()
	if now == "" || now == c.seen {
		return
	}
	c.seen = now
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		c.log.Error("the certificate has changed and cannot be used: the old one stays", "err", err)
		return
	}
	c.pair.Store(&pair)
	c.log.Info("a new certificate is in use", "not after", pair.Leaf.NotAfter)
}

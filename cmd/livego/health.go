package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// healthTimeout is how long the server may take to answer.
const healthTimeout = 5 * time.Second

type healthCmd struct{}

// Help is shown by livego health --help.
func (healthCmd) Help() string {
	return `It asks /readyz of the livego that runs with the same settings on this machine. The exit code is 0 if it is
ready, otherwise 1. A container uses it as its health check.`
}

// Run asks /readyz.
func (healthCmd) Run(e *env) error {
	cfg, err := e.load()
	if err != nil {
		return err
	}
	api := newAPIClient(cfg.Config)
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, api.base+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := api.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReason))
	if err != nil {
		return fmt.Errorf("read the server's response: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server at %s is not ready: HTTP %d: %s", api.base, resp.StatusCode,
			strings.TrimSpace(string(body)))
	}
	_, err = fmt.Fprintln(e.stdout, "ready")
	return err
}

// maxReason is how much of a response of /readyz is read, in bytes.
const maxReason = 4 << 10

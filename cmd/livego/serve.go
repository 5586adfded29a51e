package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"livego/internal/app"
	"livego/internal/ops/config"
	"livego/internal/ops/logging"
)

// logFlushTimeout is how long the process waits at its end for a blocked log.
const logFlushTimeout = time.Second

type serveCmd struct{}

// Run serves until a signal or a fatal error.
func (serveCmd) Run(e *env) error {
	cfg, err := e.load()
	if err != nil {
		return err
	}
	sink := logging.NewWriter(e.stderr)
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), logFlushTimeout)
		defer cancel()
		_ = sink.Close(ctx) // a blocked log is not an error
	}()
	log := logging.New(sink, logging.Options{Level: cfg.Level, Format: cfg.LogFormat, TTY: isTerminal(e.stderr)})
	for _, d := range cfg.Deprecated {
		log.Warn("setting is deprecated", "old", d.Old, "new", d.New)
	}
	return serve(cfg, log)
}

// serve runs the server until SIGINT or SIGTERM.
func serve(cfg config.Config, log *slog.Logger) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	a, err := app.New(cfg, log)
	if err != nil {
		return err
	}
	return supervise(a.Run, signals)
}

// supervise calls run until it returns. The first signal ends its context, for a graceful shutdown;
// after the second it returns at once.
func supervise(run func(context.Context) error, signals <-chan os.Signal) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	select {
	case err := <-done:
		return err
	case <-signals:
		stop()
	}
	select {
	case err := <-done:
		return err
	case <-signals:
		return errors.New("stopped at once by a second signal")
	}
}

// isTerminal reports whether w is a character device, and so probably read by a person.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

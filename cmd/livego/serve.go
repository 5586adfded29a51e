package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
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
	// A crash ends the process by SIGABRT. By default it has exit code 2, which stands for invalid
	// settings here: a service manager that does not restart after those would not restart a crash.
	debug.SetTraceback("crash")
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
	level := new(slog.LevelVar)
	level.Set(logging.ParseLevel(cfg.Level))
	log := logging.New(sink, logging.Options{Level: level, Format: cfg.LogFormat, TTY: isTerminal(e.stderr)})
	for _, d := range cfg.Deprecated {
		log.Warn("setting is deprecated", "old", d.Old, "new", d.New)
	}
	return serve(cfg, log, level)
}

// serve runs the server until SIGINT or SIGTERM. At SIGHUP it loads the settings again.
func serve(cfg *config.Loaded, log *slog.Logger, level *slog.LevelVar) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	a, err := app.New(cfg, log, level)
	if err != nil {
		return err
	}
	return supervise(func(ctx context.Context) error {
		ctx, stop := context.WithCancel(ctx)
		var reloading sync.WaitGroup
		defer reloading.Wait()
		defer stop()
		reloading.Go(func() { reloadAtSignals(ctx, a, hangups) })
		return a.Run(ctx)
	}, signals)
}

// reloadAtSignals loads the settings again at each signal, until ctx ends.
func reloadAtSignals(ctx context.Context, a *app.App, hangups <-chan os.Signal) {
	for {
		select {
		case <-hangups:
			_, _ = a.Reload(ctx) // which logs the problems
		case <-ctx.Done():
			return
		}
	}
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

package app

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"livego/internal/domain"
	"livego/internal/ops/config"
	"livego/internal/ops/logging"
)

// watchInterval is how often the settings file is checked if config_watch is on. A check is a system
// call. A notification of the kernel would miss files that are replaced by a link elsewhere, as
// Kubernetes does, and files of network file systems.
const watchInterval = time.Second

// settings are the settings of a running server.
type settings struct {
	level   *slog.LevelVar
	reloads chan reload

	mu      sync.Mutex
	loaded  *config.Loaded // what the sources say
	running config.Config  // what the server runs with: loaded without what needs a restart
}

// A reload is a request to load the settings again.
type reload struct {
	load func(*config.Loaded) (*config.Loaded, error) // gets the settings that were loaded before
	save bool                                         // the settings of the API
	done chan<- reloaded
}

type reloaded struct {
	report config.Report
	err    error
}

// invalid returns err, which says what is wrong with the settings, with its kind: it is the fault of the
// request if that changes settings of the API.
func (r reload) invalid(err error) error {
	if r.save {
		return &domain.Error{Kind: domain.Invalid, Err: err}
	}
	return &domain.Error{Kind: domain.Conflict, Err: err}
}

func newSettings(loaded *config.Loaded, level *slog.LevelVar) *settings {
	return &settings{level: level, reloads: make(chan reload), loaded: loaded, running: loaded.Config}
}

func (s *settings) setLevel(name string) { s.level.Set(logging.ParseLevel(name)) }

func (s *settings) current() (loaded *config.Loaded, running config.Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loaded, s.running
}

// SettingStates returns the state of each setting.
func (a *App) SettingStates() []config.State {
	loaded, running := a.settings.current()
	return loaded.States(running)
}

// Reload loads the settings from all sources again, and applies what can be applied without closing
// a connection. The error has a line for each mistake; then nothing has changed. Only Run serves
// requests to reload.
func (a *App) Reload(ctx context.Context) (config.Report, error) {
	return a.requestReload(ctx, reload{load: (*config.Loaded).Reload})
}

// ChangeSettings sets settings of the API, by key, or removes them where the value is nil. They are
// on the disk when it returns. The settings file is not read again. The error has a line for each
// mistake; then nothing has changed.
func (a *App) ChangeSettings(ctx context.Context, changes map[string]*string) (config.Report, error) {
	return a.requestReload(ctx, reload{save: true, load: func(l *config.Loaded) (*config.Loaded, error) {
		return l.WithChanges(changes)
	}})
}

// CheckSettings returns what ChangeSettings would, without a change.
func (a *App) CheckSettings(changes map[string]*string) (config.Report, error) {
	loaded, running := a.settings.current()
	next, err := loaded.WithChanges(changes)
	if err == nil {
		var report config.Report
		if _, report, err = running.ChangeTo(next); err == nil {
			return report, nil
		}
	}
	return config.Report{}, &domain.Error{Kind: domain.Invalid, Err: err}
}

func (a *App) requestReload(ctx context.Context, r reload) (config.Report, error) {
	done := make(chan reloaded, 1)
	r.done = done
	select {
	case a.settings.reloads <- r:
	case <-ctx.Done():
		return config.Report{}, ctx.Err()
	}
	out := <-done
	return out.report, out.err
}

// runReloads reloads the settings, one request at a time, and runs the goroutines of the plan in use,
// until ctx ends.
func (a *App) runReloads(ctx context.Context) {
	running := map[runner]func(){} // the functions stop a runner and wait for it
	update := func(list []runner) {
		next := map[runner]func(){}
		for _, r := range list {
			if next[r] = running[r]; next[r] == nil {
				next[r] = start(ctx, r)
			}
			delete(running, r)
		}
		for _, stop := range running {
			stop()
		}
		running = next
	}
	defer func() { update(nil) }()
	update(a.plan.Load().runners())
	watch := time.NewTicker(watchInterval)
	defer watch.Stop()
	var file fileWatch
	for {
		var r reload
		select {
		case r = <-a.settings.reloads:
		case <-watch.C:
			loaded, cfg := a.settings.current()
			if !cfg.ConfigWatch || !file.changed(loaded.ConfigFile, loaded.FileInfo()) {
				continue
			}
			a.log.Info("settings file changed")
			r = reload{load: (*config.Loaded).Reload, done: make(chan reloaded, 1)}
		case <-ctx.Done():
			return
		}
		report, err := a.reload(r)
		update(a.plan.Load().runners())
		if err == nil || !r.save { // the client of the API has the error
			a.logReload(report, err)
		}
		r.done <- reloaded{report, err}
	}
}

// start runs r in a goroutine. stop ends it and waits.
func start(ctx context.Context, r runner) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// reload loads and applies the settings. All that can fail comes before the first change.
func (a *App) reload(r reload) (config.Report, error) {
	a.systemd.Reloading()
	defer a.systemd.Ready()
	loaded, running := a.settings.current()
	next, err := r.load(loaded)
	if err != nil {
		return config.Report{}, r.invalid(err)
	}
	cfg, report, err := running.ChangeTo(next)
	if err != nil {
		return config.Report{}, r.invalid(err)
	}
	p, err := a.prepare(cfg)
	if err != nil {
		return config.Report{}, r.invalid(err)
	}
	if r.save {
		if err := next.SaveOverrides(); err != nil {
			p.discard(a.plan.Load())
			a.log.Error("cannot store the settings", "err", err)
			return config.Report{}, domain.Errorf(domain.Unavailable, "the settings cannot be stored in data_dir")
		}
	}
	a.apply(p)
	a.settings.mu.Lock()
	defer a.settings.mu.Unlock()
	a.settings.loaded, a.settings.running = next, cfg
	return report, nil
}

func (a *App) logReload(r config.Report, err error) {
	applied, restart := strings.Join(r.Applied, ","), strings.Join(r.Restart, ",")
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			a.log.Error("settings not reloaded", "reason", line)
		}
		a.events.Add(domain.Event{Type: domain.EventConfigFailed, Reason: err.Error()})
		return
	}
	a.events.Add(domain.Event{Type: domain.EventConfigReloaded,
		Fields: map[string]any{"applied": applied, "restart": restart}})
	for _, w := range r.Warnings {
		a.log.Warn("settings warning", "reason", w)
	}
	a.log.Info("settings reloaded", "applied", applied)
	if len(r.Restart) > 0 {
		a.log.Warn("settings need a restart", "keys", restart)
	}
}

// A fileWatch detects changes of the settings file by its state, through links.
type fileWatch struct {
	seen, tried os.FileInfo // at the last check, and at the last change
}

// changed reports whether the file is not the one that was loaded, and has stayed the same since the
// last check, so that nobody is writing it. It reports a change once, since the file may be invalid.
// A missing file has not changed: it is being replaced.
func (w *fileWatch) changed(path string, loaded os.FileInfo) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	stable := sameFile(info, w.seen)
	w.seen = info
	if !stable || sameFile(info, loaded) || sameFile(info, w.tried) {
		return false
	}
	w.tried = info
	return true
}

func sameFile(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

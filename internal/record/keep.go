package record

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"livego/internal/domain"
	"livego/internal/ops/logging"
)

// keepInterval is how often old recordings are deleted, besides after each closed file.
const keepInterval = 30 * time.Second

// A keptFile is what is known of a file since it was last read.
type keptFile struct {
	domain.Recording // without a File if livego did not write it
	name             fileName
	size             int64
	modified         time.Time
	failed           bool // it cannot be deleted, which was logged
}

func (k *keptFile) end() time.Time { return k.Started.Add(k.Duration) }

// keep deletes old recordings until ctx is done.
func (r *Recorder) keep(ctx context.Context) {
	known := map[fileName]*keptFile{}
	again := time.NewTicker(keepInterval)
	defer again.Stop()
	for {
		l := r.limits.Load()
		if l.Keep > 0 || l.KeepBytes > 0 {
			if err := r.withDisk(func() error { return r.deleteOld(*l, known) }); err != nil {
				r.opt.Log.Error("cannot delete old recordings", "err", describe(err))
			}
		}
		select {
		case <-again.C:
		case <-r.check:
		case <-ctx.Done():
			return
		}
	}
}

// deleteOld deletes the finished recordings that ended longer ago than l.Keep, and the oldest of
// those that together with the running ones exceed l.KeepBytes. It updates known.
func (r *Recorder) deleteOld(l Limits, known map[fileName]*keptFile) error {
	defer logging.Recover(r.opt.Log) // a damaged file must not stop the server
	files, total, err := r.listFinished(known)
	if err != nil {
		return err
	}
	slices.SortFunc(files, func(a, b *keptFile) int { return a.end().Compare(b.end()) })
	for _, k := range files {
		var why string
		switch {
		case l.Keep > 0 && time.Since(k.end()) > l.Keep:
			why = "record_keep"
		case l.KeepBytes > 0 && total > l.KeepBytes:
			why = "record_keep_size"
		default:
			return nil
		}
		c, err := r.dir.deleteRecording(k.name)
		if err != nil {
			if !k.failed && !errors.Is(err, fs.ErrNotExist) {
				r.opt.Log.Error("cannot delete an old recording", "file", k.File, "err", describe(err))
			}
			k.failed = true
			continue
		}
		total -= k.size
		r.reportDeleted(c, why)
	}
	return nil
}

// listFinished returns the finished recordings, and the size of all recordings in bytes. It reads only
// files that have changed since they became known.
func (r *Recorder) listFinished(known map[fileName]*keptFile) (finished []*keptFile, total int64, err error) {
	names, err := r.dir.names(context.Background())
	if err != nil || len(names) == 0 {
		clear(known)
		return nil, 0, err
	}
	root, err := os.OpenRoot(r.dir.path)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = root.Close() }()
	current, exists := map[string]int64{}, make(map[fileName]bool, len(names))
	for _, c := range r.current() {
		current[c.File] = c.Bytes
	}
	for _, n := range names {
		size, isCurrent := current[n.path]
		if total += size; isCurrent {
			continue
		}
		info, err := lstatRegular(root, n)
		if err != nil {
			continue
		}
		k := known[n]
		if k == nil || k.size != info.Size() || !k.modified.Equal(info.ModTime()) {
			k = &keptFile{name: n, size: info.Size(), modified: info.ModTime()}
			if k.Recording, err = describeIn(root, n); err != nil {
				k.Recording = domain.Recording{}
			}
		}
		known[n], exists[n] = k, true
		if k.File == "" {
			continue
		}
		if total += k.size; k.State == domain.RecordingFinished {
			finished = append(finished, k)
		}
	}
	maps.DeleteFunc(known, func(n fileName, _ *keptFile) bool { return !exists[n] })
	return finished, total, nil
}

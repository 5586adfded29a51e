package acme

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
)

// Shared is where several servers keep what they have of an authority, and by whose locks one of them asks it for all.
type Shared interface {
	// Load returns a file and when it was saved; fs.ErrNotExist where there is none.
	Load(ctx context.Context, name string) ([]byte, time.Time, error)
	Save(ctx context.Context, name string, data []byte) error
	Remove(ctx context.Context, names ...string) error
	// Names returns the names of all files.
	Names(ctx context.Context) ([]string, error)
	// Lock takes a lock for owner, or keeps it, for so long; false while another has it.
	Lock(ctx context.Context, name, owner string, lease time.Duration) (bool, error)
	Unlock(ctx context.Context, name, owner string) error
}

const (
	// lockTry is how often it is asked for a lock that another has.
	lockTry = 500 * time.Millisecond
	// lockLease is how long a server that died holds others up: a try, and something for slow stores.
	lockLease = obtainTimeout + 30*time.Second
	// maxLease bounds how long a lock is kept for the wait between two tries, which grows to hours.
	maxLease = 30 * time.Minute
)

var errLockLost = errors.New("another server has taken over")

// storage is a Shared for the library.
type storage struct {
	Shared
	owner string // of locks
}

// Store implements certmagic.Storage.
func (s *storage) Store(ctx context.Context, name string, data []byte) error {
	return s.Save(ctx, name, data)
}

// Load implements certmagic.Storage.
func (s *storage) Load(ctx context.Context, name string) ([]byte, error) {
	data, _, err := s.Shared.Load(ctx, name)
	return data, err
}

// Delete implements certmagic.Storage.
func (s *storage) Delete(ctx context.Context, name string) error {
	below, err := s.List(ctx, name, true)
	if err != nil {
		return err
	}
	return s.Remove(ctx, append(below, name)...)
}

// Exists implements certmagic.Storage.
func (s *storage) Exists(ctx context.Context, name string) bool {
	_, err := s.Stat(ctx, name)
	return err == nil
}

// List implements certmagic.Storage.
func (s *storage) List(ctx context.Context, dir string, recursive bool) ([]string, error) {
	names, err := s.Names(ctx)
	if err != nil {
		return nil, err
	}
	var list []string
	seen := map[string]bool{}
	for _, name := range names {
		rest, ok := strings.CutPrefix(name, dir+"/")
		if !ok {
			continue
		}
		if first, _, deeper := strings.Cut(rest, "/"); deeper && !recursive {
			name = path.Join(dir, first)
		}
		if !seen[name] {
			seen[name] = true
			list = append(list, name)
		}
	}
	return list, nil
}

// Stat implements certmagic.Storage.
func (s *storage) Stat(ctx context.Context, name string) (certmagic.KeyInfo, error) {
	data, modified, err := s.Shared.Load(ctx, name)
	if err == nil {
		return certmagic.KeyInfo{Key: name, Modified: modified, Size: int64(len(data)), IsTerminal: true}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return certmagic.KeyInfo{}, err
	}
	below, err := s.List(ctx, name, false)
	if err == nil && len(below) == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return certmagic.KeyInfo{}, err
	}
	return certmagic.KeyInfo{Key: name}, nil
}

// Lock implements certmagic.Locker.
func (s *storage) Lock(ctx context.Context, name string) error {
	for {
		if got, err := s.Shared.Lock(ctx, name, s.owner, lockLease); got || err != nil {
			return err
		}
		select {
		case <-time.After(lockTry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Unlock implements certmagic.Locker.
func (s *storage) Unlock(ctx context.Context, name string) error {
	return s.Shared.Unlock(ctx, name, s.owner)
}

// RenewLockLease implements certmagic.LockLeaseRenewer. Where the lock has gone to another he is let finish first.
func (s *storage) RenewLockLease(ctx context.Context, name string, lease time.Duration) error {
	got, err := s.Shared.Lock(ctx, name, s.owner, max(lockLease, min(lease, maxLease)))
	if err == nil && !got {
		return errLockLost
	}
	return err
}

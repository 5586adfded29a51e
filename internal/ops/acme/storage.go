package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"livego/internal/domain"
)

const (
	// lockRetryInterval is the interval between attempts to acquire a lock.
	lockRetryInterval = 500 * time.Millisecond
	// lockLease is how long the lock of a server that died blocks the others: one attempt, and a
	// margin for slow storage.
	lockLease = obtainTimeout + 30*time.Second
	// maxLease bounds how long a lock is held during the pause between two attempts, which grows to
	// hours.
	maxLease = 30 * time.Minute
)

var errLockLost = errors.New("another server holds the lock")

// storage implements certmagic.Storage over files that several servers share. The library stores a certificate as three
// files; storage writes them at once. When slow storage lets two servers hold the lock, separate
// writes could combine the key of one with the certificate of the other: the pair would not work,
// and the library would not replace it.
type storage struct {
	domain.SharedFiles
	owner string // of locks

	mu      sync.Mutex
	pending map[string]map[string][]byte // key and certificate by stem, while the third file is missing
	// lost are pending files that could not be written: files of these names belong to another server.
	lost map[string]bool
}

// parseCertificateFile returns the common prefix of the names of one certificate's files, and the
// extension; false for any other file.
func parseCertificateFile(name string) (stem, ext string, ok bool) {
	ext = path.Ext(name)
	stem = strings.TrimSuffix(name, ext)
	return stem, ext, strings.HasPrefix(name, certificatePrefix) && (ext == keyExt || ext == certExt || ext == metaExt)
}

const (
	certificatePrefix = "certificates/"
	keyExt            = ".key"
	certExt           = ".crt"
	metaExt           = ".json" // the last one that the library stores
)

// Store implements certmagic.Storage.
func (s *storage) Store(ctx context.Context, name string, data []byte) error {
	stem, ext, ok := parseCertificateFile(name)
	if !ok {
		return s.Save(ctx, map[string][]byte{name: data})
	}
	if ext != metaExt {
		s.addPending(stem, name, data)
		return nil
	}
	files := s.removePending(stem)
	if len(files) > 0 {
		if _, err := tls.X509KeyPair(files[stem+certExt], files[stem+keyExt]); err != nil {
			s.markLost(files)
			return fmt.Errorf("certificate does not match its key: %w", err)
		}
	}
	files[name] = data
	err := s.Save(ctx, files)
	if err != nil {
		s.markLost(files)
	}
	return err
}

// addPending keeps a file until the other files of its certificate have been stored.
func (s *storage) addPending(stem, name string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending[stem] == nil {
		s.pending[stem] = map[string][]byte{}
	}
	s.pending[stem][name] = data
	delete(s.lost, name)
}

// removePending removes and returns the pending files of a certificate. The caller owns the map.
func (s *storage) removePending(stem string) map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := s.pending[stem]
	delete(s.pending, stem)
	if files == nil {
		files = map[string][]byte{}
	}
	return files
}

// markLost records files that were not written: the library then deletes the key and certificate
// that it assumes are stored.
func (s *storage) markLost(files map[string][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range files {
		if path.Ext(name) != metaExt {
			s.lost[name] = true
		}
	}
}

// clearLost reports whether name was never written, and forgets it.
func (s *storage) clearLost(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := s.lost[name]
	delete(s.lost, name)
	return lost
}

// Load implements certmagic.Storage.
func (s *storage) Load(ctx context.Context, name string) ([]byte, error) {
	data, _, err := s.SharedFiles.Load(ctx, name)
	return data, err
}

// Delete implements certmagic.Storage.
func (s *storage) Delete(ctx context.Context, name string) error {
	if s.clearLost(name) {
		return nil
	}
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
	data, modified, err := s.SharedFiles.Load(ctx, name)
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

func newStorage(shared domain.SharedFiles, owner string) *storage {
	return &storage{SharedFiles: shared, owner: owner, pending: map[string]map[string][]byte{}, lost: map[string]bool{}}
}

// Lock implements certmagic.Locker.
func (s *storage) Lock(ctx context.Context, name string) error {
	for {
		if got, err := s.SharedFiles.Lock(ctx, name, s.owner, lockLease); got || err != nil {
			return err
		}
		select {
		case <-time.After(lockRetryInterval):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Unlock implements certmagic.Locker.
func (s *storage) Unlock(ctx context.Context, name string) error {
	return s.SharedFiles.Unlock(ctx, name, s.owner)
}

// RenewLockLease implements certmagic.LockLeaseRenewer. When another server has the lock, that
// server finishes first.
func (s *storage) RenewLockLease(ctx context.Context, name string, lease time.Duration) error {
	got, err := s.SharedFiles.Lock(ctx, name, s.owner, max(lockLease, min(lease, maxLease)))
	if err == nil && !got {
		return errLockLost
	}
	return err
}

package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bolterr "go.etcd.io/bbolt/errors"

	"livego/internal/domain"
)

// fileName is the database's name in the data directory.
const fileName = "livego.db"

const (
	// schemaVersion is the version of the layout described at tables. A change needs a migration
	// that keeps a copy.
	schemaVersion = 1
	// lockWait is how long Open waits for a process that is exiting to release the file.
	lockWait = time.Second
)

var (
	metaBucket     = []byte("meta")
	consumedBucket = []byte("spent") // consumed one-time tokens, by end and ID
	keysBucket     = []byte("keys")
	digestsBucket  = []byte("digests")
	roomsBucket    = []byte("rooms")

	versionKey = []byte("version")
	counterKey = []byte("counter")
)

// Open opens the database in dir. It creates dir (mode 0700) and the file (mode 0600) when they are
// absent. A file that is damaged, empty, of a newer version or in use by another process is refused
// with an error that names the file and the fix: a server that started with no keys instead would
// lock its users out.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	path := filepath.Join(dir, fileName)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = create(path)
	} else if err == nil && info.Size() == 0 {
		err = damaged(path, errors.New("the file is empty"))
	}
	if err != nil {
		return nil, err
	}
	return openFile(path)
}

// create makes a new database under a temporary name and then links it to path, so that a crash
// cannot leave an empty file.
func create(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), fileName+".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("create the key store: %w", err)
	}
	_ = f.Close() // nothing was written
	defer func() { _ = os.Remove(f.Name()) }()
	db, err := bbolt.Open(f.Name(), 0o600, &bbolt.Options{Timeout: lockWait})
	if err != nil {
		return fmt.Errorf("create the key store %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{metaBucket, keysBucket, digestsBucket, roomsBucket} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		meta := tx.Bucket(metaBucket)
		return errors.Join(writeUint(meta, versionKey, schemaVersion), writeUint(meta, counterKey, 1))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("create the key store %s: %w", path, err)
	}
	// A link, unlike a rename, never replaces the file of another process that was started at the
	// same time.
	err = os.Link(f.Name(), path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = os.Rename(f.Name(), path) // a file system without links
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create the key store: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the new name in dir durable. Not every system can sync a directory, or needs it, so
// errors are ignored.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	defer d.Close()
	_ = d.Sync()
	return nil
}

// openFile opens an existing file and reads all of it once. bbolt trusts the file that it maps: in
// a truncated or overwritten file it would access invalid memory later.
func openFile(path string) (s *Store, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var db *bbolt.DB
	defer func() {
		if p := recover(); p != nil {
			s, err = nil, damaged(path, fmt.Errorf("%v", p))
		}
		if err != nil && db != nil {
			_ = db.Close() // err is more important
		}
	}()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait})
	switch {
	case errors.Is(err, bolterr.ErrTimeout):
		return nil, fmt.Errorf("key store %s is in use by another process: stop it, or set another data_dir", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("key store: %w", err)
	case err != nil:
		return nil, damaged(path, err)
	}
	if err := check(db, path); err != nil {
		return nil, err
	}
	return &Store{db: db}, nil
}

func check(db *bbolt.DB, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("key store: %w", err)
	}
	return db.View(func(tx *bbolt.Tx) error {
		if info.Size() < tx.Size() {
			return damaged(path, fmt.Errorf("the file is truncated to %d of %d bytes", info.Size(), tx.Size()))
		}
		t := open(tx)
		if t.meta == nil {
			return damaged(path, errors.New("not a livego database"))
		}
		version, err := readUint(t.meta, versionKey)
		if err != nil {
			return damaged(path, err)
		}
		if version > schemaVersion {
			return fmt.Errorf("key store %s has version %d, this livego supports up to %d: run the newer livego, or "+
				"restore the copy made at the upgrade",
				path, version, schemaVersion)
		}
		if err := t.verify(); err != nil {
			return damaged(path, err)
		}
		return nil
	})
}

// verify reports whether every key is in both indexes and each index entry refers to a key, and
// nothing else exists.
func (t tables) verify() error {
	if t.keys == nil || t.digests == nil || t.rooms == nil {
		return errors.New("a table is missing")
	}
	if _, err := readUint(t.meta, counterKey); err != nil {
		return err
	}
	count := 0
	err := t.keys.ForEach(func(id, _ []byte) error {
		count++
		k, err := t.key(id)
		if err != nil {
			return err
		}
		if string(t.digests.Get(k.Digest[:])) != k.ID || string(t.rooms.Get(roomKey(k.Room, k.App, k.Label))) != k.ID {
			return fmt.Errorf("key %s of room %q is not indexed", k.ID, k.Room)
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Each key has its own entry in both, so equal counts mean that there is no other entry.
	for _, index := range []*bbolt.Bucket{t.digests, t.rooms} {
		n := 0
		if err := index.ForEach(func(_, _ []byte) error { n++; return nil }); err != nil {
			return err
		}
		if n != count {
			return fmt.Errorf("%d index entries for %d keys", n, count)
		}
	}
	return nil
}

func damaged(path string, cause error) error {
	return &domain.Error{Op: "key store " + path + " is damaged", Err: fmt.Errorf(
		"%w: restore a copy of it, or move it away to start with no keys", cause)}
}

func readUint(b *bbolt.Bucket, name []byte) (uint64, error) {
	v := b.Get(name)
	if len(v) != 8 {
		return 0, fmt.Errorf("%s is not a number", name)
	}
	return binary.BigEndian.Uint64(v), nil
}

func writeUint(b *bbolt.Bucket, name []byte, v uint64) error {
	return b.Put(name, binary.BigEndian.AppendUint64(nil, v))
}

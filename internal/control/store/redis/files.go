package redis

import (
	"context"
	"errors"
	"io/fs"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

const (
	// maxFile is the largest file, in bytes: a certificate chain has a few thousand.
	maxFile = 256 << 10
	// maxFiles is the largest number of files: a server has four for each certificate, and some for
	// the account.
	maxFiles = 10_000
)

// Files are small files that the servers share, such as certificates, and locks by which one server
// does what the others wait for. They are fields of one hash, encoded by encodeValue.
type Files struct{ s *Store }

// Files returns the files in s.
func (s *Store) Files() Files { return Files{s} }

// A file is the record of one file.
type file struct {
	Modified time.Time `json:"modified"`
	Data     []byte    `json:"data"`
}

// Load returns a file and when it was saved; fs.ErrNotExist when there is none, or a foreign value
// under its name.
func (f Files) Load(ctx context.Context, name string) ([]byte, time.Time, error) {
	var value string
	err := f.s.do(ctx, func(ctx context.Context) (err error) {
		value, err = f.s.client.HGet(ctx, filesName, name).Result()
		if errors.Is(err, goredis.Nil) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	var v file
	if decodeValue(filesName+"/"+name, value, &v) != nil {
		return nil, time.Time{}, fs.ErrNotExist
	}
	return v.Data, v.Modified, nil
}

// Save writes files of at most maxFile bytes each, by their names: all of them, or none.
func (f Files) Save(ctx context.Context, files map[string][]byte) error {
	args := []any{maxFiles}
	for name, data := range files {
		if len(data) > maxFile {
			return errors.New("shared file too large")
		}
		args = append(args, name, encodeValue(filesName+"/"+name, file{time.Now().UTC(), data}))
	}
	if len(files) == 0 {
		return nil
	}
	return f.s.do(ctx, func(ctx context.Context) error {
		done, err := saveFilesScript.Run(ctx, f.s.client, []string{filesName}, args...).Int()
		if err == nil && done == 0 {
			return errForeign
		}
		return err
	})
}

// Remove removes files. Missing files are no error.
func (f Files) Remove(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	return f.s.do(ctx, func(ctx context.Context) error { return f.s.client.HDel(ctx, filesName, names...).Err() })
}

// Names returns the names of all files, in no order.
func (f Files) Names(ctx context.Context) ([]string, error) {
	var names []string
	err := f.s.do(ctx, func(ctx context.Context) (err error) {
		names, err = f.s.client.HKeys(ctx, filesName).Result()
		return err
	})
	return names, err
}

// Lock acquires the lock called name for owner, or extends it, for the time lease; false while
// another owner holds it.
func (f Files) Lock(ctx context.Context, name, owner string, lease time.Duration) (bool, error) {
	var got int
	err := f.s.do(ctx, func(ctx context.Context) (err error) {
		got, err = acquireLockScript.Run(ctx, f.s.client, []string{lockName + name}, owner, lease.Milliseconds()).Int()
		return err
	})
	return got == 1, err
}

// Unlock releases a lock if owner still holds it.
func (f Files) Unlock(ctx context.Context, name, owner string) error {
	return f.s.do(ctx, func(ctx context.Context) error {
		return releaseLockScript.Run(ctx, f.s.client, []string{lockName + name}, owner).Err()
	})
}

// saveFilesScript sets fields of a hash that may have ARGV[1] of them. From ARGV[2] on, each field
// is a name and a value. It returns 0 when the hash is full.
var saveFilesScript = goredis.NewScript(`
local more = 0
for i = 2, #ARGV, 2 do more = more + 1 - redis.call('HEXISTS', KEYS[1], ARGV[i]) end
if more > 0 and redis.call('HLEN', KEYS[1]) + more > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return 1
`)

// acquireLockScript gives the lock to ARGV[1] for ARGV[2] ms, unless another owner holds it.
var acquireLockScript = goredis.NewScript(`
local has = redis.call('GET', KEYS[1])
if has and has ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
`)

// releaseLockScript removes the lock if ARGV[1] holds it.
var releaseLockScript = goredis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
`)

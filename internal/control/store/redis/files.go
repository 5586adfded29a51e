package redis

import (
	"context"
	"errors"
	"io/fs"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"livego/internal/domain"
)

const (
	// maxFile is the largest file, in bytes: a certificate chain has a few thousand.
	maxFile = 256 << 10
	// maxFiles is the largest number of files: a server has four for each certificate, and some for
	// the account.
	maxFiles = 10_000
)

// files implements domain.SharedFiles. They are fields of one hash, encoded by encodeValue.
type files struct{ s *Store }

// Files implements domain.Store.
func (s *Store) Files() domain.SharedFiles { return files{s} }

// A file is the record of one file.
type file struct {
	Modified time.Time `json:"modified"`
	Data     []byte    `json:"data"`
}

// Load implements domain.SharedFiles. A foreign value under the name is no file.
func (f files) Load(ctx context.Context, name string) ([]byte, time.Time, error) {
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

// Save implements domain.SharedFiles, for files of at most maxFile bytes each.
func (f files) Save(ctx context.Context, all map[string][]byte) error {
	args := []any{maxFiles}
	for name, data := range all {
		if len(data) > maxFile {
			return errors.New("shared file too large")
		}
		args = append(args, name, encodeValue(filesName+"/"+name, file{time.Now().UTC(), data}))
	}
	if len(all) == 0 {
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

// Remove implements domain.SharedFiles.
func (f files) Remove(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	return f.s.do(ctx, func(ctx context.Context) error { return f.s.client.HDel(ctx, filesName, names...).Err() })
}

// Names implements domain.SharedFiles.
func (f files) Names(ctx context.Context) ([]string, error) {
	var names []string
	err := f.s.do(ctx, func(ctx context.Context) (err error) {
		names, err = f.s.client.HKeys(ctx, filesName).Result()
		return err
	})
	return names, err
}

// Lock implements domain.SharedFiles.
func (f files) Lock(ctx context.Context, name, owner string, lease time.Duration) (bool, error) {
	var got int
	err := f.s.do(ctx, func(ctx context.Context) (err error) {
		got, err = acquireLockScript.Run(ctx, f.s.client, []string{lockName + name}, owner, lease.Milliseconds()).Int()
		return err
	})
	return got == 1, err
}

// Unlock implements domain.SharedFiles.
func (f files) Unlock(ctx context.Context, name, owner string) error {
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

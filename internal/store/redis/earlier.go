package redis

import (
	"context"
	"fmt"
	"slices"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"livego/internal/live"
)

const (
	// maxEarlier bounds how many values are looked at for keys of the earlier server.
	maxEarlier = 1_000_000
	// maxEarlierName bounds the name of a room of the earlier server, in bytes. That server had no rule for names.
	maxEarlierName = 1024
)

// Earlier returns the keys that an earlier server of this name has left in this Redis, as default keys for every app: plain strings,
// one that leads from a room to its key and one back. Only pairs that confirm each other count; it changes nothing. A room has the
// name that it had, which live.CheckRoom may refuse. The number is how many values looked like half of a pair.
func (s *Store) Earlier(ctx context.Context) (keys []live.Key, halves int, err error) {
	var cursor uint64
	seen := map[string]bool{}
	for looked := 0; ; {
		var names []string
		err := s.do(ctx, func(ctx context.Context) (err error) {
			names, cursor, err = s.client.ScanType(ctx, cursor, "*", page, "string").Result()
			return err
		})
		if err != nil {
			return nil, 0, err
		}
		if looked += len(names); looked > maxEarlier {
			return nil, 0, live.Errorf(live.Limit, "this Redis holds more than %d values", maxEarlier)
		}
		names = slices.DeleteFunc(names, func(n string) bool {
			again := seen[n] // a scan may give a name twice
			seen[n] = true
			return again || n == "" || live.LooksLikeKey(n) || strings.HasPrefix(n, prefix)
		})
		pairs, half, err := s.confirm(ctx, names)
		if err != nil {
			return nil, 0, err
		}
		keys, halves = append(keys, pairs...), halves+half
		if cursor == 0 {
			slices.SortFunc(keys, func(a, b live.Key) int { return strings.Compare(a.Room, b.Room) })
			return keys, halves, nil
		}
	}
}

// confirm returns the keys of those rooms that have one which leads back to them.
func (s *Store) confirm(ctx context.Context, rooms []string) (keys []live.Key, halves int, err error) {
	secrets, err := s.texts(ctx, rooms)
	if err != nil {
		return nil, 0, err
	}
	var from, to []string
	for i, secret := range secrets {
		if live.LooksLikeKey(secret) {
			from, to = append(from, rooms[i]), append(to, secret)
		}
	}
	back, err := s.texts(ctx, to)
	if err != nil {
		return nil, 0, err
	}
	for i, room := range from {
		if back[i] != room {
			halves++
			continue
		}
		keys = append(keys, live.Key{Room: room, Secret: to[i]})
	}
	return keys, halves, nil
}

// texts returns what stands under names; "" for nothing, and for what is no text.
func (s *Store) texts(ctx context.Context, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	values := make([]*goredis.StringCmd, len(names))
	err := s.do(ctx, func(ctx context.Context) error {
		pipe := s.client.Pipeline()
		for i, name := range names {
			values[i] = pipe.GetRange(ctx, name, 0, maxEarlierName)
		}
		if _, err := pipe.Exec(ctx); !isForeign(err) {
			return err
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading what the earlier server left: %w", err)
	}
	texts := make([]string, len(names))
	for i, v := range values {
		if v.Err() == nil {
			texts[i] = v.Val()
		}
	}
	return texts, nil
}

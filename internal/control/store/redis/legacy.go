package redis

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"livego/internal/domain"
)

const (
	// maxLegacyValues bounds the values that are scanned for keys of the legacy server.
	maxLegacyValues = 1_000_000
	// maxLegacyName is the longest room name of the legacy server, in bytes. That server had no
	// rule for names.
	maxLegacyName = 1024
)

// LegacyKeys returns the keys that the legacy livego has left in this Redis, as default keys for
// every app. They are plain strings: one maps a room to its key, another maps the key to its room.
// Only pairs that confirm each other count; Redis is not changed. The rooms keep their names, which
// domain.CheckRoom may refuse. halves is the number of values that look like half of a pair.
func (s *Store) LegacyKeys(ctx context.Context) (keys []domain.Key, halves int, err error) {
	var cursor uint64
	seen := map[string]bool{}
	for scanned := 0; ; {
		var names []string
		err := s.do(ctx, func(ctx context.Context) (err error) {
			names, cursor, err = s.client.ScanType(ctx, cursor, "*", roomsPerBatch, "string").Result()
			return err
		})
		if err != nil {
			return nil, 0, err
		}
		if scanned += len(names); scanned > maxLegacyValues {
			return nil, 0, domain.Errorf(domain.Limit, "this Redis has more than %d values", maxLegacyValues)
		}
		names = slices.DeleteFunc(names, func(n string) bool {
			again := seen[n] // a scan may return a name twice
			seen[n] = true
			return again || n == "" || domain.LooksLikeKey(n) || strings.HasPrefix(n, prefix)
		})
		pairs, half, err := s.matchPairs(ctx, names)
		if err != nil {
			return nil, 0, err
		}
		keys, halves = append(keys, pairs...), halves+half
		if cursor == 0 {
			slices.SortFunc(keys, func(a, b domain.Key) int { return strings.Compare(a.Room, b.Room) })
			return keys, halves, nil
		}
	}
}

// matchPairs returns the keys of those rooms whose key maps back to the room.
func (s *Store) matchPairs(ctx context.Context, rooms []string) (keys []domain.Key, halves int, err error) {
	secrets, err := s.readTexts(ctx, rooms)
	if err != nil {
		return nil, 0, err
	}
	var from, to []string
	for i, secret := range secrets {
		if domain.LooksLikeKey(secret) {
			from, to = append(from, rooms[i]), append(to, secret)
		}
	}
	back, err := s.readTexts(ctx, to)
	if err != nil {
		return nil, 0, err
	}
	for i, room := range from {
		if back[i] != room {
			halves++
			continue
		}
		keys = append(keys, domain.Key{Room: room, Secret: to[i]})
	}
	return keys, halves, nil
}

// readTexts returns the strings under names; "" for missing values and other types.
func (s *Store) readTexts(ctx context.Context, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	values, err := s.readValues(ctx, len(names), func(i int) (string, int64) { return names[i], maxLegacyName })
	if err != nil {
		return nil, fmt.Errorf("read keys of the legacy server: %w", err)
	}
	texts := make([]string, len(names))
	for i, v := range values {
		if v.Err() == nil {
			texts[i] = v.Val()
		}
	}
	return texts, nil
}

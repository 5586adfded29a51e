package redis

import (
	"fmt"
	"strings"
	"testing"

	"livego/internal/domain"
)

func TestLegacyKeys(t *testing.T) {
	r := startRedis(t)
	pair := func(room, key string) { r.do("SET", room, key); r.do("SET", key, room) }
	a, b := domain.NewSecret(), domain.NewSecret()
	pair("movie", a)
	pair("other", b)
	r.do("SET", "half", domain.NewSecret())
	r.do("SET", domain.NewSecret(), "half-too")
	r.do("SET", "stolen", a) // maps to the key of another room
	bad, unicode, long := domain.NewSecret(), domain.NewSecret(), domain.NewSecret()
	pair("../bad", bad)
	pair("a room é", unicode)
	pair(strings.Repeat("x", 500), long)
	pair(strings.Repeat("y", 2000), domain.NewSecret()) // longer than any that is read
	pair("short", "k")
	r.do("SET", "session:1", "x")
	r.do("HSET", "hash", "a", "b")
	r.do("SET", "big", strings.Repeat("x", 1<<20))
	for i := range 1200 {
		r.do("SET", fmt.Sprint("noise", i), "x")
	}
	s := open(t, r.addr)
	mustGet(t, s, "new") // a room of this server is not reported as a legacy one
	keys, halves, err := s.LegacyKeys(t.Context())
	if err != nil || len(keys) != 5 || halves != 3 {
		t.Fatalf("%d keys and %d halves, %v; want 5 and 3", len(keys), halves, err)
	}
	for i, want := range []domain.Key{
		{Room: "../bad", Secret: bad}, {Room: "a room é", Secret: unicode}, {Room: "movie", Secret: a},
		{Room: "other", Secret: b},
		{Room: strings.Repeat("x", 500), Secret: long},
	} {
		if keys[i] != want {
			t.Errorf("key %d is %+v, want %+v", i, keys[i], want)
		}
		if domain.CheckRoom(want.Room) != nil {
			continue
		}
		if k, err := s.Add(t.Context(), keys[i]); err != nil || k.Secret != want.Secret {
			t.Errorf("Add next to the legacy values: %v", err)
		}
		if k, err := s.Resolve(t.Context(), "live", want.Secret); err != nil || k.Room != want.Room {
			t.Errorf("Resolve: %v, %v", k.Room, err)
		}
	}
}

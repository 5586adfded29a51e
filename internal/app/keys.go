package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"livego/internal/control/auth"
	"livego/internal/control/store/redis"
	"livego/internal/domain"
	"livego/internal/ops/config"
	"livego/internal/ops/redisurl"
)

// AdminTokenFile is the name of the file in the data directory that holds the admin token.
const AdminTokenFile = auth.AdminTokenFile

// Keys are the keys of a store that no server of this process holds.
type Keys interface {
	domain.KeyStore
	Close() error
}

// OpenKeys opens the store of cfg by itself. A file that a server holds is refused after a second.
func OpenKeys(cfg config.Config) (Keys, error) {
	return openStore(cfg, slog.New(slog.DiscardHandler))
}

// LegacyKeys returns the keys that an earlier server of this name left in the Redis at addr, and
// how many values there looked like half of one. A room has the name that it had, which may be
// refused now.
func LegacyKeys(ctx context.Context, cfg config.Config, addr string) ([]domain.Key, int, error) {
	a, err := redisurl.Parse(addr, cfg.RedisPwd)
	if err != nil {
		return nil, 0, fmt.Errorf("the address of the Redis %w", err)
	}
	s := redis.Open(redis.Options{Address: a, NoVerify: !cfg.EnableTLSVerify, Log: slog.New(slog.DiscardHandler)})
	keys, halves, err := s.LegacyKeys(ctx)
	return keys, halves, errors.Join(err, s.Close())
}

package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"livego/internal/control/keys"
	"livego/internal/control/store/redis"
	"livego/internal/domain"
	"livego/internal/ops/config"
	"livego/internal/ops/redisurl"
)

// Keys is a key store that this command opened itself, without a server.
type Keys struct {
	domain.KeyStore
	store domain.Store
}

// Close closes the store.
func (k Keys) Close() error { return k.store.Close() }

// OpenKeyStore opens the key store of cfg. It returns an error after a second if a server has the file
// open.
func OpenKeyStore(cfg config.Config) (Keys, error) {
	store, err := openStore(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return Keys{}, err
	}
	return Keys{keys.New(store), store}, nil
}

// LegacyKeys returns the keys that an earlier server of this name left in the Redis at addr, and
// the number of entries without a counterpart. A room keeps its name, which may no longer be valid.
func LegacyKeys(ctx context.Context, cfg config.Config, addr string) ([]domain.Key, int, error) {
	a, err := redisurl.Parse(addr, cfg.RedisPwd)
	if err != nil {
		return nil, 0, fmt.Errorf("the Redis address %w", err)
	}
	s := redis.Open(redis.Options{Address: a, NoVerify: !cfg.EnableTLSVerify, Log: slog.New(slog.DiscardHandler)})
	legacy, halves, err := s.LegacyKeys(ctx)
	return legacy, halves, errors.Join(err, s.Close())
}

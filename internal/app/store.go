package app

import (
	"fmt"
	"log/slog"

	"livego/internal/control/store/bolt"
	"livego/internal/control/store/redis"
	"livego/internal/domain"
	"livego/internal/ops/config"
	"livego/internal/ops/redisurl"
)

// openStore opens the store of cfg: a file in the data directory, or a Redis, which may be
// unavailable for now.
func openStore(cfg config.Config, log *slog.Logger) (domain.Store, error) {
	if cfg.RedisAddr == "" {
		s, err := bolt.Open(cfg.DataDir)
		if err != nil {
			return nil, err // not s: a nil pointer in the interface is not nil
		}
		return s, nil
	}
	addr, err := redisurl.Parse(cfg.RedisAddr, cfg.RedisPwd)
	if err != nil {
		return nil, fmt.Errorf("redis_addr: %w", err)
	}
	log.Info("keys are stored in Redis", "where", addr.String())
	return redis.Open(redis.Options{Address: addr, NoVerify: !cfg.EnableTLSVerify, Cache: cfg.RedisCache, Log: log}), nil
}

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"livego/internal/auth"
	"livego/internal/live"
)

type tokenCmd struct {
	Play    tokenPlayCmd     `cmd:"" help:"Make a token to watch a stream."`
	Publish tokenPublishCmd  `cmd:"" help:"Make a token to publish a stream, whose room must have a key."`
	Manage  tokenOperatorCmd `cmd:"" help:"Make a token for the operator's HTTP, by jwt.secret."`
}

type tokenPlayCmd struct{ tokenStream }

// Run prints the token and nothing else.
func (c tokenPlayCmd) Run(e *env) error { return c.print(e, live.Play) }

type tokenPublishCmd struct{ tokenStream }

// Run prints the token and nothing else.
func (c tokenPublishCmd) Run(e *env) error { return c.print(e, live.Publish) }

// tokenStream makes tokens by token.secret.
type tokenStream struct {
	Stream  string        `arg:"" help:"The stream, such as live/movie; live/* is every room of an app."`
	For     time.Duration `default:"1h" help:"How long it is good. [1h]" placeholder:"DURATION"`
	IP      string        `help:"The only address that it is good from."`
	Viewers int           `help:"How many may watch with it at a time."`
	Signed  bool          `help:"A token for a signed URL, shorter than a JWT."`
}

func (c tokenStream) print(e *env, action live.Action) error {
	cfg, err := e.load()
	if err != nil {
		return err
	}
	claims, err := c.claims(action, time.Now(), cfg.Token.MaxAge)
	if err == nil && cfg.Token.Secret == "" {
		err = errors.New("token.secret is not set: put one of at least 16 characters into the settings")
	}
	if err != nil {
		return &failure{exitUsage, err}
	}
	token := auth.Sign(cfg.Token.Secret, claims)
	if !c.Signed {
		if token, err = auth.SignJWT(cfg.Token.Secret, claims); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(e.stdout, token)
	return err
}

func (c tokenStream) claims(action live.Action, now time.Time, most time.Duration) (auth.Claims, error) {
	app, room, err := splitStream(c.Stream)
	if err != nil {
		return auth.Claims{}, err
	}
	claims := auth.Claims{Action: action, App: app, Room: room, Issued: now, Expires: now.Add(c.For), Viewers: c.Viewers}
	switch {
	case c.For < time.Second || c.For > most:
		return auth.Claims{}, fmt.Errorf("--for must be from 1s to token.max_age (%v)", most)
	case c.Viewers < 0 || c.Viewers > 0 && action == live.Publish:
		return auth.Claims{}, errors.New("--viewers is a number of viewers")
	case c.Signed && (room == "*" || c.Viewers > 0):
		return auth.Claims{}, errors.New("a signed URL is for one stream, and cannot say how many may watch: leave --signed out")
	}
	if c.IP != "" {
		ip, err := netip.ParseAddr(c.IP)
		if err != nil {
			return auth.Claims{}, errors.New("--ip must be an address")
		}
		claims.IP = ip.Unmap()
	}
	return claims, nil
}

// splitStream returns the parts of app/room, where room may be *.
func splitStream(stream string) (app, room string, err error) {
	app, room, ok := strings.Cut(stream, "/")
	if !ok {
		return "", "", errors.New("name the stream as app/room, such as live/movie")
	}
	if err := live.CheckApp(app); err != nil {
		return "", "", reason(err)
	}
	if err := live.CheckRoom(room); room != "*" && err != nil {
		return "", "", reason(err)
	}
	return app, room, nil
}

type tokenOperatorCmd struct {
	Role string        `enum:"read,operate,admin" default:"read" help:"read, operate or admin. [read]"`
	For  time.Duration `default:"1h" help:"How long it is good. [1h]" placeholder:"DURATION"`
}

// Run prints the token and nothing else.
func (c tokenOperatorCmd) Run(e *env) error {
	cfg, err := e.load()
	if err != nil {
		return err
	}
	if cfg.JWT.Secret == "" {
		return &failure{exitUsage, errors.New("jwt.secret is not set; without it there is the admin token only")}
	}
	if c.For < time.Second {
		return &failure{exitUsage, errors.New("--for must be at least 1s")}
	}
	rights, _ := auth.ParseRights(c.Role) // kong has seen to it
	token, err := auth.SignOperator(cfg.JWT.Secret, cfg.JWT.Algorithm, rights, time.Now().Add(c.For))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, token)
	return err
}

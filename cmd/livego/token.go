package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"livego/internal/control/auth"
	"livego/internal/domain"
)

type tokenCmd struct {
	Play    tokenPlayCmd    `cmd:"" help:"Make a token to watch a stream."`
	Publish tokenPublishCmd `cmd:"" help:"Make a token to publish a stream, whose room must have a key."`
	Manage  tokenManageCmd  `cmd:"" help:"Make a token for the operator's HTTP, by jwt.secret."`
}

type tokenPlayCmd struct{ tokenStream }

// Run prints the token and nothing else.
func (c tokenPlayCmd) Run(e *env) error { return c.print(e, domain.Play) }

type tokenPublishCmd struct{ tokenStream }

// Run prints the token and nothing else.
func (c tokenPublishCmd) Run(e *env) error { return c.print(e, domain.Publish) }

// tokenStream makes tokens by token.secret.
type tokenStream struct {
	Stream  string        `arg:"" help:"The stream, such as live/movie; live/* is every room of an app."`
	For     time.Duration `default:"1h" help:"How long it is good. [1h]" placeholder:"DURATION"`
	IP      *string       `help:"The only address that it is good from."`
	Viewers int           `help:"How many may watch with it at a time."`
	Once    bool          `help:"A token that is good one time."`
	Session time.Duration `help:"How long a session that starts with it may last. [token.session]" placeholder:"DURATION"`
	Signed  bool          `help:"A token for a signed URL, shorter than a JWT."`
}

func (c tokenStream) print(e *env, action domain.Action) error {
	cfg, err := e.load()
	if err != nil {
		return err
	}
	app, room, ok := strings.Cut(c.Stream, "/")
	if !ok {
		return &failure{exitUsage, errors.New("name the stream as app/room, such as live/movie")}
	}
	ip := ""
	if c.IP != nil {
		if ip = *c.IP; ip == "" { // of a script that does not know it: the token would be good from everywhere
			return &failure{exitUsage, errors.New("--ip is empty: name an address, or leave it out")}
		}
	}
	mint := auth.TokenIssuer{Secret: cfg.Token.Secret, MaxAge: cfg.Token.MaxAge}
	token, _, err := mint.Issue(auth.TokenRequest{
		Action: action, App: app, Room: room, Lifetime: c.For, IP: ip, Viewers: c.Viewers, Once: c.Once, Session: c.Session,
		Signed: c.Signed,
	}, time.Now())
	if err != nil {
		return &failure{exitUsage, userError(err)}
	}
	_, err = fmt.Fprintln(e.stdout, token)
	return err
}

type tokenManageCmd struct {
	Role string        `enum:"read,operate,admin" default:"read" help:"read, operate or admin. [read]"`
	For  time.Duration `default:"1h" help:"How long it is good. [1h]" placeholder:"DURATION"`
}

// Run prints the token and nothing else.
func (c tokenManageCmd) Run(e *env) error {
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

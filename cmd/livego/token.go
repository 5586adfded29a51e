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
	Play    tokenPlayCmd    `cmd:"" help:"Make a token for viewers of a stream."`
	Publish tokenPublishCmd `cmd:"" help:"Make a token for a publisher. The room must have a stream key."`
	Manage  tokenManageCmd  `cmd:"" help:"Make a token for the operator's HTTP with jwt.secret."`
}

type tokenPlayCmd struct{ tokenStream }

// Run prints the token and nothing else.
func (c tokenPlayCmd) Run(e *env) error { return c.print(e, domain.Play) }

type tokenPublishCmd struct{ tokenStream }

// Run prints the token and nothing else.
func (c tokenPublishCmd) Run(e *env) error { return c.print(e, domain.Publish) }

// tokenStream makes tokens with token.secret.
type tokenStream struct {
	Stream  string        `arg:"" help:"The stream, such as live/movie; live/* is every room of an app."`
	For     time.Duration `default:"1h" help:"Lifetime of the token. [1h]" placeholder:"DURATION"`
	IP      *string       `help:"The only address that the token is valid from."`
	Viewers int           `help:"Maximum number of viewers at a time."`
	Once    bool          `help:"Make a token that is valid once."`
	Session time.Duration `help:"Maximum duration of a session that starts with the token. [token.session]" placeholder:"DURATION"`
	Signed  bool          `help:"Make a token for a signed URL, which is shorter than a JWT."`
}

func (c tokenStream) print(e *env, action domain.Action) error {
	cfg, err := e.load()
	if err != nil {
		return err
	}
	app, room, ok := strings.Cut(c.Stream, "/")
	if !ok {
		return &failure{exitUsage, errors.New("the stream must be app/room, such as live/movie")}
	}
	ip := ""
	if c.IP != nil {
		if ip = *c.IP; ip == "" { // a script passed an unknown address: the token would be valid from everywhere
			return &failure{exitUsage, errors.New("--ip is empty: set an address, or remove the flag")}
		}
	}
	issuer := auth.TokenIssuer{Secret: cfg.Token.Secret, MaxAge: cfg.Token.MaxAge}
	token, _, err := issuer.Issue(auth.TokenRequest{
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
	For  time.Duration `default:"1h" help:"Lifetime of the token. [1h]" placeholder:"DURATION"`
}

// Run prints the token and nothing else.
func (c tokenManageCmd) Run(e *env) error {
	cfg, err := e.load()
	if err != nil {
		return err
	}
	if cfg.JWT.Secret == "" {
		return &failure{exitUsage, errors.New("jwt.secret is not set: only the admin token is accepted")}
	}
	if c.For < time.Second {
		return &failure{exitUsage, errors.New("--for must be at least 1s")}
	}
	rights, _ := auth.ParseRights(c.Role) // kong checks the enum
	token, err := auth.SignOperator(cfg.JWT.Secret, cfg.JWT.Algorithm, rights, time.Now().Add(c.For))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, token)
	return err
}

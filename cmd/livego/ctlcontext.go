package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"livego/internal/ops/atomicfile"
)

// contexts is the file of contexts.
type contexts struct {
	Current  string                `json:"current,omitempty"`
	Contexts map[string]ctlContext `json:"contexts"`
}

// A ctlContext is a server that ctl can call by a name.
type ctlContext struct {
	Server string `json:"server"`
	Token  string `json:"token,omitempty"`
	CA     string `json:"ca,omitempty"` // a file
}

// contextsPath returns the path of the file: LIVEGO_CTL_CONTEXTS, or a file in the user's directory
// of settings.
func (e *env) contextsPath() (string, error) {
	if path := e.getenv("LIVEGO_CTL_CONTEXTS"); path != "" {
		return path, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "livego", "contexts.json"), nil
}

// readContexts returns the contexts, none if there is no file.
func (e *env) readContexts() (contexts, error) {
	c := contexts{Contexts: map[string]ctlContext{}}
	path, err := e.contextsPath()
	if err != nil {
		return c, nil //nolint:nilerr // a user without a home directory has no contexts
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	if c.Contexts == nil {
		c.Contexts = map[string]ctlContext{}
	}
	return c, nil
}

// changeContexts changes the file of contexts, which only its owner can read.
func (e *env) changeContexts(change func(*contexts) error) error {
	c, err := e.readContexts()
	if err != nil {
		return err
	}
	if err := change(&c); err != nil {
		return err
	}
	path, err := e.contextsPath()
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(path, append(data, '\n'))
}

type ctlContextCmd struct {
	List   ctlContextListCmd   `cmd:"" help:"List the contexts; * is the current one."`
	Set    ctlContextSetCmd    `cmd:"" help:"Store a server, and its token, under a name: livego ctl context set NAME --server=URL --token-file=FILE."`
	Use    ctlContextUseCmd    `cmd:"" help:"Make a context the current one."`
	Delete ctlContextDeleteCmd `cmd:"" help:"Delete a context."`
}

type ctlContextListCmd struct{}

func (ctlContextListCmd) Run(e *env) error {
	c, err := e.readContexts()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CURRENT\tNAME\tSERVER\tTOKEN")
	for _, name := range slices.Sorted(maps.Keys(c.Contexts)) {
		current, token := "", "no"
		if name == c.Current {
			current = "*"
		}
		if c.Contexts[name].Token != "" {
			token = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", current, printable(name), printable(c.Contexts[name].Server), token)
	}
	return w.Flush()
}

type contextArg struct {
	Name string `arg:"" help:"The name of the context."`
}

type ctlContextSetCmd struct{ contextArg }

func (c ctlContextSetCmd) Run(e *env) error {
	base, err := parseServer(e.ctl.Server)
	if err != nil {
		return &failure{exitUsage, fmt.Errorf("--server: %w", err)}
	}
	added := ctlContext{Server: base, Token: e.ctl.Token}
	if e.ctl.TokenFile != "" {
		if added.Token, err = readToken(e.ctl.TokenFile); err != nil {
			return err
		}
	}
	if e.ctl.CA != "" {
		if added.CA, err = filepath.Abs(e.ctl.CA); err != nil {
			return err
		}
	}
	return e.changeContexts(func(all *contexts) error {
		all.Contexts[c.Name] = added
		if all.Current == "" {
			all.Current = c.Name
		}
		return nil
	})
}

// errNoContext is the error for an unknown name.
func errNoContext(name string) error {
	return &failure{exitUsage, fmt.Errorf("there is no context %q: see livego ctl context list", name)}
}

type ctlContextUseCmd struct {
	Name string `arg:"" optional:"" help:"The name of the context. None: the server with the settings of this machine."`
}

func (c ctlContextUseCmd) Run(e *env) error {
	return e.changeContexts(func(all *contexts) error {
		if _, ok := all.Contexts[c.Name]; !ok && c.Name != "" {
			return errNoContext(c.Name)
		}
		all.Current = c.Name
		return nil
	})
}

type ctlContextDeleteCmd struct{ contextArg }

func (c ctlContextDeleteCmd) Run(e *env) error {
	return e.changeContexts(func(all *contexts) error {
		if _, ok := all.Contexts[c.Name]; !ok {
			return errNoContext(c.Name)
		}
		delete(all.Contexts, c.Name)
		if all.Current == c.Name {
			all.Current = ""
		}
		return nil
	})
}

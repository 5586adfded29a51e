package main

import (
	"fmt"
	"runtime"

	"livego/internal/app"
)

type checkCmd struct{}

// Run loads and validates the settings as the server does.
func (checkCmd) Run(e *env) error {
	cfg, err := e.load()
	if err != nil {
		return err
	}
	for _, d := range cfg.Deprecated { // serve logs them
		fmt.Fprintf(e.stderr, "livego: warning: setting %s is deprecated: use %s\n", d.Old, d.New)
	}
	_, err = fmt.Fprintln(e.stdout, "the settings are valid")
	return err
}

type versionCmd struct{}

func (versionCmd) Run(e *env) error {
	_, err := fmt.Fprintf(e.stdout, "livego %s %s/%s %s\n", app.Version(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	return err
}

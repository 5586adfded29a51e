package main

import (
	"fmt"
	"runtime"

	"livego/internal/app"
)

type checkCmd struct{}

// Run loads the settings as the server would, and starts nothing.
func (checkCmd) Run(e *env) error {
	if _, err := e.load(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(e.stdout, "the settings are good")
	return err
}

type versionCmd struct{}

func (versionCmd) Run(e *env) error {
	_, err := fmt.Fprintf(e.stdout, "livego %s %s/%s %s\n", app.Version(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	return err
}

package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
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
	_, err := fmt.Fprintf(e.stdout, "livego %s %s/%s %s\n", version(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	return err
}

// version tells the build from what the Go tool has put into it: the module's version, or the commit it was built of.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	vcs := map[string]string{}
	for _, s := range info.Settings {
		vcs[s.Key] = s.Value
	}
	parts := []string{info.Main.Version}
	if rev := vcs["vcs.revision"]; rev != "" && !strings.Contains(info.Main.Version, rev[:min(12, len(rev))]) {
		parts = append(parts, rev)
	}
	return strings.Join(parts, " ")
}

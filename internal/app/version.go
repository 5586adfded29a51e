package app

import (
	"runtime/debug"
	"strings"
)

// release is the version of builds for which the Go tool knows none: those of a working copy.
const release = "0.1.0-dev"

// Version returns the version of the module, or else the release and the commit if known.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return release
	}
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return strings.TrimPrefix(v, "v")
	}
	vcs := map[string]string{}
	for _, s := range info.Settings {
		vcs[s.Key] = s.Value
	}
	rev := vcs["vcs.revision"]
	if rev == "" {
		return release
	}
	version := release + "+" + rev[:min(12, len(rev))]
	if vcs["vcs.modified"] == "true" {
		version += ".modified"
	}
	return version
}

package app

import (
	"runtime/debug"
	"strings"
)

// release is the version that this source leads to. It stands for a build of which the Go tool does
// not know a version: one of a working copy, not of a tagged module.
const release = "0.1.0-dev"

// Version returns what was built: the version of the module, else the release with the commit, where that is known.
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

package app

import (
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	rev := debug.BuildSetting{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"}
	for _, c := range []struct {
		main     string
		settings []debug.BuildSetting
		want     string
	}{
		{"v1.2.3", nil, "1.2.3"},
		{"v1.2.3", []debug.BuildSetting{rev}, "1.2.3"},
		{"(devel)", nil, release},
		{"", nil, release},
		{"(devel)", []debug.BuildSetting{rev}, release + "+0123456789ab"},
		{"(devel)", []debug.BuildSetting{rev, {Key: "vcs.modified", Value: "true"}}, release + "+0123456789ab.modified"},
		{"", []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}}, release + "+abc"},
	} {
		if got := versionOf(&debug.BuildInfo{Main: debug.Module{Version: c.main}, Settings: c.settings}); got != c.want {
			t.Errorf("%q with %v: %q, want %q", c.main, c.settings, got, c.want)
		}
	}
	if Version() == "" {
		t.Error("no version")
	}
}

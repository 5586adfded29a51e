package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestEverySettingSaysWhenItReloads checks the tags reload and write. A setting that gives access
// must not be writable by the role operate.
func TestEverySettingSaysWhenItReloads(t *testing.T) {
	for _, s := range Settings() {
		if !slices.Contains([]Reload{ReloadLive, ReloadStreams, ReloadConnections, ReloadRestart}, s.Reload) {
			t.Errorf("%s: reload is %q", s.Key, s.Reload)
		}
		if !slices.Contains([]Writer{WriterOperate, WriterAdmin, WriterNone}, s.Writer) {
			t.Errorf("%s: write is %q", s.Key, s.Writer)
		}
		protected := s.Secret || s.Group == "Listeners" || strings.HasPrefix(s.Key, "hook.") || s.Key == "data_dir" ||
			s.Key == "config_file" || strings.HasPrefix(s.Key, "api_") || strings.HasPrefix(s.Key, "jwt.") ||
			slices.Contains([]string{"trusted_proxies", "relay_allow", "rtmp_noauth", "flv_dir"}, s.Key)
		if protected && s.Writer == WriterOperate {
			t.Errorf("the role operate may write %s", s.Key)
		}
	}
}

// loadDir loads the file with text, and the settings of the API in a new data directory.
func loadDir(t *testing.T, text, overrides string, s Sources) (*Loaded, error) {
	t.Helper()
	dir := t.TempDir()
	if overrides != "" {
		if err := os.WriteFile(filepath.Join(dir, overridesFile), []byte(overrides), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s.Flags == nil {
		s.Flags = map[string]string{}
	}
	s.Flags["config_file"], s.Flags["data_dir"] = writeSettings(t, text), dir
	return Load(s)
}

func TestOriginsAndOverrides(t *testing.T) {
	l, err := loadDir(t, "conns_per_ip: 5\nauth_failures: 6\nlevel: warn\nlatency: 3\nplay_wait: 60s\n",
		`{"conns_per_ip":"7","auth_failures":"8","level":"debug","gop_num":"2","play_wait":"60s","relay_max":"9"}`,
		Sources{Flags: map[string]string{"level": "error"}, Env: []string{"LIVEGO_AUTH_FAILURES=4"}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct {
		value  any
		origin Origin
		file   any
	}{
		"conns_per_ip":  {7, FromAPI, 5},
		"auth_failures": {4, FromEnvironment, 6},
		"level":         {"error", FromFlag, "warn"},
		"gop_num":       {2, FromAPI, 3},
		"play_wait":     {"1m", FromAPI, "1m"},
		"relay_max":     {9, FromAPI, 100},
		"takeover":      {"idle", FromDefault, "idle"},
	}
	for _, s := range l.States(l.Config) {
		if w, ok := want[s.Key]; ok && (s.Value != w.value || s.Origin != w.origin || s.File != w.file ||
			s.Differs != (w.value != w.file) || s.Pending) {
			t.Errorf("%+v, want %v", s, w)
		}
	}
	var shadowed []string
	for _, w := range l.Warnings {
		_, rest, _ := strings.Cut(w, ".yaml:")
		shadowed = append(shadowed, strings.Join(strings.SplitN(rest, ":", 3)[:2], ":"))
	}
	if want := []string{"2: auth_failures", "1: conns_per_ip", "4: latency", "3: level"}; !slices.Equal(shadowed, want) {
		t.Errorf("warnings about %q, want %q:\n%s", shadowed, want, strings.Join(l.Warnings, "\n"))
	}
}

func TestInvalidOverrides(t *testing.T) {
	for text, want := range map[string]string{
		`{`:                      "must be a JSON object",
		`null`:                   "must be a JSON object",
		`{"conns_per_ip":1}`:     "settings.json: must be a JSON object",
		`{"conns_per_ip":"-1"}`:  "settings.json: conns_per_ip: must be at least 0, not -1",
		`{"conns_per_iq":"1"}`:   `settings.json: "conns_per_iq": unknown setting (did you mean conns_per_ip?)`,
		`{"latency":"1"}`:        `settings.json: "latency": unknown setting`,
		`{"data_dir":"/x"}`:      "settings.json: data_dir: cannot be set through the API",
		`{"rtmp_addr":":7001"}`:  "httpflv_addr: :7001 is already used by rtmp_addr (:7001)",
		`{"jwt.secret":"short"}`: "",
	} {
		if _, err := loadDir(t, "", text, Sources{}); err == nil != (want == "") ||
			err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestInvalidChanges changes settings of the API to invalid ones.
func TestInvalidChanges(t *testing.T) {
	l, err := loadDir(t, "", `{"relay_max":"9"}`, Sources{})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"conns_per_ip": "conns_per_ip (of the API): must be at least 0, not -1",
		"conns_per_iq": `"conns_per_iq": unknown setting (did you mean conns_per_ip?)`,
		"data_dir":     "data_dir (of the API): cannot be set through the API",
	} {
		if _, err := l.WithChanges(map[string]*string{key: new("-1")}); err == nil || err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
	large, err := l.WithChanges(map[string]*string{"token.issuer": new(strings.Repeat("x", maxFile))})
	if err != nil || large.SaveOverrides() == nil {
		t.Errorf("more settings than a start can read: %v, stored", err)
	}
}

// TestReload changes the file and the API's settings.
func TestReload(t *testing.T) {
	l, err := loadDir(t, "conns_per_ip: 5\n", "", Sources{})
	if err != nil {
		t.Fatal(err)
	}
	path := l.ConfigFile
	if err := os.WriteFile(path, []byte("conns_per_ip: 6\nauth_failures: 6\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	three := "3"
	kept, err := l.WithChanges(map[string]*string{"relay_max": &three})
	if err != nil || kept.ConnsPerIP != 5 || kept.RelayMax != 3 {
		t.Fatalf("with the file as it was read: %v, %v", kept, err)
	}
	if err := kept.SaveOverrides(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(l.DataDir, overridesFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	again, err := l.Reload()
	if err != nil || again.ConnsPerIP != 6 || again.AuthFailures != 6 || again.RelayMax != 3 {
		t.Fatalf("reloaded: %v, %v", again, err)
	}
	if err := os.WriteFile(path, []byte("conns_per_ip: x\nauth_failurez: 6\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Reload(); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("a file with two mistakes: %v", err)
	}
}

func TestChangeTo(t *testing.T) {
	c := Default()
	next := c
	next.Level, next.RTMPAddr, next.APIHosts = "debug", ":1", []string{"a"}
	next.Apps = []App{newApp("other")}
	got, report, err := c.ChangeTo(&Loaded{Config: next})
	if err != nil || !slices.Equal(report.Applied, []string{"level", "api_hosts", "server"}) ||
		!slices.Equal(report.Restart, []string{"rtmp_addr"}) || got.RTMPAddr != c.RTMPAddr || got.Level != "debug" ||
		got.Apps[0].Name != "other" {
		t.Errorf("%+v, %+v, %v", got, report, err)
	}
	// The old listener and the new setting do not fit.
	c.ProxyProtocol, c.TrustedProxies = []string{"rtmp"}, []string{"10.0.0.1"}
	_, _, err = c.ChangeTo(&Loaded{Config: Default()})
	if err == nil || err.Error() != "proxy_protocol: trusted_proxies is not set "+
		"(without a restart, these keep their values: proxy_protocol)" {
		t.Errorf("%v", err)
	}
}

func TestText(t *testing.T) {
	for _, c := range []struct {
		in   any
		want string
		ok   bool
	}{
		{"x", "x", true}, {true, "true", true}, {12.0, "12", true}, {[]any{"a", "b"}, "a,b", true}, {[]any{}, "", true},
		{1.5, "", false}, {[]any{"a,b"}, "", false}, {[]any{1.0}, "", false}, {nil, "", false},
		{map[string]any{}, "", false},
	} {
		if got, err := Text(c.in); got != c.want || (err == nil) != c.ok {
			t.Errorf("%v: %q, %v", c.in, got, err)
		}
	}
	if got := shortDuration(90 * time.Minute); got != "1h30m" {
		t.Error(got)
	}
}

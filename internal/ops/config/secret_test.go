package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// secretFiles are contents of a file with a secret, and the secret or a part of the error.
var secretFiles = []struct{ name, content, want, err string }{
	{"line", "0123456789abcdef\n", "0123456789abcdef", ""},
	{"no line end", "0123456789abcdef", "0123456789abcdef", ""},
	{"Windows line end", "0123456789abcdef\r\n", "0123456789abcdef", ""},
	{"byte-order mark", "\xef\xbb\xbf0123456789abcdef\n", "0123456789abcdef", ""},
	{"spaces belong to it", " 0123456789abcdef \n", " 0123456789abcdef ", ""},
	{"empty", "", "", "is empty"},
	{"only a line end", "\n", "", "is empty"},
	{"two lines", "canary-1\ncanary-2\n", "", "has more than one line"},
	{"UTF-16", "\xff\xfec\x00a\x00", "", "the file is UTF-16: save it as UTF-8"},
	{"NUL", "canary\x00", "", "has more than one line"},
	{"too large", strings.Repeat("canary", maxSecretFile), "", "is larger than 16384 bytes"},
}

// TestSecretFromFile reads a secret from a file that a variable names, and from a systemd
// credential.
func TestSecretFromFile(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range secretFiles {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "jwt.secret")
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			for place, env := range map[string]string{
				"LIVEGO_JWT_SECRET_FILE": "LIVEGO_JWT_SECRET_FILE=" + path,
				path:                     "CREDENTIALS_DIRECTORY=" + dir,
			} {
				got, warnings, err := loadConfig(Sources{Env: []string{env}})
				if len(warnings) > 0 {
					t.Errorf("%s: warnings %q", env, warnings)
				}
				if c.err == "" {
					if err != nil || got.JWT.Secret != c.want {
						t.Errorf("%s: got %q, %v", env, got.JWT.Secret, err)
					}
					continue
				}
				if err == nil || !strings.HasPrefix(err.Error(), place+": ") || !strings.Contains(err.Error(), c.err) ||
					strings.Contains(err.Error(), "canary") {
					t.Errorf("%s: got the error %v, want %q", env, err, c.err)
				}
			}
		})
	}
}

// TestEverySecretFromFile checks that all secret settings, and no others, can be read from a file.
func TestEverySecretFromFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("http://127.0.0.1/0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range fields() {
		l := loader{cfg: Default(), fields: fields(), places: map[string]string{}}
		env, warnings := l.readEnv([]string{f.fileEnv() + "=" + path})
		if known := env[f.Key].text != ""; known != (f.secret != "") || known != (len(warnings) == 0) || len(l.errs) > 0 {
			t.Errorf("%s: read %v, warnings %q, errors %v", f.fileEnv(), known, warnings, l.errs)
		}
	}
}

// TestSecretPrecedence checks the precedence of the sources of a secret.
func TestSecretPrecedence(t *testing.T) {
	t.Chdir(t.TempDir())
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("jwt.secret", "from-a-credential")
	other, yaml := write("other", "from-a-named-file"), write("livego.yaml", "jwt:\n  secret: from-the-settings\n")
	settings, credential := "LIVEGO_CONFIG_FILE="+yaml, "CREDENTIALS_DIRECTORY="+dir
	for _, c := range []struct {
		name  string
		env   []string
		flags map[string]string
		want  string
		err   string
	}{
		{"file of settings", []string{settings}, nil, "from-the-settings", ""},
		{"credential over the file of settings", []string{settings, credential}, nil, "from-a-credential", ""},
		{"named file over credential", []string{credential, "LIVEGO_JWT_SECRET_FILE=" + other}, nil, "from-a-named-file", ""},
		{"variable over credential", []string{credential, "LIVEGO_JWT_SECRET=from-a-variable"}, nil, "from-a-variable", ""},
		{"variable beside a named file", []string{"LIVEGO_JWT_SECRET=canary", "LIVEGO_JWT_SECRET_FILE=" + other}, nil, "",
			"LIVEGO_JWT_SECRET_FILE: LIVEGO_JWT_SECRET is set too: set one of them"},
		{"flag over all", []string{credential}, map[string]string{"jwt.secret": "from-a-flag"}, "from-a-flag", ""},
		{"no name", []string{"LIVEGO_JWT_SECRET_FILE="}, nil, "", ""},
		{"missing file", []string{"LIVEGO_JWT_SECRET_FILE=" + dir + "/none"}, nil, "",
			"LIVEGO_JWT_SECRET_FILE: open " + dir + "/none: no such file or directory"},
		{"directory without ours", []string{"CREDENTIALS_DIRECTORY=" + t.TempDir()}, nil, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _, err := loadConfig(Sources{Env: c.env, Flags: c.flags})
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Errorf("got the error %v, want %s", err, c.err)
				}
				return
			}
			if err != nil || got.JWT.Secret != c.want {
				t.Errorf("got %q, %v; want %q", got.JWT.Secret, err, c.want)
			}
		})
	}
}

// TestSecretInFlag checks that a secret in a flag leads to a warning.
func TestSecretInFlag(t *testing.T) {
	t.Chdir(t.TempDir())
	const text = " is visible to every user of this machine in the list of processes: use "
	for _, c := range []struct {
		flags map[string]string
		want  []string
	}{
		{map[string]string{"jwt.secret": "0123456789abcdef"}, []string{"--jwt.secret" + text + "LIVEGO_JWT_SECRET_FILE"}},
		{map[string]string{"jwt.secret": ""}, nil},
		{map[string]string{"redis_addr": "localhost:6379"}, nil},
		{map[string]string{"redis_addr": "redis://:canary@localhost"},
			[]string{"--redis_addr" + text + "LIVEGO_REDIS_ADDR_FILE"}},
	} {
		_, warnings, err := loadConfig(Sources{Flags: c.flags})
		if err != nil || !slices.Equal(warnings, c.want) {
			t.Errorf("%v: warnings %q, %v; want %q", c.flags, warnings, err, c.want)
		}
	}
}

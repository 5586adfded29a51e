package config

import (
	"slices"
	"strings"
	"testing"
)

// TestWeakSecrets checks that a weak secret is refused if the operator's HTTP is reachable from
// other machines, and that weak and reused secrets lead to a warning.
func TestWeakSecrets(t *testing.T) {
	t.Chdir(t.TempDir())
	const long, other = "a secret of more than sixteen", "another one of more than sixteen"
	for _, c := range []struct {
		name     string
		env      []string
		err      string
		warnings []string // prefixes
	}{
		{"one letter on loopback", []string{"LIVEGO_JWT_SECRET=x"}, "", []string{"jwt.secret: is shorter than 16"}},
		{"one letter on localhost", []string{"LIVEGO_JWT_SECRET=x", "LIVEGO_API_ADDR=localhost:8090"}, "",
			[]string{"jwt.secret: is shorter"}},
		{"one letter on IPv6", []string{"LIVEGO_JWT_SECRET=x", "LIVEGO_API_ADDR=[::1]:8090"}, "",
			[]string{"jwt.secret: is shorter"}},
		{"one letter for everybody", []string{"LIVEGO_JWT_SECRET=x", "LIVEGO_API_ADDR=:8090"},
			"LIVEGO_JWT_SECRET: is shorter than 16", nil},
		{"one letter for a network", []string{"LIVEGO_JWT_SECRET=x", "LIVEGO_API_ADDR=192.168.1.5:8090"},
			"LIVEGO_JWT_SECRET: is shorter", nil},
		{"fifteen letters for everybody", []string{"LIVEGO_JWT_SECRET=123456789012345", "LIVEGO_API_ADDR=0.0.0.0:8090"},
			"LIVEGO_JWT_SECRET: is", nil},
		{"sixteen letters", []string{"LIVEGO_JWT_SECRET=1234567890123456", "LIVEGO_API_ADDR=:8090"}, "", nil},
		{"different", []string{"LIVEGO_JWT_SECRET=" + long, "LIVEGO_TOKEN_SECRET=" + other}, "", nil},
		{"the same", []string{"LIVEGO_JWT_SECRET=" + long, "LIVEGO_TOKEN_SECRET=" + long}, "",
			[]string{"token.secret is the same as jwt.secret"}},
		{"three of one", []string{"LIVEGO_JWT_SECRET=" + long, "LIVEGO_TOKEN_SECRET=" + long, "LIVEGO_HOOK_SECRET=" + long},
			"",
			[]string{"token.secret is the same as jwt.secret", "hook.secret is the same as jwt.secret"}},
		{"none", nil, "", nil},
		{"admin token", []string{"LIVEGO_ADMIN_TOKEN=abcdefghijklmnop"}, "", nil},
		{"short admin token", []string{"LIVEGO_ADMIN_TOKEN=abcdefghijklmno"}, "LIVEGO_ADMIN_TOKEN: must have at least 16",
			nil},
		{"admin token with a space", []string{"LIVEGO_ADMIN_TOKEN=abcdefgh ijklmnop"}, "LIVEGO_ADMIN_TOKEN: must", nil},
		{"admin token of another alphabet", []string{"LIVEGO_ADMIN_TOKEN=ääääääääääääääää"},
			"LIVEGO_ADMIN_TOKEN: must", nil},
	} {
		_, warnings, err := loadConfig(Sources{Env: c.env})
		if (err == nil) != (c.err == "") || err != nil && !strings.HasPrefix(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
		if !slices.EqualFunc(warnings, c.warnings, strings.HasPrefix) {
			t.Errorf("%s: warnings %q, want %q", c.name, warnings, c.warnings)
		}
		for _, text := range append(warnings, errorText(err)) {
			if strings.Contains(text, long) || strings.Contains(text, "abcdefgh") {
				t.Errorf("%s: a secret is shown: %s", c.name, text)
			}
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestAccessSettings checks the settings for access to the operator's HTTP.
func TestAccessSettings(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct{ env, err string }{ // env: one variable a line
		{"LIVEGO_API_ALLOW=192.168.1.0/24, 10.0.0.1, 2001:db8::/32", ""},
		{"LIVEGO_API_ALLOW=192.168.1.0/33", "LIVEGO_API_ALLOW: "},
		{"LIVEGO_API_ALLOW=lan", "LIVEGO_API_ALLOW: "},
		{"LIVEGO_API_ALLOW_USERS=root, 33", ""},
		{"LIVEGO_API_ALLOW_USERS=no-such-user", "LIVEGO_API_ALLOW_USERS: this machine has no user"},
		{"LIVEGO_TRUSTED_PROXIES=10.0.0.1, 2001:db8::/32", ""},
		{"LIVEGO_TRUSTED_PROXIES=proxy", "LIVEGO_TRUSTED_PROXIES: "},
		{"LIVEGO_PROXY_PROTOCOL=rtmp", "LIVEGO_PROXY_PROTOCOL: trusted_proxies is not set"},
		{"LIVEGO_TRUSTED_PROXIES=10.0.0.1\nLIVEGO_PROXY_PROTOCOL=rtmp, rtmps, httpflv, hls, https, api", ""},
		{"LIVEGO_TRUSTED_PROXIES=10.0.0.1\nLIVEGO_PROXY_PROTOCOL=ftp", `LIVEGO_PROXY_PROTOCOL: "ftp" is not one of rtmp`},
		{"LIVEGO_PUBLIC_URL=https://live.example.com", ""},
		{"LIVEGO_PUBLIC_URL=http://[2001:db8::1]:8443/tv", ""},
		{"LIVEGO_PUBLIC_URL=live.example.com", "LIVEGO_PUBLIC_URL: must"},
		{"LIVEGO_PUBLIC_URL=https://", "LIVEGO_PUBLIC_URL: must"},
		{"LIVEGO_PUBLIC_URL=https://:443", "LIVEGO_PUBLIC_URL: must"},
		{"LIVEGO_PUBLIC_URL=https://user@live.example.com", "LIVEGO_PUBLIC_URL: must"},
		{"LIVEGO_PUBLIC_URL=https://live.example.com?x=y", "LIVEGO_PUBLIC_URL: must"},
		{"LIVEGO_PUBLIC_URL=javascript:alert(1)", "LIVEGO_PUBLIC_URL: must"},
		{"LIVEGO_API_SESSION=10s", "LIVEGO_API_SESSION: must be at least 1m"},
	} {
		_, _, err := loadConfig(Sources{Env: strings.Split(c.env, "\n")})
		if (err == nil) != (c.err == "") || err != nil && !strings.HasPrefix(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.env, err, c.err)
		}
	}
	_, _, err := loadConfig(Sources{Env: []string{
		"LIVEGO_API_ALLOW=10.0.0.0/8", "LIVEGO_JWT_SECRET=a secret of the operator",
	}})
	if err == nil || !strings.Contains(err.Error(), "remove one of them") {
		t.Errorf("api_allow beside jwt.secret: %v", err)
	}
}

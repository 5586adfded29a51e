package e2e

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
)

// TestInvalidConfigIsRefused checks the exit code and the message for settings with which livego
// cannot start: one line that names the place.
func TestInvalidConfigIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		file string // livego.yaml
		args []string
		env  []string
		want string
	}{
		{name: "unknown key", file: "level: info\nrtmp_adr: :1935\n", want: `livego\.yaml:2:.*rtmp_adr`},
		{name: "wrong type", file: "rtmp_addr: :1935\n\ngop_num: many\n", want: `livego\.yaml:3:.*gop_num`},
		{name: "bad address", file: "rtmp_addr: somewhere\n", want: `livego\.yaml:1:.*rtmp_addr`},
		{name: "bad syntax", file: "level: [info\n", want: `livego\.yaml:\d+`},
		{name: "bad server entry", file: "server:\n- appname: live\n  hsl: true\n", want: `livego\.yaml:3:.*hsl`},
		{name: "reserved app", file: "server:\n- appname: control\n", want: `livego\.yaml:2:.*appname`},
		{name: "recordings without a directory", file: "flv_archive: true\nflv_dir: ''\n",
			want: `livego\.yaml:2: flv_dir: .*empty`},
		{name: "static push", file: "server:\n- appname: live\n  static_push: [\"http://h/a\"]\n",
			want: `livego\.yaml:3:.*static_push.*entry 1 must be a URL`},
		{name: "redis", file: "redis_addr: redis://a,b\n", want: `livego\.yaml:1: redis_addr: has several hosts`},
		{name: "private without a token", file: "private: [live]\n",
			want: `livego\.yaml:1: private: no token can be verified`},
		{name: "short secret", file: "token:\n  secret: short\n", want: `token\.secret: is shorter`},
		{name: "hook without a secret", file: "hook:\n  events: http://localhost/\n", want: `hook\.secret: must have`},
		{name: "ACME without TLS", file: "acme:\n  domains: [a.example]\n",
			want: `acme\.domains: no listener uses TLS`},
		{name: "environment", env: []string{"LIVEGO_GOP_NUM=many"}, want: `LIVEGO_GOP_NUM`},
		{name: "flag", args: []string{"--rtmp_addr=somewhere"}, want: `--rtmp_addr`},
		{name: "unknown flag", args: []string{"--rtmp_adr=:1935"}, want: `rtmp_adr`},
		{name: "missing file", args: []string{"--config_file=absent.yaml"}, want: `absent\.yaml`},
		{name: "missing certificate", file: "enable_rtmps: true\nrtmps_cert: none.crt\n", want: `rtmps_cert.*none\.crt`},
	} {
		for _, command := range []string{"serve", "check-config"} {
			t.Run(c.name+"/"+command, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				if c.file != "" {
					if err := os.WriteFile(filepath.Join(dir, "livego.yaml"), []byte(c.file), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				args := c.args
				if command == "check-config" {
					args = append([]string{command}, args...)
				}
				p := harness.Livego(t, dir, c.env, args...)
				if code := p.Wait(10 * time.Second); code != 2 {
					t.Errorf("exit code %d, want 2", code)
				}
				if line := strings.TrimSpace(p.Stderr()); strings.Contains(line, "\n") ||
					!regexp.MustCompile(c.want).MatchString(line) {
					t.Errorf("printed %q, want one line that matches %s", line, c.want)
				}
				if _, err := os.Stat(filepath.Join(dir, "livego-data")); err == nil {
					t.Error("the data directory was created")
				}
			})
		}
	}
}

func TestValidConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const file = "level: debug\nread_timeout: 10\nserver:\n- appname: live\n  live: true\n  hls: true\n  flv: true\n  " +
		"api: true\n"
	if err := os.WriteFile(filepath.Join(dir, "livego.yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check-config"}, {"version"}, {"--help"}} {
		p := harness.Livego(t, dir, nil, args...)
		if code := p.Wait(10 * time.Second); code != 0 || p.Stdout()+p.Stderr() == "" {
			t.Errorf("livego %s: exit code %d, printed %q %q", strings.Join(args, " "), code, p.Stdout(), p.Stderr())
		}
	}
}

// TestPortInUseIsNamed checks that the error names the listener whose port is in use.
func TestPortInUseIsNamed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, flag := range []string{"rtmp_addr", "httpflv_addr", "hls_addr", "api_addr"} {
		args := []string{"--data_dir=" + t.TempDir()}
		for _, other := range []string{"rtmp_addr", "httpflv_addr", "hls_addr", "api_addr"} {
			addr := "127.0.0.1:0"
			if other == flag {
				addr = l.Addr().String()
			}
			args = append(args, "--"+other+"="+addr)
		}
		p := harness.Livego(t, t.TempDir(), nil, args...)
		if code := p.Wait(10 * time.Second); code != 1 {
			t.Errorf("%s in use: exit code %d, want 1:\n%s", flag, code, p.Stderr())
		}
		if printed := p.Stderr(); !strings.Contains(printed, l.Addr().String()) || !strings.Contains(printed, flag) {
			t.Errorf("%s in use: printed %q, want flag and address", flag, printed)
		}
	}
}

// TestStoreInUseStopsSecondServer checks that a second server on the same data directory exits at
// once, and names the directory.
func TestStoreInUseStopsSecondServer(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{NoRace: true})
	second := harness.Start(t, harness.Options{NoRace: true, DataDir: s.DataDir, NoWait: true})
	if code := second.WaitExit(10 * time.Second); code != 1 || !strings.Contains(second.Stderr(), s.DataDir) {
		t.Errorf("exit code %d, printed %q, want 1 and the directory", code, second.Stderr())
	}
}

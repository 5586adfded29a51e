package config

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const freeSpaceValues = "a percentage below 100 such as 2%, or a size such as 5GiB, at least 1MiB"

// yamlCases are settings files with the settings they change, or the errors without the path. They
// are also seeds of the fuzz test.
var yamlCases = []struct {
	name string
	file string
	set  func(*Config)
	errs []string
}{
	{"empty", "", nil, nil},
	{"comment", "# rtmp_addr: :1\n", nil, nil},
	{"one", "rtmp_addr: :1940\n", func(c *Config) { c.RTMPAddr = ":1940" }, nil},
	{"all types", "rtmp_addr: '0.0.0.0:1940'\nrtmp_noauth: true\ngop_num: 2\nread_timeout: 15s\nmax_message: " +
		"16MiB\napi_hosts: [a.example, b.example]\nbatch_window: 50ms\n",
		func(c *Config) {
			c.RTMPAddr, c.RTMPNoAuth, c.GopNum, c.ReadTimeout, c.MaxMessage = "0.0.0.0:1940", true, 2, 15*time.Second, 16<<20
			c.APIHosts, c.BatchWindow = []string{"a.example", "b.example"}, BatchWindow{Fixed: 50 * time.Millisecond}
		}, nil},
	{"seconds and bytes", "read_timeout: 15\nmax_message: 70000\nbatch_window: 0\n",
		func(c *Config) { c.ReadTimeout, c.MaxMessage, c.BatchWindow = 15*time.Second, 70000, BatchWindow{} }, nil},
	{"recordings", "record_keep: 30d\nrecord_keep_size: 500GiB\nrecord_min_free: 1.5%\n", func(c *Config) {
		c.RecordKeep, c.RecordKeepSize, c.RecordMinFree = 720*time.Hour, 500<<30, FreeSpace{Percent: 1.5}
	}, nil},
	{"free space as a size", "record_min_free: 5GiB\n",
		func(c *Config) { c.RecordMinFree = FreeSpace{Size: 5 << 30} }, nil},
	{"no free space", "record_min_free: 0\n", func(c *Config) { c.RecordMinFree = FreeSpace{} }, nil},
	{"free space without a unit", "record_min_free: 5\n", nil, []string{`1: record_min_free: must be ` + freeSpaceValues +
		`, not "5"`}},
	{"free space above the disk", "record_min_free: 100%\n", nil, []string{`1: record_min_free: must be ` +
		freeSpaceValues + `, not "100%"`}},
	{"free space that is no number", "record_min_free: NaN%\n", nil, []string{`1: record_min_free: must be ` +
		freeSpaceValues + `, not "NaN%"`}},
	{"negative days", "record_keep: -1d\n", nil, []string{
		`1: record_keep: must be a duration such as 10s or 500ms, not "-1d"`}},
	{"block", "jwt:\n  secret: sixteen-letters-\n  algorithm: HS512\n",
		func(c *Config) { c.JWT.Secret, c.JWT.Algorithm = "sixteen-letters-", "HS512" }, nil},
	{"empty block", "jwt:\n  # secret: x\nlevel: debug\n", func(c *Config) { c.Level = "debug" }, nil},
	{"earlier server's", `
level: debug
rtmp_noauth: false
rtmp_addr: ":1940"
read_timeout: 10
write_timeout: 10
gop_num: 1
hls_keep_after_end: true
enable_tls_verify: true
flv_archive: false
flv_dir: "./tmp"
redis_addr: ""
redis_pwd: ""
jwt:
  secret: ""
  algorithm: HS256
server:
- appname: live
  live: true
  hls: true
  api: true
  flv: true
`, func(c *Config) { c.Level, c.RTMPAddr, c.HLSKeepAfterEnd, c.FLVDir = "debug", ":1940", true, "./tmp" }, nil},
	{"apps", "server:\n- appname: live\n- appname: vod\n  hls: false\n  static_push: []\n",
		func(c *Config) { vod := newApp("vod"); vod.HLS = false; c.Apps = append(c.Apps, vod) }, nil},
	{"any gop_num", "gop_num: 1000000\n", func(c *Config) { c.GopNum = 1000000 }, nil},
	{"same port 0", "rtmp_addr: :0\nhls_addr: :0\n", func(c *Config) { c.RTMPAddr, c.HLSAddr = ":0", ":0" }, nil},
	{"same port, other host", "rtmp_addr: 127.0.0.1:1\nhls_addr: 127.0.0.2:1\n",
		func(c *Config) { c.RTMPAddr, c.HLSAddr = "127.0.0.1:1", "127.0.0.2:1" }, nil},

	{"unknown key", "level: info\n\nrtmp_adr: :1\n", nil, []string{"3: rtmp_adr: unknown key (did you mean rtmp_addr?)"}},
	{"unknown key, nothing near", "colour: blue\n", nil, []string{"1: colour: unknown key"}},
	{"unknown key in a block", "jwt:\n  secrets: x\n", nil,
		[]string{"2: jwt.secrets: unknown key (did you mean secret?)"}},
	{"unknown key of an app", "server:\n- appname: live\n  hsl: true\n", nil,
		[]string{"3: server[0].hsl: unknown key (did you mean hls?)"}},
	{"dotted key", "jwt.secret: x\n", nil, []string{"1: jwt.secret: unknown key"}},
	{"twice", "level: info\nlevel: debug\n", nil, []string{"2: level: duplicate key: first in line 1"}},
	{"text for a number", "gop_num: '1'\n", nil, []string{"1: gop_num: must be a whole number"}},
	{"text for a bool", "rtmp_noauth: yes\n", nil, []string{"1: rtmp_noauth: must be true or false"}},
	{"number for a text", "flv_dir: 1\n", nil, []string{"1: flv_dir: must be a text: put it in quotes"}},
	{"float", "read_timeout: 1.5\n", nil, []string{"1: read_timeout: must be a duration such as 10s or 500ms"}},
	{"bad duration", "read_timeout: soon\n", nil,
		[]string{`1: read_timeout: must be a duration such as 10s or 500ms, not "soon"`}},
	{"short duration", "read_timeout: 10ms\n", nil, []string{"1: read_timeout: must be at least 1s, not 10ms"}},
	{"long duration", "publish_hold: 1h\n", nil, []string{"1: publish_hold: must be at most 2m, not 1h"}},
	{"negative", "gop_num: -1\n", nil, []string{"1: gop_num: must be at least 0, not -1"}},
	{"batching window too long", "batch_window: 1s\n", nil, []string{"1: batch_window: must be at most 200ms, not 1s"}},
	{"batching window negative", "batch_window: -1ms\n", nil,
		[]string{"1: batch_window: must not be negative, not -1ms"}},
	{"deprecated key", "gather: 50ms\n", func(c *Config) {
		c.BatchWindow = BatchWindow{Fixed: 50 * time.Millisecond}
		c.Deprecated = []DeprecatedName{{Old: "gather", New: "batch_window"}}
	}, nil},
	{"deprecated key with a word", "latency: live-edge\n", func(c *Config) {
		c.GopNum, c.Deprecated = 0, []DeprecatedName{{Old: "latency", New: "gop_num"}}
	}, nil},
	{"deprecated key, bad value", "gather: 1s\n", nil, []string{"1: gather: must be at most 200ms, not 1s"}},
	{"deprecated and current key", "batch_window: 1ms\ngather: 1ms\n", nil,
		[]string{"2: gather: deprecated name of batch_window, which is set too: remove gather"}},
	{"huge size", "max_message: 999999999999GiB\n", nil,
		[]string{`1: max_message: must be a size such as 8MiB, not "999999999999GiB"`}},
	{"not one of", "takeover: maybe\n", nil, []string{`1: takeover: must be idle, always or never, not "maybe"`}},
	{"no value", "rtmp_addr:\n", nil, []string{"1: rtmp_addr: has no value"}},
	{"empty dir", "data_dir: ''\n", nil, []string{"1: data_dir: must not be empty"}},
	{"list for a text", "rtmp_addr: [':1']\n", nil, []string{"1: rtmp_addr: must be a text: put it in quotes"}},
	{"block for a text", "rtmp_addr:\n  x: 1\n", nil, []string{"1: rtmp_addr: must be a text: put it in quotes"}},
	{"text for a block", "jwt: x\n", nil, []string{"1: jwt: must have lines of the form key: value"}},
	{"alias", "level: &a info\ntakeover: *a\n", nil,
		[]string{"1: level: must be a text: put it in quotes", "2: takeover: must be a text: put it in quotes"}},
	{"list as file", "- a\n", nil, []string{"1: must have lines of the form key: value"}},
	{"two documents", "level: info\n---\nlevel: debug\n", nil,
		[]string{"3: only one YAML document is allowed"}},
	{"no port", "rtmp_addr: localhost\n", nil,
		[]string{`1: rtmp_addr: invalid address "localhost": must be host:port or :port`}},
	{"port too large", "rtmp_addr: :70000\n", nil,
		[]string{`1: rtmp_addr: invalid address ":70000": port must be from 0 to 65535`}},
	{"same address", "hls_addr: :1935\n", nil, []string{"1: hls_addr: :1935 is already used by rtmp_addr (:1935)"}},
	{"same port", "api_addr: 127.0.0.1:1935\n", nil,
		[]string{"1: api_addr: 127.0.0.1:1935 is already used by rtmp_addr (:1935)"}},
	{"no apps", "server: []\n", nil, []string{"1: server: must be a list of apps, each starting with - appname:"}},
	{"app without a name", "server:\n- live: true\n", nil, []string{"2: server[0]: appname is missing"}},
	{"app twice", "server:\n- appname: a\n- appname: a\n", nil, []string{`3: server[1]: duplicate app "a"`}},
	{"app with a bad name", "server:\n- appname: a/b\n", nil,
		[]string{`2: server[0].appname: app name "a/b" has a character outside A-Z a-z 0-9 . _ -`}},
	{"archive", "flv_dir: ''\n", nil, []string{"1: flv_dir: must not be empty"}},
	{"static push", "server:\n- appname: live\n  static_push: ['rtmp://user:pass@example.com/live', " +
		"\"rtmps://h:444/a/b?x=1\"]\n",
		func(c *Config) {
			c.Apps[0].StaticPush = Targets{"rtmp://user:pass@example.com/live", "rtmps://h:444/a/b?x=1"}
		}, nil},
	{"static push to one", "server:\n- appname: live\n  static_push: rtmp://h/live\n", nil,
		[]string{"3: server[0].static_push: must be a list of URLs"}},
	{"static push twice", "server:\n- appname: live\n  static_push: [rtmp://h/live, rtmp://h/live]\n", nil,
		[]string{"3: server[0].static_push: entry 2 is a duplicate"}},
	{"static push to no app", "server:\n- appname: live\n  static_push: [rtmp://h/live, rtmp://s3cret@h/, 7, " +
		"'http://h/x', 'rtmp://h/a#b', 'rtmp:///a', 'rtmp://h/%zz']\n", nil,
		[]string{"3: server[0].static_push: entry 2 must be a URL of the form rtmp://host/app",
			"3: server[0].static_push: entry 3 must be a URL of the form rtmp://host/app",
			"3: server[0].static_push: entry 4 must be a URL of the form rtmp://host/app",
			"3: server[0].static_push: entry 5 must be a URL of the form rtmp://host/app",
			"3: server[0].static_push: entry 6 must be a URL of the form rtmp://host/app",
			"3: server[0].static_push: entry 7 must be a URL of the form rtmp://host/app"}},
	{"relays", "relay_allow: [10.0.0.0/8, '::1', origin.example]\nrelay_max: 0\n",
		func(c *Config) { c.RelayAllow, c.RelayMax = []string{"10.0.0.0/8", "::1", "origin.example"}, 0 }, nil},
	{"relays to nowhere", "relay_allow: ['rtmp://h']\n", nil,
		[]string{`1: relay_allow: "rtmp://h" is not an address, range or host name`}},
	{"embedding", "embed_origins: ['https://www.example.com:8443', 'https://*.example.com']\n",
		func(c *Config) { c.EmbedOrigins = []string{"https://www.example.com:8443", "https://*.example.com"} }, nil},
	{"embedding by what is no origin", "embed_origins: ['https://www.example.com; script-src *']\n", nil,
		[]string{`1: embed_origins: "https://www.example.com; script-src *" is not *, and not an http or https origin ` +
			"such as https://www.example.com"}},
	{"reconnect", "reconnect_url: rtmps://live2.example.com:1936\nshutdown_delay: 5s\n",
		func(c *Config) { c.ReconnectURL, c.ShutdownDelay = "rtmps://live2.example.com:1936", 5*time.Second }, nil},
	{"reconnect to nowhere", "reconnect_url: http://live2.example.com\n", nil,
		[]string{"1: reconnect_url: must be an rtmp or rtmps URL without a user, a query or a fragment"}},
	{"traces", "otlp_endpoint: http://localhost:4318\notlp_headers: 'Authorization=Bearer x, X-Tenant=a=b'\n",
		func(c *Config) {
			c.OTLPEndpoint, c.OTLPHeaders = "http://localhost:4318", "Authorization=Bearer x, X-Tenant=a=b"
		}, nil},
	{"traces to nowhere", "otlp_endpoint: localhost:4318\notlp_headers: s3cret\notlp_sample: 0\n", nil,
		[]string{"3: otlp_sample: must be at least 1, not 0"}},
	{"traces to no URL", "otlp_endpoint: localhost:4318\notlp_headers: s3cret\n", nil,
		[]string{"1: otlp_endpoint: must be an http or https URL without a user, a query or a fragment: set otlp_headers " +
			"for a credential",
			"2: otlp_headers: must be name=value, separated by commas"}},
	{"traces with a credential in the URL", "otlp_endpoint: http://localhost:4318/?key=s3cret\n", nil,
		[]string{"1: otlp_endpoint: must be an http or https URL without a user, a query or a fragment: set otlp_headers " +
			"for a credential"}},
	{"redis", "redis_addr: localhost:6379\nredis_pwd: x\nredis_cache: 30s\n",
		func(c *Config) { c.RedisAddr, c.RedisPwd, c.RedisCache = "localhost:6379", "x", 30*time.Second }, nil},
	{"redis url", "redis_addr: redis-sentinel://u:p@a,b/main\n",
		func(c *Config) { c.RedisAddr = "redis-sentinel://u:p@a,b/main" }, nil},
	{"bad redis url", "redis_addr: 'redis://u:hidden@a,b'\n", nil,
		[]string{"1: redis_addr: has several hosts: use redis-sentinel or redis-cluster"}},
	{"long redis cache", "redis_cache: 61s\n", nil, []string{"1: redis_cache: must be at most 1m, not 61s"}},
	{"byte-order mark", "\xef\xbb\xbfrtmp_addr: :1940\n", func(c *Config) { c.RTMPAddr = ":1940" }, nil},
	{"byte-order mark and comment", "\xef\xbb\xbf# a\nlevel: debug\n", func(c *Config) { c.Level = "debug" }, nil},
	{"byte-order mark between lines", "level: debug\n\xef\xbb\xbfrtmp_addr: :1940\n", nil,
		[]string{"2: rtmp_addr: the key contains the invisible character U+FEFF: remove it"}},
	{"no-break space", "\u00a0level: debug\n", nil,
		[]string{"1: level: the key contains the invisible character U+00A0: remove it"}},
	{"UTF-16", "\xff\xfel\x00e\x00v\x00e\x00l\x00", nil, []string{" the file is UTF-16: save it as UTF-8"}},
	{"mode", "record_mode: 0644\n", func(c *Config) { c.RecordMode = 0o644 }, nil},
	{"mode without a zero", "record_mode: 660\n", func(c *Config) { c.RecordMode = 0o660 }, nil},
	{"mode as text", "record_mode: '0o600'\n", func(c *Config) { c.RecordMode = 0o600 }, nil},
	{"mode that executes", "record_mode: 0755\n", nil,
		[]string{`1: record_mode: must be a mode in octal, from 0600 to 0666, not "0755"`}},
	{"mode that the owner can't read", "record_mode: 0040\n", nil,
		[]string{`1: record_mode: must be a mode in octal, from 0600 to 0666, not "0040"`}},
	{"mode of nine digits", "record_mode: 0690\n", nil,
		[]string{`1: record_mode: must be a mode in octal, from 0600 to 0666, not "0690"`}},
	{"two mistakes", "levl: x\ngop_num: x\n", nil,
		[]string{"1: levl: unknown key (did you mean level?)", "2: gop_num: must be a whole number"}},
}

// writeSettings writes a settings file to a new directory and returns its path.
func writeSettings(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "livego.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFileSettings(t *testing.T) {
	for _, c := range yamlCases {
		t.Run(c.name, func(t *testing.T) {
			path := writeSettings(t, c.file)
			got, warnings, err := loadConfig(Sources{Flags: map[string]string{"config_file": path}})
			if len(warnings) > 0 {
				t.Errorf("warnings: %q", warnings)
			}
			if len(c.errs) > 0 {
				want := path + ":" + strings.Join(c.errs, "\n"+path+":")
				if err == nil || err.Error() != want {
					t.Errorf("got the error\n%v\nwant\n%s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := Default()
			want.ConfigFile = path
			if c.set != nil {
				c.set(&want)
			}
			if d := cmp.Diff(want, got, cmp.Transformer("plain",
				func(c Config) any { type plain Config; return plain(c) })); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestSyntaxError(t *testing.T) {
	for _, text := range []string{"level: [\n", "level: 'x\n", "\tlevel: x\n", "a: b: c\n"} {
		path := writeSettings(t, "# line 1\n"+text)
		_, _, err := loadConfig(Sources{Flags: map[string]string{"config_file": path}})
		if err == nil || !strings.HasPrefix(err.Error(), path+":2: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestPrecedence(t *testing.T) {
	path := writeSettings(t, "level: debug\ntakeover: never\nlog_format: json\n")
	env := []string{"LIVEGO_CONFIG_FILE=" + path, "LIVEGO_LEVEL=warn", "LIVEGO_TAKEOVER=always",
		"LIVEGO_JWT_SECRET=sixteen-letters-", "HOME=/x"}
	c, warnings, err := loadConfig(Sources{Env: env, Flags: map[string]string{"level": "error", "api_hosts": "a, b"}})
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	got := []string{c.Level, c.Takeover, c.LogFormat, c.RTMPAddr, c.JWT.Secret, strings.Join(c.APIHosts, "|")}
	if want := []string{"error", "always", "json", ":1935", "sixteen-letters-", "a|b"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOtherSources(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yaml")
	for _, c := range []struct {
		name string
		s    Sources
		want string
	}{
		{"variable", Sources{Env: []string{"LIVEGO_GOP_NUM=x"}}, `LIVEGO_GOP_NUM: must be a whole number, not "x"`},
		{"variable, checked later", Sources{Env: []string{"LIVEGO_RTMP_ADDR=x"}},
			`LIVEGO_RTMP_ADDR: invalid address "x": must be host:port or :port`},
		{"flag", Sources{Flags: map[string]string{"gop_num": "-1"}}, `--gop_num: must be at least 0, not -1`},
		{"flag, checked later", Sources{Flags: map[string]string{"redis_pwd": "hidden"}},
			`--redis_pwd: redis_addr is not set`},
		{"default that collides", Sources{Flags: map[string]string{"rtmp_addr": ":7001"}},
			`httpflv_addr: :7001 is already used by rtmp_addr (:7001)`},
		{"file named by flag", Sources{Flags: map[string]string{"config_file": missing}}, "config_file: stat " + missing},
		{"file named by variable", Sources{Env: []string{"LIVEGO_CONFIG_FILE=" + missing}}, "config_file: stat " + missing},
		{"no certificate", Sources{Flags: map[string]string{"enable_rtmps": "true", "rtmps_cert": missing}},
			"--rtmps_cert: cannot load the TLS certificate: open " + missing},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			_, _, err := loadConfig(c.s)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// TestDeprecatedNames gives settings by their deprecated names, in each source alone and together
// with the current name in each source.
func TestDeprecatedNames(t *testing.T) {
	t.Chdir(t.TempDir())
	type source struct {
		place string // prefix of an error
		add   func(s *Sources, file *string, key, text string)
	}
	sources := map[string]source{
		"file": {"", func(_ *Sources, file *string, key, text string) { *file += key + ": " + text + "\n" }},
		"environment": {"LIVEGO_GATHER: ",
			func(s *Sources, _ *string, key, text string) { s.Env = append(s.Env, envName(key)+"="+text) }},
		"flag": {"--gather: ", func(s *Sources, _ *string, key, text string) { s.Flags[key] = text }},
	}
	load := func(add func(s *Sources, file *string)) (Config, []string, error) {
		file := ""
		s := Sources{Flags: map[string]string{}}
		add(&s, &file)
		s.Flags["config_file"] = writeSettings(t, file)
		return loadConfig(s)
	}
	for name, old := range sources {
		c, warnings, err := load(func(s *Sources, file *string) { old.add(s, file, "gather", "50ms") })
		want := []DeprecatedName{{Old: "gather", New: "batch_window"}}
		if err != nil || c.BatchWindow.Fixed != 50*time.Millisecond || !slices.Equal(c.Deprecated, want) ||
			len(warnings) > 0 {
			t.Errorf("gather in the %s: %v, deprecated %v, warnings %q, %v", name, c.BatchWindow, c.Deprecated, warnings, err)
		}
		c, _, err = load(func(s *Sources, file *string) { old.add(s, file, "batch_window", "50ms") })
		if err != nil || c.BatchWindow.Fixed != 50*time.Millisecond || len(c.Deprecated) > 0 {
			t.Errorf("batch_window in the %s: %v, deprecated %v, %v", name, c.BatchWindow, c.Deprecated, err)
		}
		_, _, err = load(func(s *Sources, file *string) { old.add(s, file, "gather", "1s") })
		const tooLong = "must be at most 200ms, not 1s"
		if err == nil || !strings.HasPrefix(err.Error(), old.place) || !strings.HasSuffix(err.Error(), tooLong) {
			t.Errorf("gather in the %s, too long: %v", name, err)
		}
		for other, current := range sources {
			_, _, err := load(func(s *Sources, file *string) {
				old.add(s, file, "gather", "50ms")
				current.add(s, file, "batch_window", "50ms")
			})
			const text = "deprecated name of batch_window, which is set too: remove gather"
			if err == nil || !strings.HasPrefix(err.Error(), old.place) || !strings.HasSuffix(err.Error(), text) {
				t.Errorf("gather in the %s, batch_window in the %s: %v", name, other, err)
			}
		}
	}
	// All three at once are one deprecated setting.
	c, _, err := load(func(s *Sources, file *string) {
		for _, source := range sources {
			source.add(s, file, "gather", "50ms")
		}
	})
	if err != nil || len(c.Deprecated) != 1 {
		t.Errorf("gather in every source: deprecated %v, %v", c.Deprecated, err)
	}
}

func TestDefaultFile(t *testing.T) {
	t.Chdir(t.TempDir())
	c, _, err := loadConfig(Sources{})
	if err != nil || c.Level != "info" {
		t.Errorf("without a file: %v, %v", c.Level, err)
	}
	if err := os.WriteFile("livego.yaml", []byte("level: debug"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, _, err := loadConfig(Sources{}); err != nil || c.Level != "debug" {
		t.Errorf("with livego.yaml: %v, %v", c.Level, err)
	}
}

func TestUnknownVariables(t *testing.T) {
	t.Chdir(t.TempDir())
	_, warnings, err := loadConfig(Sources{Env: []string{
		"LIVEGO_SERVICE_HOST=10.0.0.1", "LIVEGO_SERVICE_PORT=1935", "LIVEGO_SERVICE_PORT_RTMP=1935",
		"LIVEGO_PORT=tcp://10.0.0.1:1935",
		"LIVEGO_PORT_1935_TCP=tcp://10.0.0.1:1935", "LIVEGO_PORT_1935_TCP_PROTO=tcp", "LIVEGO_PORT_1935_TCP_PORT=1935",
		"LIVEGO_PORT_1935_TCP_ADDR=10.0.0.1",
		"LIVEGO_RTMP_ADR=:1", "LIVEGO_=x", "MYLIVEGO_X=1",
	}})
	if want := []string{"unknown environment variables have no effect: LIVEGO_, LIVEGO_RTMP_ADR"}; err != nil ||
		!slices.Equal(warnings, want) {
		t.Errorf("got %q, %v; want %q", warnings, err, want)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	c := Default()
	c.JWT.Secret, c.RedisAddr, c.RedisPwd = "canary-jwt", "redis://u:canary-url@h", "canary-pwd"
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("start", "config", c)
	for _, s := range []string{c.String(), log.String(), fmt.Sprintf("%v %+v %#v %s", c, c, c, c),
		fmt.Sprintf("%v %#v", &c, &c)} {
		if strings.Contains(s, "canary") {
			t.Errorf("a secret is printed: %s", s)
		}
		if !strings.Contains(s, "rtmp_addr=:1935") || !strings.Contains(s, "jwt.secret=(set)") {
			t.Errorf("set values are missing: %s", s)
		}
	}
}

// TestSettingsTable checks the tags: each setting has a group and help, its default is valid, and
// its text round-trips.
func TestSettingsTable(t *testing.T) {
	seen := map[string]bool{}
	d := Default()
	if p := d.problems(); len(p) > 0 {
		t.Errorf("the defaults: %v", p)
	}
	for _, f := range fields() {
		if seen[f.Key] || f.Group == "" || !strings.HasSuffix(f.Help, ".") {
			t.Errorf("%s is a duplicate, or has no group or no help", f.Key)
		}
		seen[f.Key] = true
		if f.Old != "" && f.secret != "" {
			t.Errorf("%s: a secret in a file has no deprecated name", f.Key)
		}
		var c Config
		if err := f.set(&c, f.text(&d)); err != nil || f.text(&c) != f.text(&d) {
			t.Errorf("%s: %q becomes %q, %v", f.Key, f.text(&d), f.text(&c), err)
		}
		for _, bound := range []string{f.min, f.max} {
			if bound != "" {
				f.bound(bound) // panics if the tag is invalid
			}
		}
	}
	if len(Settings()) != len(seen) {
		t.Errorf("%d settings, %d fields: %v", len(Settings()), len(seen), slices.Collect(maps.Keys(seen)))
	}
}

func TestProblems(t *testing.T) {
	c := Default()
	c.RTMPAddr, c.Apps = "nowhere", []App{{Name: "api"}}
	want := []problem{{"rtmp_addr", `invalid address "nowhere": must be host:port or :port`},
		{"server", `app name "api" is reserved for the operator's routes`}}
	if got := c.problems(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	c.Apps = nil
	if got := c.problems(); !slices.Contains(got, problem{"server", "no app is configured"}) {
		t.Errorf("without apps: %q", got)
	}
}

func FuzzYAML(f *testing.F) {
	for _, c := range yamlCases {
		f.Add([]byte(c.file))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l := newLoader()
		l.readYAML("livego.yaml", data)
		for _, err := range l.errs {
			if !strings.HasPrefix(err.Error(), "livego.yaml:") {
				t.Errorf("an error without its place: %v", err)
			}
		}
		if len(l.errs) == 0 {
			l.cfg.problems()
		}
	})
}

// loadConfig returns the parts of Load's result that most tests check.
func loadConfig(s Sources) (Config, []string, error) {
	l, err := Load(s)
	return l.Config, l.Warnings, err
}

// TestParseHeaders parses values of otlp_headers.
func TestParseHeaders(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"":                        {},
		"a=b":                     {"a": "b"},
		"a=b=c, X-Tenant = live,": {"a": "b=c", "X-Tenant": "live"},
		"a":                       nil,
		"=b":                      nil,
		"a b=c":                   nil,
		"a=b\r\nc":                nil,
	} {
		got, err := ParseHeaders(text)
		if (err == nil) != (want != nil) || !maps.Equal(got, want) {
			t.Errorf("%q: %v %v, want %v", text, got, err, want)
		}
	}
}

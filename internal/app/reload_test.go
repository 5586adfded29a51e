package app

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/domain"
	"livego/internal/ops/certtest"
	"livego/internal/ops/config"
)

// runApp runs a server with a settings file on any ports. It returns when the server serves reloads.
func runApp(t *testing.T, file string) (a *App, path string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "livego.yaml")
	const listeners = "rtmp_addr: 127.0.0.1:0\nhttpflv_addr: 127.0.0.1:0\nhls_addr: 127.0.0.1:0\napi_addr: 127.0.0.1:0\n"
	if err := os.WriteFile(path, []byte(listeners+file), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(config.Sources{Flags: map[string]string{"config_file": path,
		"data_dir": filepath.Join(dir, "data")}})
	if err != nil {
		t.Fatal(err)
	}
	if a, err = New(loaded, slog.New(slog.DiscardHandler), new(slog.LevelVar)); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if _, err := a.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	return a, path
}

// reloadValues are other values of settings than the defaults, where the test cannot guess them, and
// what else must be set with them.
var reloadValues = map[string]map[string]string{
	"thumbnails": {"thumbnails": "off"},
	"level":      {"level": "debug"}, "log_format": {"log_format": "json"}, "takeover": {"takeover": "never"},
	"jwt.algorithm": {"jwt.algorithm": "HS512"},
	"api_allow":     {"api_allow": "10.0.0.0/8"}, "api_allow_users": {"api_allow_users": "root"},
	"trusted_proxies": {"trusted_proxies": "10.0.0.1"}, "relay_allow": {"relay_allow": "10.0.0.1"},
	"private":          {"private": "live/movie", "token.secret": "sixteen-letters-"},
	"token.secret":     {"token.secret": "sixteen-letters-"},
	"token.previous":   {"token.previous": "sixteen-letters-"},
	"token.jwks_url":   {"token.jwks_url": "http://127.0.0.1:1/keys"},
	"token.public_key": {"token.public_key": ""},
	"jwt.secret":       {"jwt.secret": "sixteen-letters-"}, "admin_token": {"admin_token": "sixteen-letters-"},
	"hook.on_publish":         {"hook.on_publish": "http://127.0.0.1:1/", "hook.secret": "sixteen-letters-"},
	"hook.on_play":            {"hook.on_play": "http://127.0.0.1:1/", "hook.secret": "sixteen-letters-"},
	"hook.events":             {"hook.events": "http://127.0.0.1:1/", "hook.secret": "sixteen-letters-"},
	"proxy_protocol":          {"proxy_protocol": "rtmp", "trusted_proxies": "10.0.0.1"},
	"cluster_addr":            {"cluster_addr": "127.0.0.1:1", "cluster_secret": "sixteen-letters-"},
	"cluster_secret":          {"cluster_secret": "sixteen-letters-"},
	"cluster_secret_previous": {"cluster_secret_previous": "sixteen-letters-"},
	"cluster_nodes": {"cluster_nodes": "a=127.0.0.1:1", "cluster_addr": "127.0.0.1:1",
		"cluster_secret": "sixteen-letters-"},
	"cluster_owners": {"cluster_owners": "live=a", "cluster_addr": "127.0.0.1:1",
		"cluster_secret": "sixteen-letters-"},
	"redis_addr":    {"redis_addr": "127.0.0.1:1"},
	"redis_pwd":     {"redis_pwd": "x", "redis_addr": "127.0.0.1:1"},
	"embed_origins": {"embed_origins": "https://www.example.com"},
	"public_url":    {"public_url": "https://live.example.com"}, "record_mode": {"record_mode": "0600"},
	"reconnect_url":   {"reconnect_url": "rtmp://live2.example.com"},
	"record_min_free": {"record_min_free": "3%"},
	"batch_window":    {"batch_window": "5ms"},
	"acme.ca":         {"acme.ca": "https://ca.example.com/"},
	"otlp_endpoint":   {"otlp_endpoint": "http://127.0.0.1:1"}, "otlp_headers": {"otlp_headers": "X-Tenant=live"},
}

// otherValue returns a valid value of s that is not its default.
func otherValue(t *testing.T, s config.State) string {
	switch v := s.Value.(type) {
	case bool:
		return fmt.Sprint(!v)
	case int:
		return fmt.Sprint(v + 1)
	}
	text, _ := s.Value.(string)
	switch {
	case strings.HasPrefix(s.Values, "a duration"):
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		return (d + 100*time.Millisecond).String()
	case strings.HasPrefix(s.Values, "a size"):
		return "24MiB"
	case strings.HasSuffix(s.Key, "_addr"):
		return "127.0.0.1:1"
	}
	return text + "x"
}

// TestEverySettingReloads changes each setting of a running server. One that is marked restart must be
// named, and keep its value; the others must have the new value.
func TestEverySettingReloads(t *testing.T) {
	certFile, keyFile := testCertificate(t)
	public := writePublicKey(t)
	a, _ := runApp(t, "rtmps_cert: "+certFile+"\nrtmps_key: "+keyFile+"\n")
	for _, s := range a.SettingStates() {
		values := maps.Clone(reloadValues[s.Key])
		switch {
		case s.Writer == config.WriterNone:
			continue
		case s.Key == "acme.domains":
			values = map[string]string{s.Key: "live.example.com", "enable_https": "true"}
		case s.Key == "token.public_key":
			values[s.Key] = public
		case values == nil:
			values = map[string]string{s.Key: otherValue(t, s)}
		}
		changes := map[string]*string{}
		for key, v := range values {
			changes[key] = &v
		}
		report, err := a.ChangeSettings(t.Context(), changes)
		if err != nil {
			t.Errorf("%s: %v", s.Key, err)
			continue
		}
		states := a.SettingStates()
		now := states[slices.IndexFunc(states, func(o config.State) bool { return o.Key == s.Key })]
		same := reflect.DeepEqual(now.Value, s.Value) && now.IsSet == s.IsSet
		if s.Reload == config.ReloadRestart {
			if !slices.Contains(report.Restart, s.Key) || !same || !now.Pending {
				t.Errorf("%s needs a restart: %+v, %v, pending %v", s.Key, report, now.Value, now.Pending)
			}
		} else if !slices.Contains(report.Applied, s.Key) || same || now.Pending {
			t.Errorf("%s reloads: %+v, %v, pending %v", s.Key, report, now.Value, now.Pending)
		}
		for key := range changes {
			changes[key] = nil
		}
		if _, err := a.ChangeSettings(t.Context(), changes); err != nil {
			t.Fatalf("%s: back to the file: %v", s.Key, err)
		}
	}
}

// TestManyReloadsLeakNothing reloads files that start and stop everything that a reload can.
func TestManyReloadsLeakNothing(t *testing.T) {
	keys := httptest.NewServer(http.NotFoundHandler())
	defer keys.Close()
	a, path := runApp(t, "")
	plain, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	full := string(plain) + "level: debug\ntoken:\n  jwks_url: " + keys.URL + "\nprivate: ['*']\nhook:\n" +
		"  secret: sixteen-letters-\n  events: " + keys.URL + "\n  on_play: " + keys.URL + "\n" +
		"server:\n- appname: live\n  static_push: ['rtmp://127.0.0.1:1/live']\n"
	reload := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	used := func() (goroutines int, heap uint64) {
		reload(string(plain))
		keys.CloseClientConnections()
		var m runtime.MemStats
		for range 3 {
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	reload(full)
	goroutines, heap := used()
	for range 50 {
		reload(full)
		reload(string(plain))
	}
	deadline := time.After(20 * time.Second)
	for {
		g, h := used()
		if g <= goroutines && h <= heap+1<<20 {
			return
		}
		select {
		case <-deadline:
			buf := make([]byte, 1<<20)
			t.Fatalf("after 100 reloads: %d goroutines, before %d; heap %d, before %d\n%s", g, goroutines, h, heap,
				buf[:runtime.Stack(buf, true)])
		default:
			runtime.Gosched()
		}
	}
}

// TestConcurrentReloads reloads, changes and lists settings at the same time.
func TestConcurrentReloads(t *testing.T) {
	a, _ := runApp(t, "")
	done := make(chan error)
	for i := range 4 {
		go func() {
			var err error
			for n := range 5 {
				text := fmt.Sprint(i*10 + n)
				_, changed := a.ChangeSettings(t.Context(), map[string]*string{"relay_max": &text})
				_, reloaded := a.Reload(t.Context())
				if a.SettingStates(); changed != nil || reloaded != nil {
					err = fmt.Errorf("%v, %v", changed, reloaded)
				}
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestSettingsThatCannotBeStored changes a setting while the file with the settings of the API cannot be replaced.
func TestSettingsThatCannotBeStored(t *testing.T) {
	a, path := runApp(t, "")
	file := filepath.Join(filepath.Dir(path), "data", "settings.json")
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	change := func() error {
		_, err := a.ChangeSettings(t.Context(), map[string]*string{"relay_max": new("5")})
		return err
	}
	if err := change(); domain.KindOf(err) != domain.Unavailable || !strings.Contains(domain.Reason(err), "data_dir") {
		t.Errorf("%v", err)
	}
	if _, running := a.settings.current(); running.RelayMax == 5 {
		t.Error("the setting has changed")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := change(); err != nil {
		t.Errorf("when it can be stored again: %v", err)
	}
}

// testCertificate returns the files of a certificate.
func testCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	certPEM, keyPEM := certtest.PEM(t, certtest.New(t))
	return writeTemp(t, certPEM), writeTemp(t, keyPEM)
}

// writePublicKey returns the file of an Ed25519 public key.
func writePublicKey(t *testing.T) string {
	t.Helper()
	key, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return writeTemp(t, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func writeTemp(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

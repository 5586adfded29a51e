package acme

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/internal/ops/acme/acmetest"
)

const testDomain = "live.example.com"

// A server is a running Manager and its log.
type server struct {
	*Manager
	log bytes.Buffer
}

// listen opens a port for the authority's challenges.
func listen(t *testing.T) (net.Listener, int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, l.Addr().(*net.TCPAddr).Port
}

// start runs a Manager until stop is called or the test ends. The authority sends its challenges to
// l.
func start(t *testing.T, a *acmetest.Authority, l net.Listener, o Options) (s *server, stop func()) {
	t.Helper()
	s = new(server)
	trusted := x509.NewCertPool()
	trusted.AddCert(a.Certificate())
	o.Domains, o.Email, o.CA, o.Roots = []string{testDomain}, "me@example.com", a.Directory(), trusted
	o.HTTPPort = l.Addr().(*net.TCPAddr).Port
	o.Log = slog.New(slog.NewTextHandler(&s.log, nil))
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s.Manager = New(o)
	srv := &http.Server{Handler: s.Handler()}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	running.Go(func() { _ = srv.Serve(l) })
	stop = sync.OnceFunc(func() {
		cancel()
		srv.Close()
		running.Wait()
		if t.Failed() {
			t.Logf("log:\n%s", s.log.String())
		}
	})
	t.Cleanup(stop)
	return s, stop
}

// served returns the certificate that s serves for name to a client that trusts a.
func (s *server) served(a *acmetest.Authority, name string) (*x509.Certificate, error) {
	client, end := net.Pipe()
	defer client.Close()
	go func() {
		defer end.Close()
		_ = tls.Server(end, &tls.Config{GetCertificate: s.GetCertificate}).HandshakeContext(context.Background())
	}()
	c := tls.Client(client, &tls.Config{RootCAs: a.Root(), ServerName: name})
	if err := c.HandshakeContext(context.Background()); err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}

// awaitServed waits until s serves a valid certificate for which like returns true.
func (s *server) awaitServed(t *testing.T, a *acmetest.Authority, like func(*x509.Certificate) bool) *x509.Certificate {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		cert, err := s.served(a, testDomain)
		if err == nil && like(cert) {
			return cert
		}
		if time.Now().After(deadline) {
			t.Fatalf("no certificate: %v, %v; %v", cert, err, a.Problems())
		}
		<-time.After(50 * time.Millisecond)
	}
}

func anyCertificate(*x509.Certificate) bool { return true }

// TestObtain obtains a certificate and serves it, and then serves it from the files without a
// request to the authority.
func TestObtain(t *testing.T) {
	l, port := listen(t)
	a := acmetest.New(t, port)
	dir := t.TempDir()
	for round := range 2 {
		if round > 0 {
			l, _ = listen(t)
		}
		s, stop := start(t, a, l, Options{Dir: dir})
		s.awaitServed(t, a, anyCertificate)
		if _, err := s.served(a, "other.example.com"); err == nil {
			t.Error("it serves a name without a certificate")
		}
		stop()
	}
	if a.Issued() != 1 {
		t.Errorf("%d certificates were issued, want 1", a.Issued())
	}
	keys := 0
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		info, infoErr := d.Info()
		if err != nil || infoErr != nil || !strings.HasSuffix(path, ".key") {
			return nil
		}
		if keys++; info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if keys == 0 {
		t.Error("no key on disk, nothing was tested")
	}
}

// TestRenew renews a certificate that is about to expire, by a server that starts and by one that
// runs.
func TestRenew(t *testing.T) {
	l, port := listen(t)
	a := acmetest.New(t, port)
	a.SetValidity(-time.Hour, 10*time.Minute)
	dir := t.TempDir()
	s, stop := start(t, a, l, Options{Dir: dir})
	first := s.awaitServed(t, a, anyCertificate)
	stop()

	l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
	if err != nil {
		t.Fatal(err)
	}
	s, _ = start(t, a, l, Options{Dir: dir, CheckInterval: 100 * time.Millisecond})
	second := s.awaitServed(t, a, func(c *x509.Certificate) bool { return !c.Equal(first) })
	a.SetValidity(-time.Hour, 24*time.Hour)
	third := s.awaitServed(t, a, func(c *x509.Certificate) bool { return time.Until(c.NotAfter) > time.Hour })
	if third.Equal(second) || a.Issued() < 3 {
		t.Errorf("%d certificates were issued", a.Issued())
	}
}

// memoryStorage is a Shared in memory.
type memoryStorage struct {
	mu    sync.Mutex
	files map[string][]byte
	locks map[string]string // owner by name
	waits int               // failed attempts to lock
	saves int
	down  bool
}

var errDown = errors.New("away")

func (m *memoryStorage) do(fn func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return errDown
	}
	fn()
	return nil
}

func (m *memoryStorage) setDown(away bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = away
}

func (m *memoryStorage) Load(_ context.Context, name string) (data []byte, _ time.Time, err error) {
	ok := false
	if err = m.do(func() { data, ok = m.files[name] }); err == nil && !ok {
		err = fs.ErrNotExist
	}
	return data, time.Time{}, err
}

func (m *memoryStorage) Save(_ context.Context, files map[string][]byte) error {
	return m.do(func() {
		m.saves++
		for name, data := range files {
			m.files[name] = bytes.Clone(data)
		}
	})
}

func (m *memoryStorage) Remove(_ context.Context, names ...string) error {
	return m.do(func() { maps.DeleteFunc(m.files, func(n string, _ []byte) bool { return slices.Contains(names, n) }) })
}

func (m *memoryStorage) Names(context.Context) (names []string, err error) {
	err = m.do(func() { names = slices.Collect(maps.Keys(m.files)) })
	return names, err
}

func (m *memoryStorage) Lock(_ context.Context, name, owner string, _ time.Duration) (got bool, err error) {
	err = m.do(func() {
		if has, ok := m.locks[name]; ok && has != owner {
			m.waits++
			return
		}
		m.locks[name], got = owner, true
	})
	return got, err
}

func (m *memoryStorage) Unlock(_ context.Context, name, owner string) error {
	return m.do(func() {
		if m.locks[name] == owner {
			delete(m.locks, name)
		}
	})
}

func newMemoryStorage() *memoryStorage {
	return &memoryStorage{files: map[string][]byte{}, locks: map[string]string{}}
}

// TestServersShareOneCertificate starts three servers at once: one requests a certificate, the
// authority sends the challenge to another one, and all serve the same certificate. The same is
// true for the renewal.
func TestServersShareOneCertificate(t *testing.T) {
	var listeners []net.Listener
	var ports []int
	for range 3 {
		l, port := listen(t)
		listeners, ports = append(listeners, l), append(ports, port)
	}
	a := acmetest.New(t, ports[2], ports[0], ports[1])
	a.SetValidity(-time.Hour, 10*time.Minute)
	shared := newMemoryStorage()
	var servers []*server
	for _, l := range listeners {
		s, _ := start(t, a, l, Options{Shared: shared, CheckInterval: 2 * time.Second})
		servers = append(servers, s)
	}
	first := servers[0].awaitServed(t, a, anyCertificate)
	for _, s := range servers {
		if c := s.awaitServed(t, a, anyCertificate); !c.Equal(first) && a.Issued() == 1 {
			t.Error("two servers serve different certificates")
		}
	}
	a.SetValidity(-time.Hour, 24*time.Hour)
	fresh := servers[0].awaitServed(t, a, func(c *x509.Certificate) bool { return time.Until(c.NotAfter) > time.Hour })
	issued := a.Issued()
	for _, s := range servers {
		s.awaitServed(t, a, fresh.Equal)
	}
	if a.Issued() != issued {
		t.Errorf("%d certificates were issued, want %d", a.Issued(), issued)
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.waits == 0 || len(shared.locks) > 0 {
		t.Errorf("%d waits for a lock, %d locks left", shared.waits, len(shared.locks))
	}
}

// TestStartDuringStorageOutage starts without the storage: a server with a local copy serves it,
// and a new server waits and then serves the same certificate. Garbage in the storage then changes
// nothing for either.
func TestStartDuringStorageOutage(t *testing.T) {
	l, port := listen(t)
	a := acmetest.New(t, port)
	shared, dir := newMemoryStorage(), t.TempDir()
	s, stop := start(t, a, l, Options{Shared: shared, Dir: dir})
	s.awaitServed(t, a, anyCertificate)
	stop()
	shared.setDown(true)
	l, _ = listen(t)
	old, _ := start(t, a, l, Options{Shared: shared, Dir: dir, CheckInterval: 100 * time.Millisecond})
	old.awaitServed(t, a, anyCertificate)
	l, _ = listen(t)
	fresh, _ := start(t, a, l, Options{Shared: shared, CheckInterval: 100 * time.Millisecond})
	if _, err := fresh.served(a, testDomain); err == nil {
		t.Error("a server without any certificate serves one")
	}
	shared.setDown(false)
	fresh.awaitServed(t, a, anyCertificate)
	if a.Issued() != 1 {
		t.Errorf("%d certificates were issued, want 1", a.Issued())
	}
	shared.mu.Lock()
	for name := range shared.files {
		shared.files[name] = []byte("garbage")
	}
	shared.mu.Unlock()
	<-time.After(500 * time.Millisecond) // five checks
	for _, s := range []*server{old, fresh} {
		if _, err := s.served(a, testDomain); err != nil {
			t.Errorf("after garbage: %v", err)
		}
	}
}

// TestAuthorityOutage starts while the authority is down.
func TestAuthorityOutage(t *testing.T) {
	if os.Getenv("TEST_LONG") == "" {
		t.Skip("the library waits a minute: see make test-long")
	}
	l, port := listen(t)
	a := acmetest.New(t, port)
	a.SetDown(true)
	s, _ := start(t, a, l, Options{})
	<-time.After(2 * time.Second)
	a.SetDown(false)
	deadline := time.Now().Add(3 * time.Minute)
	for {
		if _, err := s.served(a, testDomain); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no retry")
		}
		<-time.After(time.Second)
	}
}

// TestHandler checks that only the authority's challenges are answered.
func TestHandler(t *testing.T) {
	l, port := listen(t)
	a := acmetest.New(t, port)
	s, _ := start(t, a, l, Options{})
	s.awaitServed(t, a, anyCertificate)
	for _, path := range []string{"/", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/x", "/live/movie.flv",
		"/.well-known/acme-challenge/../../x"} {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 404 {
			t.Errorf("%s: HTTP %d, want 404", path, resp.StatusCode)
		}
	}
}

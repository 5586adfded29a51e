package redis

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"livego/internal/control/store/storetest"
	"livego/internal/domain"
	"livego/internal/ops/redisurl"
)

// A server is a redis-server under test. It is killed at the end of the test.
type server struct {
	t       *testing.T
	addr    string
	command []string // the program and its leading arguments
	args    []string
	cmd     *exec.Cmd
	out     *os.File
}

// requirePrograms skips the test with a clear message when a program is missing; with CI=true it
// fails the test.
func requirePrograms(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("MISSING PEER: %s is not installed, and CI=true", p)
		}
		t.Skipf("MISSING PEER: %s is not installed; this test checks NOTHING here: see scripts/setup", p)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		if port < 50000 { // a node of a Cluster also listens on this port plus 10000
			return port
		}
	}
}

// startRedis starts a redis-server that syncs each write, with further arguments.
func startRedis(t *testing.T, args ...string) *server {
	t.Helper()
	requirePrograms(t, "redis-server")
	dir := t.TempDir()
	return startServer(t, []string{"redis-server"}, dir, dir, args...)
}

// valkeyRoot is where scripts/setup installs a Debian that has Valkey.
const valkeyRoot = "/var/cache/livego-test/sid"

// startValkey starts a valkey-server, in a chroot, as startRedis starts a redis-server.
func startValkey(t *testing.T, args ...string) *server {
	t.Helper()
	if _, err := os.Stat(valkeyRoot + "/usr/bin/valkey-server"); err != nil || os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("MISSING PEER: no valkey-server in %s for root to run, and CI=true", valkeyRoot)
		}
		t.Skipf("MISSING PEER: no valkey-server in %s for root to run; this test checks NOTHING here: see "+
			"scripts/setup", valkeyRoot)
	}
	dir, err := os.MkdirTemp(valkeyRoot+"/tmp", "livego-valkey-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return startServer(t, []string{"/usr/sbin/chroot", valkeyRoot, "valkey-server"}, dir,
		strings.TrimPrefix(dir, valkeyRoot), args...)
}

// startServer starts a server with its files in dir, which the server itself sees as seen.
func startServer(t *testing.T, command []string, dir, seen string, args ...string) *server {
	t.Helper()
	port := freePort(t)
	s := &server{t: t, addr: fmt.Sprintf("127.0.0.1:%d", port), command: command}
	s.args = append([]string{
		"--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--dir", seen, "--save", "", "--appendonly", "yes",
		"--appendfsync", "always",
	}, args...)
	var err error
	if s.out, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.kill()
		s.out.Close()
		if log, _ := os.ReadFile(s.out.Name()); t.Failed() {
			t.Logf("%v %s:\n%s", s.command, s.addr, log)
		}
	})
	s.start()
	return s
}

func (s *server) start() {
	s.t.Helper()
	args := slices.Concat(s.command, s.args)
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, 10*time.Second, "the server answers", func() error {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			c.Close()
		}
		return err
	})
}

func (s *server) kill() {
	if s.cmd != nil {
		s.cmd.Process.Kill() // a stopped one too
		s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *server) pause()  { s.signal("-STOP") }
func (s *server) resume() { s.signal("-CONT") }

// signal sends a signal that not every system's Go has a name for.
func (s *server) signal(name string) {
	s.t.Helper()
	if out, err := exec.Command("kill", name, fmt.Sprint(s.cmd.Process.Pid)).CombinedOutput(); err != nil {
		s.t.Fatalf("kill %s: %v %s", name, err, out)
	}
}

// do runs a command like redis-cli.
func (s *server) do(args ...any) any {
	s.t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: s.addr, Protocol: 2})
	defer c.Close()
	v, err := c.Do(context.Background(), args...).Result()
	if err != nil && err != goredis.Nil {
		s.t.Fatalf("%v: %v", args, err)
	}
	return v
}

func eventually(t *testing.T, limit time.Duration, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// A keyStore is a Store with the keys in it.
type keyStore struct {
	*Store
	domain.KeyStore
}

// open opens a Store like a server.
func open(t *testing.T, addr string, change ...func(*Options)) keyStore {
	t.Helper()
	a, err := redisurl.Parse(addr, "")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Address: a, Log: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&o)
	}
	s := Open(o)
	t.Cleanup(func() { s.Close() })
	return keyStore{s, storetest.WithKeys(s)}
}

// A node is a keyStore with Run running, as in a server. It records the revocations that it receives.
type node struct {
	keyStore
	revoked chan []domain.KeyRef
	ended   atomic.Int64
	deleted chan string // "app/room"
}

func startNode(t *testing.T, addr string, change ...func(*Options)) *node {
	t.Helper()
	n := &node{keyStore: open(t, addr, change...), revoked: make(chan []domain.KeyRef, 1000),
		deleted: make(chan string, 1000)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Run(ctx, func(refs []domain.KeyRef, end bool) {
			if end {
				n.ended.Add(1)
			}
			n.revoked <- refs
		}, func(app, room string) { n.deleted <- app + "/" + room })
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return n
}

// awaitRevoked waits until the node has received the revocation of ref.
func (n *node) awaitRevoked(t *testing.T, ref domain.KeyRef, limit time.Duration) {
	t.Helper()
	timeout := time.After(limit)
	for {
		select {
		case refs := <-n.revoked:
			for _, r := range refs {
				if r == ref {
					return
				}
			}
		case <-timeout:
			t.Fatalf("the revocation of %[2]v was not received within %[1]v", limit, ref)
		}
	}
}

// awaitDeleted waits until the node has received that another server deleted a room, "app/room",
// and no other room before.
func (n *node) awaitDeleted(t *testing.T, room string) {
	t.Helper()
	select {
	case got := <-n.deleted:
		if got != room {
			t.Errorf("received the deletion of %s, want %s", got, room)
		}
	case <-time.After(4 * time.Second):
		t.Errorf("the deletion of %s was not received", room)
	}
}

func (n *node) awaitReady(t *testing.T, limit time.Duration) {
	t.Helper()
	eventually(t, limit, "store ready", n.Ready)
}

func mustGet(t *testing.T, s keyStore, room string) domain.Key {
	t.Helper()
	k, err := s.Get(t.Context(), "", room)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// startSentinel starts a master, a replica and three Sentinels, and returns the address by which
// the master is found.
func startSentinel(t *testing.T) (addr string, master, replica *server) {
	t.Helper()
	master = startRedis(t)
	host, port, _ := net.SplitHostPort(master.addr)
	replica = startRedis(t, "--replicaof", host, port)
	var sentinels []string
	for range 3 {
		conf := filepath.Join(t.TempDir(), "sentinel.conf")
		text := fmt.Sprintf("sentinel monitor main %s %s 2\nsentinel down-after-milliseconds main 700\nsentinel "+
			"failover-timeout main 3000\n", host, port)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := &server{t: t, command: []string{"redis-server"}}
		p := freePort(t)
		s.addr = fmt.Sprintf("127.0.0.1:%d", p)
		s.args = []string{conf, "--sentinel", "--port", fmt.Sprint(p), "--bind", "127.0.0.1", "--dir", filepath.Dir(conf)}
		var err error
		if s.out, err = os.Create(conf + ".log"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			s.kill()
			s.out.Close()
		})
		s.start()
		sentinels = append(sentinels, s.addr)
	}
	for _, a := range sentinels {
		s := &server{t: t, addr: a}
		eventually(t, 15*time.Second, "Sentinels know each other and the replica", func() error {
			text := fmt.Sprint(s.do("INFO", "sentinel"))
			if !strings.Contains(text, "status=ok,address="+master.addr+",slaves=1,sentinels=3") {
				return fmt.Errorf("%s", text)
			}
			return nil
		})
	}
	eventually(t, 10*time.Second, "the replica follows", func() error {
		if text := fmt.Sprint(replica.do("INFO", "replication")); !strings.Contains(text, "master_link_status:up") {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	return "redis-sentinel://" + strings.Join(sentinels, ",") + "/main", master, replica
}

// startCluster starts three masters with a replica each.
func startCluster(t *testing.T) (addr string, nodes []*server) {
	t.Helper()
	requirePrograms(t, "redis-cli")
	var addrs []string
	for range 6 {
		n := startRedis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
		nodes = append(nodes, n)
		addrs = append(addrs, n.addr)
	}
	args := append(append([]string{"--cluster", "create"}, addrs...), "--cluster-replicas", "1", "--cluster-yes")
	if out, err := exec.Command("redis-cli", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, n := range nodes {
		eventually(t, 20*time.Second, "Cluster ready", func() error {
			text := fmt.Sprint(n.do("CLUSTER", "INFO"))
			if !strings.Contains(text, "cluster_state:ok") || strings.Count(fmt.Sprint(n.do("CLUSTER", "NODES")), "slave") != 3 {
				return fmt.Errorf("%s", text)
			}
			return nil
		})
	}
	return "redis-cluster://" + strings.Join(addrs[:2], ","), nodes
}

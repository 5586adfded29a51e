package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/internal/domain"
)

const (
	secret = "a secret of the cluster"
	other  = "another secret of it"
)

// A logBuffer is a log that tests read.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startNode returns the address of node b, which sends a byte on each connection that it accepts.
func startNode(t *testing.T, o ListenOptions) (addr string, log *logBuffer) {
	t.Helper()
	log = new(logBuffer)
	if o.Identity.Node == "" {
		o.Identity = Identity{"b", []string{secret}}
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := Listen(tcp, o)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(c.(*Conn).Node)[:1])
			c.Close()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return tcp.Addr().String(), log
}

// TestProof connects nodes whose secrets and names agree or differ.
func TestProof(t *testing.T) {
	for _, tt := range []struct {
		name           string
		client, server Identity
		to             string
		want           string // "": they connect
	}{
		{"one secret", Identity{"a", []string{secret}}, Identity{"b", []string{secret}}, "b", ""},
		{"new secret at the client", Identity{"a", []string{other, secret}}, Identity{"b", []string{secret}}, "b", ""},
		{"new secret at the server", Identity{"a", []string{secret}}, Identity{"b", []string{other, secret}}, "b", ""},
		{"another secret", Identity{"a", []string{other}}, Identity{"b", []string{secret}}, "b", "does not know the secret"},
		{"no secret", Identity{"a", nil}, Identity{"b", []string{secret}}, "b", "does not know the secret"},
		{"another node", Identity{"a", []string{secret}}, Identity{"b", []string{secret}}, "c", "this is node b, not c"},
		{"the same node ID", Identity{"b", []string{secret}}, Identity{"b", []string{secret}}, "b", "the same node_id"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, log := startNode(t, ListenOptions{Identity: tt.server})
			d := &Dialer{Identity: tt.client, Timeout: time.Minute}
			c, err := d.Dial(t.Context(), tt.to, addr)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) || domain.KindOf(err) != domain.Unavailable {
					t.Errorf("error %v, want %q", err, tt.want)
				}
				if strings.Contains(log.String()+err.Error(), secret) {
					t.Error("a secret is in the log or in the error")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if b, err := io.ReadAll(c); string(b) != "a" {
				t.Errorf("the server has met %q, %v", b, err)
			}
		})
	}
}

// connect returns a TLS connection to addr, and its keying material.
func connect(t *testing.T, addr string) (*tls.Conn, []byte) {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	exported, err := exportKeys(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return c, exported
}

// exchange sends a hello on c and returns the reply.
func exchange(t *testing.T, c net.Conn, h []byte) reply {
	t.Helper()
	if err := writeMessage(c, h); err != nil {
		t.Fatal(err)
	}
	b, err := readMessage(c)
	if err != nil {
		t.Fatal(err)
	}
	r, err := parseReply(b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestReplayedProof sends on a second connection what was accepted on the first, and sends the proof of
// the server back to it as one of a client.
func TestReplayedProof(t *testing.T) {
	addr, log := startNode(t, ListenOptions{})
	id := Identity{"a", []string{secret}}
	first, exported := connect(t, addr)
	recorded := id.hello("b", exported).append(nil)
	accepted := exchange(t, first, recorded)
	if accepted.refusal != "" {
		t.Fatal(accepted.refusal)
	}
	again, _ := connect(t, addr)
	if r := exchange(t, again, recorded); r.refusal != domain.Reason(errSecret) {
		t.Errorf("a replayed proof: refusal %q", r.refusal)
	}
	reflected, _ := connect(t, addr)
	h := hello{client: "a", server: "b", proofs: []proof{accepted.proof}}
	if r := exchange(t, reflected, h.append(nil)); r.refusal != domain.Reason(errSecret) {
		t.Errorf("a proof of the server: refusal %q", r.refusal)
	}
	if n := strings.Count(log.String(), "cluster connection refused"); n != 1 {
		t.Errorf("%d lines in the log, want one for an address:\n%s", n, log)
	}
}

// TestManInTheMiddle has a server between two nodes that passes on their messages.
func TestManInTheMiddle(t *testing.T) {
	addr, _ := startNode(t, ListenOptions{})
	cert, err := newCertificate()
	if err != nil {
		t.Fatal(err)
	}
	middle, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert},
		NextProtos: []string{protocol}})
	if err != nil {
		t.Fatal(err)
	}
	defer middle.Close()
	refusal := make(chan string, 1)
	go func() {
		defer close(refusal)
		c, err := middle.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if h, err := readMessage(c); err == nil {
			to, _ := connect(t, addr)
			r := exchange(t, to, h)
			_ = writeMessage(c, r.append(nil))
			refusal <- r.refusal
		}
	}()
	d := &Dialer{Identity: Identity{"a", []string{secret}}, Timeout: time.Minute}
	if _, err := d.Dial(t.Context(), "b", middle.Addr().String()); err == nil {
		t.Error("the client has accepted the connection")
	}
	if r := <-refusal; r != domain.Reason(errSecret) {
		t.Errorf("the server has not refused it: %q", r)
	}
}

// TestStrangers has clients that do not speak the protocol. Each is closed, and one line is logged.
func TestStrangers(t *testing.T) {
	for _, tt := range []struct {
		name  string
		start func(t *testing.T, addr string) net.Conn
	}{
		{"silence", func(t *testing.T, addr string) net.Conn { return dialTCP(t, addr) }},
		{"plain HTTP", func(t *testing.T, addr string) net.Conn {
			c := dialTCP(t, addr)
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: b\r\n\r\n")
			return c
		}},
		{"silence after TLS", func(t *testing.T, addr string) net.Conn {
			c, _ := handshake(t, addr, tls.VersionTLS13, protocol)
			return c
		}},
		{"half a message", func(t *testing.T, addr string) net.Conn {
			c, _ := handshake(t, addr, tls.VersionTLS13, protocol)
			_, _ = c.Write([]byte{3, 0xff, 1})
			return c
		}},
		{"a message without end", func(t *testing.T, addr string) net.Conn {
			c, _ := handshake(t, addr, tls.VersionTLS13, protocol)
			_, _ = c.Write([]byte{0xff, 0xff, 1})
			return c
		}},
		{"another protocol", func(t *testing.T, addr string) net.Conn {
			c, _ := handshake(t, addr, tls.VersionTLS13, "http/1.1")
			return c
		}},
		{"no protocol", func(t *testing.T, addr string) net.Conn {
			c, _ := handshake(t, addr, tls.VersionTLS13)
			return c
		}},
		{"TLS 1.2", func(t *testing.T, addr string) net.Conn {
			c, err := handshake(t, addr, tls.VersionTLS12, protocol)
			if err == nil {
				t.Error("TLS 1.2 is accepted")
			}
			return c
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, log := startNode(t, ListenOptions{Timeout: 200 * time.Millisecond})
			c := tt.start(t, addr)
			_ = c.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection is still open")
			}
			if n := strings.Count(log.String(), "cluster connection refused"); n > 1 {
				t.Errorf("%d lines in the log", n)
			}
		})
	}
}

// handshake is one of a stranger, which the server may end at any time.
func handshake(t *testing.T, addr string, version uint16, protocols ...string) (net.Conn, error) {
	c := tls.Client(dialTCP(t, addr), &tls.Config{InsecureSkipVerify: true, NextProtos: protocols, MaxVersion: version})
	return c, c.HandshakeContext(t.Context())
}

func dialTCP(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestPendingConnectionsAreBounded opens more connections than may wait for a proof. A node connects
// when they are gone.
func TestPendingConnectionsAreBounded(t *testing.T) {
	addr, log := startNode(t, ListenOptions{})
	var silent []net.Conn
	for range maxPendingPerAddress {
		c, _ := connect(t, addr)
		silent = append(silent, c)
	}
	extra := dialTCP(t, addr)
	if _, err := io.Copy(io.Discard, extra); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Log(err) // a reset
	}
	for !strings.Contains(log.String(), "too many connections without a proof from this address") {
		<-time.After(time.Millisecond) // it is logged after the connection was closed
	}
	for _, c := range silent {
		c.Close()
	}
	d := &Dialer{Identity: Identity{"a", []string{secret}}, Timeout: time.Minute}
	for { // until the server has noticed it
		c, err := d.Dial(t.Context(), "b", addr)
		if err == nil {
			c.Close()
			return
		}
	}
}

// TestDialIsBounded connects to a server that accepts and says nothing.
func TestDialIsBounded(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	d := &Dialer{Identity: Identity{"a", []string{secret}}, Timeout: 50 * time.Millisecond}
	if _, err := d.Dial(t.Context(), "b", silent.Addr().String()); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Dial(ctx, "b", silent.Addr().String()); err == nil {
		t.Error("it has connected")
	}
}

// messages are valid ones, as seeds.
func messages() [][]byte {
	id := Identity{"a", []string{secret, other}}
	r, _ := (&Identity{"b", []string{other}}).answer(id.hello("b", []byte("keys")), []byte("keys"))
	return [][]byte{
		id.hello("b", []byte("keys")).append(nil), r.append(nil), (&reply{refusal: "no"}).append(nil), nil,
	}
}

// FuzzMessages parses messages of strangers. What is accepted has one form only.
func FuzzMessages(f *testing.F) {
	for _, m := range messages() {
		f.Add(m)
	}
	id := Identity{"b", []string{secret}}
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := parseHello(b); err == nil {
			again, err := parseHello(h.append(nil))
			if err != nil || again.client != h.client || again.server != h.server || !slices.Equal(again.proofs, h.proofs) {
				t.Errorf("%+v became %+v, %v", h, again, err)
			}
			if _, err := id.answer(&h, []byte("other keys")); err == nil {
				t.Errorf("%+v is accepted", h)
			}
		}
		if r, err := parseReply(b); err == nil {
			if again, err := parseReply(r.append(nil)); err != nil || again != r {
				t.Errorf("%+v became %+v, %v", r, again, err)
			}
			if err := id.verify(&r, "a", []byte("other keys")); err == nil {
				t.Errorf("%+v is accepted", r)
			}
		}
	})
}

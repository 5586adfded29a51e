package redis

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"livego/internal/domain"
)

// replies are what a Redis, or another program at its address, may send, and whether limitedConn
// accepts it; they seed the fuzz target too.
var replies = []struct {
	name, bytes string
	ok          bool
}{
	{"status", "+OK\r\n", true},
	{"error", "-ERR no\r\n", true},
	{"number", ":1\r\n", true},
	{"string", "$5\r\nhello\r\n", true},
	{"string that looks like a length", "$13\r\n$99999999999\n\r\n+OK\r\n", true},
	{"nil", "$-1\r\n*-1\r\n_\r\n", true},
	{"empty", "$0\r\n\r\n*0\r\n", true},
	{"array", "*2\r\n$1\r\na\r\n:1\r\n", true},
	{"push", ">2\r\n+invalidate\r\n*0\r\n", true},
	{"5 GB", "$5000000000\r\n", false},
	{"more than 64 bits", "$99999999999999999999\r\n", false},
	{"one byte too long", "$8388609\r\n", false},
	{"an endless array", "*2000000000\r\n", false},
	{"an endless map", "%2000000000\r\n", false},
	{"no length", "$x\r\n", false},
	{"streamed", "$?\r\n", false},
	{"an endless line", "+" + strings.Repeat("x", maxLine), false},
	{"HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n", true}, // the client library refuses it
	{"empty line", "\r\n", true},
}

func TestReplyLimits(t *testing.T) {
	for _, c := range replies {
		for size := range 9 { // however it is split
			g := &limitedConn{}
			var err error
			for b := []byte(c.bytes); len(b) > 0 && err == nil; {
				n := min(max(1, size), len(b))
				if size == 8 {
					n = len(b)
				}
				err = g.scan(b[:n])
				b = b[n:]
			}
			if (err == nil) != c.ok {
				t.Errorf("%s in pieces of %d: %v", c.name, size, err)
			}
		}
	}
}

func FuzzReplyLimits(f *testing.F) {
	for _, c := range replies {
		f.Add([]byte(c.bytes), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		whole, pieces := &limitedConn{}, &limitedConn{}
		err := whole.scan(b)
		at = min(max(0, at), len(b))
		err2 := pieces.scan(b[:at])
		if err2 == nil {
			err2 = pieces.scan(b[at:])
		}
		if (err == nil) != (err2 == nil) {
			t.Errorf("%q: whole %v, cut at %d %v", b, err, at, err2)
		}
		if len(whole.line) > maxLine || whole.skip > maxReply+2 {
			t.Errorf("it buffers %d bytes and expects %d", len(whole.line), whole.skip)
		}
	})
}

// TestHostileRedis has a program at Redis's address answer every command with the same bytes. Each
// operation must end in time and with an error, and no key may resolve.
func TestHostileRedis(t *testing.T) {
	for _, c := range append(replies, []struct {
		name, bytes string
		ok          bool
	}{
		{"nothing", "", true},
		{"half a reply", "$100\r\nhalf", true},
		{"MOVED", "-MOVED 1 127.0.0.1:1\r\n", true},
		{"ASK", "-ASK 1 127.0.0.1:1\r\n", true},
		{"LOADING", "-LOADING Redis is loading the dataset in memory\r\n", true},
		{"a million errors", strings.Repeat("-ERR no\r\n", 1_000_000), true},
	}...) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := open(t, listenAndAnswer(t, c.bytes))
			k := domain.Key{Room: "movie"}.Complete()
			for op, f := range operations(s, k) {
				err := within(t, op, func() error { return f(t.Context()) })
				if op == "resolve" && err == nil {
					t.Error("a key resolves")
				}
				if kind := domain.KindOf(err); err != nil && kind != domain.Unavailable && kind != domain.Internal &&
					kind != domain.Denied && kind != domain.NotFound {
					t.Errorf("%s: %v (%v)", op, err, kind)
				}
			}
		})
	}
}

// listenAndAnswer answers each command with the same bytes.
func listenAndAnswer(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	t.Cleanup(func() {
		l.Close()
		<-served
	})
	go func() {
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(20 * time.Second))
				r := bufio.NewReader(c)
				for {
					if line, err := r.ReadString('\n'); err != nil {
						return
					} else if line[0] != '*' {
						continue
					}
					if _, err := io.WriteString(c, answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// values are what Redis may hold under one of livego's names; they seed the fuzz target.
var values = []string{
	"", "x", valueVersion, valueVersion + strings.Repeat("0", checksumLen) + " {}",
	encodeValue(roomName+"movie", roomRecord{}), encodeValue(roomName+"other", roomRecord{}),
	encodeRoom("movie", []domain.Key{domain.Key{Room: "movie"}.Complete()}), "\x00\xff", `{"room":"movie"}`,
}

func FuzzDecodeRoom(f *testing.F) {
	for _, v := range values {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, s string) {
		keys, err := decodeRoom("movie", s)
		if err != nil && !errors.Is(err, errForeign) {
			t.Errorf("%q: %v", s, err)
		}
		if err != nil || s == "" {
			return
		}
		body := s[len(valueVersion)+checksumLen+1:]
		if !json.Valid([]byte(body)) || s != valueVersion+checksum(roomName+"movie", body)+" "+body {
			t.Errorf("%q is decoded as a room with %d keys", s, len(keys))
		}
	})
}

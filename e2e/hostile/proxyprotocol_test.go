package hostile

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"livego/e2e/harness"
	"livego/e2e/rtmp"
)

// TestProxyProtocolOnEachListener has a trusted proxy connect to each listener with a PROXY header,
// before TLS where the listener uses TLS. The webhook and the log get the address of the client, and
// a connection of the proxy without the header is closed.
func TestProxyProtocolOnEachListener(t *testing.T) {
	t.Parallel()
	const proxy = "127.0.0.9"
	var mu sync.Mutex
	asked := map[string]string{} // by room: the action and the client
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Action, Room, Remote string }
		err := json.NewDecoder(r.Body).Decode(&q)
		mu.Lock()
		defer mu.Unlock()
		asked[q.Room] = q.Action + " " + q.Remote
		json.NewEncoder(w).Encode(map[string]any{"allow": err == nil})
	}))
	defer hook.Close()
	cert, key, _ := harness.Certificate(t)
	s := start(t, "--trusted_proxies=10.9.9.9,"+proxy, "--proxy_protocol=rtmp,rtmps,httpflv,hls,https,api",
		"--enable_rtmps=true", "--enable_https=true", "--rtmps_cert="+cert, "--rtmps_key="+key,
		"--hook.on_publish="+hook.URL, "--hook.on_play="+hook.URL, "--hook.secret="+strings.Repeat("s", 32))
	// open connects to a listener as the proxy, for the client with that number; 0: without a header.
	open := func(t *testing.T, flag string, client int) net.Conn {
		header := ""
		switch {
		case client > 0 && client%2 == 0:
			header = proxyV2(fmt.Sprintf("192.0.2.%d", client))
		case client > 0:
			header = fmt.Sprintf("PROXY TCP4 192.0.2.%d 127.0.0.1 4711 1\r\n", client)
		}
		nc := s.dialRaw(t, proxy, flag, header)
		if flag == "rtmps_addr" || flag == "https_addr" {
			return tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
		}
		return nc
	}
	publish := func(t *testing.T, nc net.Conn, room string) {
		p := &peer{Conn: rtmp.NewConn(nc), t: t, on: s, app: "live", room: room}
		p.advance(publishing)
	}
	play := func(t *testing.T, nc net.Conn, room string) {
		io.WriteString(nc, get("/live/"+room+".flv"))
	}
	for i, c := range []struct {
		flag, action string
		use          func(*testing.T, net.Conn, string)
	}{
		{"rtmp_addr", "publish", publish},
		{"rtmps_addr", "publish", publish},
		{"httpflv_addr", "play", play},
		{"hls_addr", "play", play},
		{"https_addr", "play", play},
	} {
		t.Run(c.flag, func(t *testing.T) {
			for _, client := range []int{10 + 2*i, 11 + 2*i} {
				room, want := fmt.Sprint("room", client), fmt.Sprintf("%s 192.0.2.%d:4711", c.action, client)
				c.use(t, open(t, c.flag, client), room)
				harness.Eventually(t, longTimeout, "the webhook is asked", func() error {
					mu.Lock()
					defer mu.Unlock()
					if asked[room] != want {
						return fmt.Errorf("it was asked for %q, want %q", asked[room], want)
					}
					return nil
				})
			}
			nc := open(t, c.flag, 0)
			go io.WriteString(nc, strings.Repeat("x", 2000)) // over TLS, a handshake
			keepsAtMost(t, 0, []net.Conn{socketOf(nc)})
		})
	}
	t.Run("X-Forwarded-For of a proxy before it", func(t *testing.T) {
		nc := s.dialRaw(t, proxy, "httpflv_addr", "PROXY TCP4 10.9.9.9 127.0.0.1 1 1\r\n"+
			get("/live/forwarded.flv", "X-Forwarded-For: 1.2.3.4, 192.0.2.3"))
		defer nc.Close()
		harness.Eventually(t, longTimeout, "the webhook is asked", func() error {
			mu.Lock()
			defer mu.Unlock()
			if asked["forwarded"] != "play 192.0.2.3:0" {
				return fmt.Errorf("it was asked for %q", asked["forwarded"])
			}
			return nil
		})
	})
	t.Run("api_addr", func(t *testing.T) {
		for _, client := range []int{30, 31} {
			nc := open(t, "api_addr", client)
			if status := getStatus(nc, "/control/get?room=x", "Host: localhost"); status != http.StatusForbidden {
				t.Errorf("client %d: HTTP %d, want a refusal", client, status)
			}
		}
		keepsAtMost(t, 0, []net.Conn{s.dialRaw(t, proxy, "api_addr", get("/healthz"))})
	})
	s.auditLog(t)
}

// socketOf returns the socket below TLS.
func socketOf(nc net.Conn) net.Conn {
	if c, ok := nc.(*tls.Conn); ok {
		return c.NetConn()
	}
	return nc
}

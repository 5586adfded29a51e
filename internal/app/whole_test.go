package app

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"

	"livego/internal/netx"
)

// TestWholeConn has bodies of all sizes around those of net/http's buffers sent by an http.Server.
func TestWholeConn(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := new(viewers)
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, err := strconv.Atoi(r.URL.Query().Get("n"))
			if err != nil {
				t.Error(err)
			}
			p := v.patiently(w, r)
			p.stall = patience
			p.served = func() {}
			p.Header().Set("Content-Length", strconv.Itoa(n))
			if _, err := p.Write(bytes.Repeat([]byte("x"), n)); err != nil {
				t.Error(err)
			}
		}),
		ConnContext: netx.WithConn,
	}
	go srv.Serve(wholeListener{ln})
	defer srv.Close()
	client := &http.Client{Transport: new(http.Transport)}
	defer client.CloseIdleConnections()
	for _, n := range []int{0, 1, 2047, 2048, 4000, 4096, 8191, 8192, 8193, 12000, 65536, 1 << 20} {
		for range 2 { // on one connection
			resp, err := client.Get("http://" + ln.Addr().String() + "/?n=" + strconv.Itoa(n))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || len(b) != n || len(bytes.Trim(b, "x")) != 0 {
				t.Errorf("%d bytes: %d came, %v", n, len(b), err)
			}
		}
	}
}

// patience is how long a test waits for progress.
const patience = 10e9

package http1

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// BenchmarkRequest compares the fast path with net/http for one client and several sizes.
func BenchmarkRequest(b *testing.B) {
	for _, size := range []int{2 << 10, 64 << 10, 512 << 10} {
		body, length := make([]byte, size), strconv.Itoa(size)
		handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "video/mp2t")
			w.Header().Set("Content-Length", length)
			_, _ = w.Write(body)
		})
		run := func(b *testing.B, addr string) {
			c := dial(b, addr)
			_ = c.SetDeadline(time.Time{})
			in := make([]byte, 1<<20)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := io.WriteString(c,
					"GET /live/movie/1-2.ts HTTP/1.1\r\nHost: localhost\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n"); err != nil {
					b.Fatal(err)
				}
				for got, want := 0, size; got < want; {
					n, err := c.Read(in)
					if err != nil {
						b.Fatal(err)
					}
					if got == 0 {
						want += bytes.Index(in[:n], endOfHead) + len(endOfHead)
					}
					got += n
				}
			}
		}
		for name, serve := range map[string]func(testing.TB, server) string{"": serve, "tls/": serveTLS} {
			b.Run(fmt.Sprintf("%shttp1/%d", name, size), func(b *testing.B) {
				run(b, serve(b, New(&http.Server{Handler: handler}, Options{StallTimeout: testTimeout})))
			})
			b.Run(fmt.Sprintf("%snethttp/%d", name, size), func(b *testing.B) {
				run(b, serve(b, &http.Server{Handler: handler}))
			})
		}
	}
}

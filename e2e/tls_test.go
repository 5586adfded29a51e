package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/rtmp"
	"livego/e2e/sample"
	"livego/internal/ops/acme/acmetest"
)

// tlsCertificate creates a certificate for 127.0.0.1, and returns its files and an HTTP client that
// trusts it.
func tlsCertificate(t *testing.T) (cert, key string, client *http.Client) {
	t.Helper()
	cert, key, pool := harness.Certificate(t)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return cert, key, &http.Client{Transport: transport}
}

// TestTLS pushes and plays by RTMPS, and watches by HTTPS on https_addr and on hls_addr.
func TestTLS(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	cert, key, client := tlsCertificate(t)
	s := harness.Start(t, harness.Options{Flags: []string{"--enable_rtmps=true", "--enable_https=true",
		"--use_hls_https=true", "--rtmps_cert=" + cert, "--rtmps_key=" + key}})
	src := load(t, sample.AV)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	rtmps := "rtmps://" + s.Addr("rtmps_addr") + "/live/"
	push := s.PushTo(src.File(t), rtmps+s.Key("movie"))
	s.AwaitLive("movie")
	viewer := watchRTMP(t, rtmps+"movie")
	plain := watchRTMP(t, s.RTMP("movie")) // RTMPS is served beside RTMP, not instead of it
	https := "https://" + s.Addr("https_addr") + "/live/movie"
	flv := async(func() (*mediacompare.FLVFile, error) { return watchFLV(ctx, client, https+".flv") })
	hls := async(func() (hlsView, error) { return watchHLS(ctx, client, https+".m3u8") })
	own := async(func() (hlsView, error) {
		return watchHLS(ctx, client, "https://"+s.Addr("hls_addr")+"/live/movie.m3u8")
	})
	push.WaitOK(patience)

	check(t, "RTMPS", src.packets, frames(t, viewer), mediacompare.Millisecond)
	check(t, "RTMP beside RTMPS", src.packets, frames(t, plain), mediacompare.Millisecond)
	if got, err := flv(); err != nil {
		t.Errorf("FLV by HTTPS: %v", err)
	} else {
		src.checkFLV(t, "FLV by HTTPS", got)
	}
	for name, wait := range map[string]func() (hlsView, error){"https_addr": hls, "hls_addr": own} {
		if got, err := wait(); err != nil {
			t.Errorf("HLS by HTTPS on %s: %v", name, err)
		} else {
			src.checkHLS(t, "HLS by HTTPS on "+name, got)
		}
	}
	resp, _, err := fetch(ctx, client, https+".m3u8")
	if err != nil || resp.ProtoMajor != 2 {
		t.Errorf("HTTPS answers %v, %v, want HTTP/2", resp, err)
	}
}

// tlsListeners lists all listeners with TLS, and the setting that enables it.
var tlsListeners = []struct {
	on, addr string
	beside   string // the listener without TLS that stays; "" if TLS replaces it
	http     bool
	path     string // returns 200
}{
	{on: "enable_rtmps", addr: "rtmps_addr", beside: "rtmp_addr"},
	{on: "enable_https", addr: "https_addr", beside: "httpflv_addr", http: true, path: "/crossdomain.xml"},
	{on: "use_hls_https", addr: "hls_addr", http: true, path: "/crossdomain.xml"},
	{on: "use_api_https", addr: "api_addr", http: true, path: "/readyz"},
}

// TestTLSListeners enables TLS for each listener separately: with certificate files, and with the
// name of a domain. All other listeners stay without TLS.
func TestTLSListeners(t *testing.T) {
	t.Parallel()
	for _, l := range tlsListeners {
		for _, by := range []string{"files", "a domain"} {
			t.Run(l.on+" by "+by, func(t *testing.T) {
				t.Parallel()
				flags, trust := []string{"--" + l.on + "=true"}, new(tls.Config)
				o := harness.Options{NoWait: true}
				if by == "files" {
					cert, key, pool := harness.Certificate(t)
					trust.RootCAs = pool
					flags = append(flags, "--rtmps_cert="+cert, "--rtmps_key="+key)
				} else {
					port := harness.FreePorts(t, 1)[0]
					a := acmetest.New(t, port)
					trust.RootCAs, trust.ServerName = a.Root(), acmeDomain
					more, env := acmeFlags(t, a, port)
					flags, o.Env = append(flags, more...), env
				}
				o.Flags = flags
				s := harness.Start(t, o)
				var c *tls.Conn
				harness.Eventually(t, patience, "TLS", func() (err error) {
					config := trust.Clone()
					config.NextProtos = []string{"h2", "http/1.1"}[:map[bool]int{true: 2}[l.http]]
					c, err = tls.Dial("tcp", s.Addr(l.addr), config)
					return err
				})
				defer c.Close()
				if state := c.ConnectionState(); state.Version < tls.VersionTLS12 || l.http && state.NegotiatedProtocol != "h2" {
					t.Errorf("version %x, protocol %q", state.Version, state.NegotiatedProtocol)
				}
				old := trust.Clone()
				old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
				if _, err := tls.Dial("tcp", s.Addr(l.addr), old); err == nil {
					t.Error("it accepts TLS 1.1")
				}
				if l.http {
					checkHTTPS(t, "https://"+s.Addr(l.addr)+l.path, trust)
				} else if err := rtmpHandshake(c); err != nil {
					t.Errorf("RTMP over TLS: %v", err)
				}
				checkPlain(t, s, l.addr, l.beside)
			})
		}
	}
}

// checkHTTPS requests a page by HTTP/2 and by HTTP/1.1.
func checkHTTPS(t *testing.T, target string, trust *tls.Config) {
	t.Helper()
	for major, h2 := range map[int]bool{1: false, 2: true} {
		transport := &http.Transport{TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: h2}
		defer transport.CloseIdleConnections()
		harness.Eventually(t, patience, target, func() error {
			resp, _, err := fetch(t.Context(), &http.Client{Transport: transport}, target)
			if err == nil && (resp.StatusCode != 200 || resp.ProtoMajor != major) {
				err = fmt.Errorf("%s %s", resp.Proto, resp.Status)
			}
			return err
		})
	}
}

// rtmpHandshake does the handshake of RTMP.
func rtmpHandshake(c net.Conn) error {
	conn := rtmp.NewConn(c)
	if _, err := c.Write(rtmp.ClientHandshake(3)); err != nil {
		return err
	}
	_, err := conn.ReadServerHandshake(patience)
	return err
}

// checkPlain connects to every listener without TLS: all but the one at addr must accept that.
func checkPlain(t *testing.T, s *harness.Server, addr, beside string) {
	t.Helper()
	for _, other := range []string{"rtmp_addr", "httpflv_addr", "hls_addr", "api_addr"} {
		var err error
		if other == "rtmp_addr" {
			var c net.Conn
			if c, err = net.Dial("tcp", s.Addr(other)); err == nil {
				err = rtmpHandshake(c)
				c.Close()
			}
		} else {
			var resp *http.Response
			resp, _, err = fetch(t.Context(), harness.Client(),
				"http://"+s.Addr(other)+map[bool]string{true: "/healthz", false: "/crossdomain.xml"}[other == "api_addr"])
			if err == nil && resp.StatusCode != 200 {
				err = errors.New(resp.Status)
			}
		}
		if (err == nil) != (other != addr) {
			t.Errorf("%s without TLS, with TLS on %s: %v", other, addr, err)
		}
	}
	if c, err := net.Dial("tcp", s.Addr(beside)); beside != "" && err != nil {
		t.Errorf("%s beside %s: %v", beside, addr, err)
	} else if beside != "" {
		c.Close()
	}
}

// TestCertificateReload replaces the certificate files of a running server: new connections get the
// new certificate, and an invalid file changes nothing.
func TestCertificateReload(t *testing.T) {
	t.Parallel()
	cert, key, old := harness.Certificate(t)
	s := harness.Start(t, harness.Options{Flags: []string{"--enable_https=true", "--rtmps_cert=" + cert,
		"--rtmps_key=" + key}})
	trusted := func(pool *x509.CertPool) error {
		c, err := tls.Dial("tcp", s.Addr("https_addr"), &tls.Config{RootCAs: pool})
		if err == nil {
			c.Close()
		}
		return err
	}
	if err := trusted(old); err != nil {
		t.Fatal(err)
	}
	newCert, newKey, fresh := harness.Certificate(t)
	for from, to := range map[string]string{newCert: cert, newKey: key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	harness.Eventually(t, 10*time.Second, "the new certificate", func() error { return trusted(fresh) })
	if err := os.WriteFile(cert, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.AwaitStderr(10*time.Second, func(log string) bool {
		return strings.Contains(log,
			"changed certificate is invalid: keeping the old one")
	})
	if err := trusted(fresh); err != nil {
		t.Errorf("after an invalid file: %v", err)
	}
}

// TestKeysCommandOverTLS manages keys through a server whose operator's HTTP has TLS. A server with
// another certificate gets no credential.
func TestKeysCommandOverTLS(t *testing.T) {
	t.Parallel()
	cert, key, _ := harness.Certificate(t)
	s := harness.Start(t, harness.Options{NoWait: true,
		Flags: []string{"--use_api_https=true", "--rtmps_cert=" + cert, "--rtmps_key=" + key}})
	keys := func(cert, key string) (int, *harness.Process) {
		p := harness.Livego(t, t.TempDir(), nil, "keys", "make", "movie", "--label=cam", "--data_dir="+s.DataDir,
			"--api_addr="+s.Addr("api_addr"),
			"--use_api_https=true", "--rtmps_cert="+cert, "--rtmps_key="+key)
		return p.Wait(patience), p
	}
	harness.Eventually(t, patience, "server ready", func() error {
		c, err := net.Dial("tcp", s.Addr("api_addr"))
		if err == nil {
			c.Close()
		}
		return err
	})
	otherCert, otherKey, _ := harness.Certificate(t)
	if code, p := keys(otherCert, otherKey); code == 0 {
		t.Errorf("a server with another certificate is trusted: %s", p.Stdout())
	}
	if code, p := keys(cert, key); code != 0 || len(strings.TrimSpace(p.Stdout())) != 48 {
		t.Errorf("livego keys make: code %d, %q %s", code, p.Stdout(), p.Stderr())
	}
}

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"livego/e2e/essence"
	"livego/e2e/rig"
	"livego/e2e/sample"
)

// certificate makes a certificate for 127.0.0.1 and returns its files and an HTTP client that trusts it.
func certificate(t *testing.T) (cert, key string, client *http.Client) {
	t.Helper()
	cert, key, pool := rig.Certificate(t)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return cert, key, &http.Client{Transport: transport}
}

// TestTLS pushes and plays by RTMPS, and watches by HTTPS on the viewers' own port and on the one of HLS.
func TestTLS(t *testing.T) {
	rig.Need(t, "ffmpeg")
	t.Parallel()
	cert, key, client := certificate(t)
	s := rig.Start(t, rig.Options{Flags: []string{"--enable_rtmps=true", "--enable_https=true", "--use_hls_https=true", "--rtmps_cert=" + cert, "--rtmps_key=" + key}})
	src := load(t, sample.AV)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	rtmps := "rtmps://" + s.Addr("rtmps_addr") + "/live/"
	push := s.PushTo(src.File(t), rtmps+s.Key("movie"))
	s.AwaitLive("movie")
	viewer := watchRTMP(t, rtmps+"movie")
	plain := watchRTMP(t, s.RTMP("movie")) // RTMPS stands beside RTMP, it does not replace it
	https := "https://" + s.Addr("https_addr") + "/live/movie"
	flv := async(func() (*essence.FLVFile, error) { return watchFLV(ctx, client, https+".flv") })
	hls := async(func() (hlsView, error) { return watchHLS(ctx, client, https+".m3u8") })
	own := async(func() (hlsView, error) {
		return watchHLS(ctx, client, "https://"+s.Addr("hls_addr")+"/live/movie.m3u8")
	})
	push.OK(patience)

	check(t, "RTMPS", src.packets, frames(t, viewer), essence.Millisecond)
	check(t, "RTMP beside RTMPS", src.packets, frames(t, plain), essence.Millisecond)
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
		t.Errorf("HTTPS speaks %v, %v, want HTTP/2", resp, err)
	}
}

// TestCertificateIsRenewed replaces the files of the certificate under a running server: who comes then gets the new one, and garbage
// changes nothing.
func TestCertificateIsRenewed(t *testing.T) {
	t.Parallel()
	cert, key, old := rig.Certificate(t)
	s := rig.Start(t, rig.Options{Flags: []string{"--enable_https=true", "--rtmps_cert=" + cert, "--rtmps_key=" + key}})
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
	newCert, newKey, fresh := rig.Certificate(t)
	for from, to := range map[string]string{newCert: cert, newKey: key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	rig.Eventually(t, 10*time.Second, "the new certificate", func() error { return trusted(fresh) })
	if err := os.WriteFile(cert, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.AwaitStderr(10*time.Second, func(log string) bool { return strings.Contains(log, "cannot be used: the old one stays") })
	if err := trusted(fresh); err != nil {
		t.Errorf("after garbage: %v", err)
	}
}

package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Ports of the servers under test. None is a default, so a running livego is not affected.
const (
	floorPort = "19300"
	rtmpPort  = "19351"
	flvPort   = "19352"
	hlsPort   = "19353"
	apiPort   = "19354"
	rtmpsPort = "19355"
	httpsPort = "19356"
	nginxPort = "19400" // this and the next as in bench/nginx.conf
	nginxHTTP = "19401"
)

// A server is a server under test, with one or more protocols.
type server struct {
	name         string
	window       int
	cachesStream bool // it buffers seconds of the stream even without viewers
	command      []string
	port         string                        // accepts connections when the server is ready
	newKey       func() (crypto.Signer, error) // of its certificate; nil without TLS
	cases        []benchCase
}

// A benchCase is one protocol, with its arguments of livego bench.
type benchCase struct {
	proto string
	args  []string
}

// servers returns the installed servers, the floor first.
func (o *options) servers() []server {
	var all []server
	for _, w := range o.windows {
		all = append(all, server{
			name: fmt.Sprintf("floor, %d ms", w), window: w, port: floorPort,
			command: []string{o.floor, floorPort, fmt.Sprint(w)},
			cases: []benchCase{{"flv", []string{"--publish=tcp://127.0.0.1:" + floorPort,
				"--play=http://127.0.0.1:" + floorPort + "/live.flv"}}},
		})
	}
	all = append(all, o.livegoServers()...)
	if _, err := exec.LookPath(nginxPath); err == nil && o.nginx != "" {
		conf, err := filepath.Abs(o.nginx)
		if err == nil {
			url := "rtmp://127.0.0.1:" + nginxPort + "/live/bench"
			all = append(all, server{
				name: "nginx-rtmp", cachesStream: true, port: nginxPort,
				command: []string{nginxPath, "-e", "stderr", "-c", conf, "-p", "."},
				cases: []benchCase{
					{"rtmp", []string{"--publish=" + url, "--play=" + url}},
					{"hls", []string{"--publish=rtmp://127.0.0.1:" + nginxPort + "/hls/bench",
						"--play=http://127.0.0.1:" + nginxHTTP + "/bench.m3u8"}},
				},
			})
		}
	}
	return all
}

// nginxPath is where Debian installs nginx, which is not in every PATH.
const nginxPath = "/usr/sbin/nginx"

const livegoName = "livego"

// livegoServers returns livego with a certificate of each kind. It publishes by room name, so that
// no stream key is needed.
func (o *options) livegoServers() []server {
	command := append([]string{
		o.livego, "--rtmp_addr=127.0.0.1:" + rtmpPort, "--httpflv_addr=127.0.0.1:" + flvPort,
		"--hls_addr=127.0.0.1:" + hlsPort, "--api_addr=127.0.0.1:" + apiPort, "--rtmp_noauth", "--level=warn",
		"--enable_rtmps", "--rtmps_addr=127.0.0.1:" + rtmpsPort, "--enable_https", "--https_addr=127.0.0.1:" + httpsPort,
		"--rtmps_cert=" + certFile, "--rtmps_key=" + keyFile,
	}, o.server...)
	play := func(proto, url string, args ...string) benchCase {
		return benchCase{proto, append([]string{"--publish=rtmp://127.0.0.1:" + rtmpPort + "/live/bench", "--insecure",
			"--play=" + url}, args...)}
	}
	const (
		flv   = "http://127.0.0.1:" + flvPort + "/live/bench.flv"
		hls   = "http://127.0.0.1:" + hlsPort + "/live/bench.m3u8"
		https = "https://127.0.0.1:" + httpsPort + "/live/bench"
	)
	httpsFLV := play("https-flv", https+".flv")
	ecdsaServer := server{
		name: livegoName, cachesStream: true, port: rtmpPort, command: command, newKey: newECDSAKey,
		cases: []benchCase{
			play("rtmp", "rtmp://127.0.0.1:"+rtmpPort+"/live/bench"),
			play("flv", flv),
			httpsFLV,
			play("wss", "wss://127.0.0.1:"+httpsPort+"/live/bench.flv"),
			play("rtmps", "rtmps://127.0.0.1:"+rtmpsPort+"/live/bench"),
			play("h2-flv", https+".flv", "--http2"),
			play("hls", hls+"?format=ts"),
			play("https-hls", https+".m3u8?format=ts"),
			play("h2-hls", https+".m3u8?format=ts", "--http2"),
			play("llhls", "llhls+"+hls),
			play("https-llhls", "llhls+"+https+".m3u8"),
			play("h2-llhls", "llhls+"+https+".m3u8", "--http2"),
		},
	}
	resumed, rsaServer := ecdsaServer, ecdsaServer
	resumed.name = livegoName + ", sessions resumed"
	resumed.cases = []benchCase{play("https-flv", https+".flv", "--tls-resume")}
	rsaServer.name, rsaServer.newKey, rsaServer.cases = livegoName+", RSA 2048", newRSAKey, []benchCase{httpsFLV}
	return []server{ecdsaServer, resumed, rsaServer}
}

// Files of the certificate, in the directory in which a server runs.
const (
	certFile = "server.crt"
	keyFile  = "server.key"
)

func newECDSAKey() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }
func newRSAKey() (crypto.Signer, error)   { return rsa.GenerateKey(rand.Reader, 2048) }

// writeCertificate writes a key and a certificate that it signs itself.
func writeCertificate(dir string, newKey func() (crypto.Signer, error)) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}

const startTimeout = 10 * time.Second

// start runs the server in an empty directory until stop is called, and waits until it accepts
// connections.
func (s *server) start(ctx context.Context, stderr io.Writer) (stop func(), err error) {
	dir, err := os.MkdirTemp("", "livego-bench-")
	if err != nil {
		return nil, err
	}
	if s.newKey != nil {
		if err := writeCertificate(dir, s.newKey); err != nil {
			return nil, err
		}
	}
	path, err := filepath.Abs(s.command[0])
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, s.command[1:]...)
	cmd.Dir, cmd.Stderr = dir, stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = startTimeout
	if err := cmd.Start(); err != nil {
		_ = os.RemoveAll(dir) // report the first error only
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // stop ends it by a signal, which is not an error
	}()
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have exited
		<-ended
		_ = os.RemoveAll(dir) // the system cleans its temporary directory
	}
	if err := s.ready(ctx, ended); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// ready waits until the server's port accepts connections.
func (s *server) ready(ctx context.Context, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", "127.0.0.1:"+s.port)
		if err == nil {
			c.Close()
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("%s exited at start", strings.Join(s.command, " "))
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen on port %s", s.name, s.port)
		case <-poll.C:
		}
	}
}

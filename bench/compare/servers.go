package main

import (
	"context"
	"fmt"
	"io"
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
	nginxPort = "19400" // this and the next as in bench/nginx.conf
	nginxHTTP = "19401"
)

// A server is a server under test, with one or more protocols.
type server struct {
	name         string
	window       int
	cachesStream bool // it buffers seconds of the stream even without viewers
	command      []string
	port         string // accepts connections when the server is ready
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
	all = append(all, o.livegoServer())
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

// livegoServer publishes by room name, so that no stream key is needed.
func (o *options) livegoServer() server {
	command := append([]string{
		o.livego, "--rtmp_addr=127.0.0.1:" + rtmpPort, "--httpflv_addr=127.0.0.1:" + flvPort,
		"--hls_addr=127.0.0.1:" + hlsPort,
		"--api_addr=127.0.0.1:" + apiPort, "--rtmp_noauth", "--level=warn",
	}, o.server...)
	rtmp := "rtmp://127.0.0.1:" + rtmpPort + "/live/bench"
	return server{
		name: "livego", cachesStream: true, port: rtmpPort, command: command,
		cases: []benchCase{
			{"rtmp", []string{"--publish=" + rtmp, "--play=" + rtmp}},
			{"flv", []string{"--publish=" + rtmp, "--play=http://127.0.0.1:" + flvPort + "/live/bench.flv"}},
			{"hls", []string{"--publish=" + rtmp, "--play=http://127.0.0.1:" + hlsPort + "/live/bench.m3u8?format=ts"}},
			{"llhls", []string{"--publish=" + rtmp, "--play=llhls+http://127.0.0.1:" + hlsPort + "/live/bench.m3u8"}},
		},
	}
}

const startTimeout = 10 * time.Second

// start runs the server in an empty directory until stop is called, and waits until it accepts
// connections.
func (s *server) start(ctx context.Context, stderr io.Writer) (stop func(), err error) {
	dir, err := os.MkdirTemp("", "livego-bench-")
	if err != nil {
		return nil, err
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

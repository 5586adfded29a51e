package e2e

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/rtmp"
	"livego/e2e/sample"
)

// TestRelayAddressesMatchFFmpeg pushes to the same addresses by ffmpeg and by a relay, to a server
// that records the request: app, tcUrl and stream names are the same.
func TestRelayAddressesMatchFFmpeg(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{Flags: []string{allowLoopback}}), load(t, sample.AV)
	encoder := s.Push(src.File(t), "movie", "-stream_loop", "-1")
	s.AwaitLive("movie")
	for _, path := range []string{
		"app/name",
		"app/name?token=x&y=z",
		"app/instance/name",
		"app/?streamname=a&key=b%2Bc",
		"app/instance/?key=b",
		"app?auth=x/name",
		"app?auth=x/name?token=y",
		"app/instance?auth=x/name",
		"app/name?token=a/b",
		"app/a%2Fb",
		"app/a%20b%3Fc+d%26e",
		"app/a/b/c",
		"app//name",
		"app/mp4:a/b",
		"app/name.mp4",
		"app/name.flv",
		"app/key live=1",
		"ondemand/a/b",
		"app/x?auth=y&slist=name&z=1",
		"app/name?",
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			theirs, address := recordRequest(t)
			target := "rtmp://" + address + "/" + path
			harness.FFmpeg(t, "-re", "-i", src.File(t), "-c", "copy", "-f", "flv", target)
			want := theirs()
			ours, address := recordRequest(t)
			target = "rtmp://" + address + "/" + path
			shown := "rtmp://" + address + "/***"
			if app, _, ok := strings.Cut(path, "/"); ok && !strings.Contains(app, "?") {
				shown = "rtmp://" + address + "/" + app + "/***"
			}
			controlRelay(t, s, "push", "start", "movie", target, shown)
			got := ours()
			controlRelay(t, s, "push", "stop", "movie", target, shown)
			if len(want) == 0 || !maps.Equal(got, want) {
				t.Errorf("the relay requests %q\nffmpeg requests    %q", got, want)
			}
		})
	}
	t.Cleanup(func() {
		if encoder.Ended() {
			t.Errorf("the encoder has exited:\n%s", encoder.Stderr())
		}
	})
}

// recordRequest starts an RTMP server for one connection. The function that it returns waits for
// the end of the connection, and returns the arguments of its commands up to publish, with the
// server's address as "HOST".
func recordRequest(t *testing.T) (asked func() map[string]string, address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	address = ln.Addr().String()
	type result struct {
		asked map[string]string
		err   error
	}
	done := make(chan result, 1)
	go func() {
		r := result{asked: map[string]string{}, err: io.EOF}
		// a relay connects first to check that something listens
		for errors.Is(r.err, io.EOF) && len(r.asked) == 0 {
			nc, err := ln.Accept()
			if err != nil {
				done <- result{nil, err}
				return
			}
			nc.SetDeadline(time.Now().Add(patience))
			r.err = answerPublish(nc, r.asked)
			nc.Close()
		}
		for key, value := range r.asked {
			r.asked[key] = strings.ReplaceAll(value, address, "HOST")
		}
		done <- r
	}()
	return func() map[string]string {
		t.Helper()
		r := <-done
		if r.err != nil {
			t.Fatal(r.err)
		}
		return r.asked
	}, address
}

// answerPublish is the server side of RTMP up to publish. It stores the arguments of the commands
// in asked.
func answerPublish(nc net.Conn, asked map[string]string) error {
	in := rtmp.NewReader(bufio.NewReader(nc))
	hello := make([]byte, 1+1536)
	if _, err := io.ReadFull(in.R, hello); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if _, err := nc.Write(append(append([]byte{3}, make([]byte, 1536)...), hello[1:]...)); err != nil {
		return err
	}
	if _, err := io.ReadFull(in.R, hello[1:]); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	for {
		m, err := in.ReadMessage()
		if err != nil {
			return fmt.Errorf("after %q: %w", asked, err)
		}
		name := ""
		for _, command := range []string{"connect", "releaseStream", "FCPublish", "createStream", "publish"} {
			if m.IsCommand(command) {
				name = command
			}
		}
		// After the name come the transaction ID, null, and the stream name.
		at := 3 + len(name) + 9
		answer := []any{"_result", 0, nil, 1}
		switch name {
		case "":
			continue
		case "connect":
			for _, key := range []string{"app", "tcUrl"} {
				_, value, _ := bytes.Cut(m.Payload, append([]byte{0, byte(len(key))}, key...))
				asked[key] = amfString(value)
			}
			answer = []any{"_result", 1, nil, rtmp.Object{"code", "NetConnection.Connect.Success", "level", "status"}}
		case "createStream":
		default:
			asked[name] = amfString(m.Payload[at+1:])
		}
		if name == "publish" {
			return nil
		}
		reply := rtmp.Message{CSID: 3, Type: rtmp.Command, Payload: rtmp.AMF(answer...)}
		copy(reply.Payload[len(rtmp.AMF("_result")):], m.Payload[3+len(name):at]) // the transaction ID
		if _, err := nc.Write(reply.DefaultChunks()); err != nil {
			return err
		}
	}
}

// amfString returns the AMF0 string at the start of b.
func amfString(b []byte) string {
	if len(b) < 3 || b[0] != 2 || len(b)-3 < int(binary.BigEndian.Uint16(b[1:])) {
		return fmt.Sprintf("not a string: %x", b[:min(len(b), 20)])
	}
	return string(b[3 : 3+int(binary.BigEndian.Uint16(b[1:]))])
}

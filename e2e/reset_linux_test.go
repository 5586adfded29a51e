package e2e

import (
	"encoding/binary"
	"fmt"
	"net"
	"syscall"
	"testing"
	"unsafe"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/rtmp"
	"livego/e2e/sample"
)

// TestConnectionResetKeepsReceivedMedia has an encoder reset its connection, as its kernel does if
// the socket is closed with unread data. At that time the server has not read all media, and has
// not sent an answer. Viewers get all media that had arrived. The log has its last timestamp, and
// how much of the last message was received and is missing.
func TestConnectionResetKeepsReceivedMedia(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{Flags: []string{"--publish_hold=0s"}}), load(t, sample.Small)
	c, err := rtmp.Dial(net.Dialer{}, s.Addr("rtmp_addr"), "live", patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.NetConn.Close()
	const chunk = 60000
	send := func(messages ...rtmp.Message) {
		t.Helper()
		for _, m := range messages {
			if err := c.Send(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(rtmp.Message{CSID: 2, Type: rtmp.SetChunkSize, Payload: binary.BigEndian.AppendUint32(nil, chunk)})
	c.ChunkSize = chunk
	if err := c.Publish(s.Key("movie")); err != nil {
		t.Fatal(err)
	}
	if err := c.AwaitStart("NetStream.Publish.Start", patience); err != nil {
		t.Fatal(err)
	}
	const most = 40 << 10 // bytes that fit into the receive buffer of the server
	sent, pending := &mediacompare.FLVFile{HasVideo: true, HasAudio: true}, 0
	media := func(ok func(mediacompare.FLVTag) bool) {
		t.Helper()
		for _, tag := range src.file.Tags[len(sent.Tags):] {
			if !ok(tag) {
				return
			}
			send(rtmp.Message{CSID: 4 + int(tag.Type)%2, Type: tag.Type, Time: tag.Time, StreamID: c.StreamID,
				Payload: tag.Body})
			sent.Tags = append(sent.Tags, tag)
		}
	}
	media(func(tag mediacompare.FLVTag) bool { return tag.Time < 1000 })
	s.AwaitLive("movie")
	viewer := async(func() (*mediacompare.FLVFile,
		error) {
		return watchFLV(t.Context(), harness.Client(), s.FLV("movie"))
	})
	src.awaitReceived(t, s, 1, 12)

	s.Signal(syscall.SIGSTOP)
	// a ping, whose answer is not read
	send(rtmp.Message{CSID: 2, Type: rtmp.UserControl, Payload: []byte{0, 6, 0, 0, 0, 1}})
	media(func(tag mediacompare.FLVTag) bool {
		pending += len(tag.Body) + 12
		return pending < most
	})
	// a message that the encoder has begun
	const unfinished, begun = 50_000, 1000
	_, err = c.NetConn.Write(append(rtmp.Message{CSID: 6, Type: 9, Time: sent.Tags[len(sent.Tags)-1].Time + 40,
		StreamID: c.StreamID}.Header(unfinished), make([]byte, begun)...))
	if err != nil {
		t.Fatal(err)
	}
	nc := c.NetConn.(*net.TCPConn)
	harness.Eventually(t, patience, "all data has arrived", func() error { return checkAcknowledged(nc) })
	if err := nc.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	s.Signal(syscall.SIGCONT)

	got, err := viewer()
	if err != nil {
		t.Fatal(err)
	}
	want, err := sent.Packets()
	if err != nil {
		t.Fatal(err)
	}
	packets, err := got.Packets()
	if err != nil {
		t.Fatal(err)
	}
	check(t, "HTTP-FLV", want, packets, mediacompare.Millisecond)
	last := sent.Tags[len(sent.Tags)-1]
	s.AwaitLog(patience, fmt.Sprintf("last_timestamp_ms=%d discarded_bytes=%d missing_bytes=%d", last.Time, begun,
		unfinished-begun))
}

// checkAcknowledged returns an error while the peer of nc has not acknowledged all data.
func checkAcknowledged(nc *net.TCPConn) error {
	raw, err := nc.SyscallConn()
	if err != nil {
		return err
	}
	var n int32
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&n)))
	})
	switch {
	case err != nil:
		return err
	case errno != 0:
		return errno
	case n > 0:
		return fmt.Errorf("%d bytes are not acknowledged", n)
	}
	return nil
}

package hostile

import "testing"

// TestPlayerMemory has players without a key announce chunks of 2 GiB and messages of 16 MB: while
// they play, for a stream that does not exist, and while they wait for it. The announced sizes must
// cost no memory, and a message that is longer than a player's may be is refused.
func TestPlayerMemory(t *testing.T) {
	t.Parallel()
	s := start(t, "--play_wait=10m", "--conns_per_ip=0")
	bystander := s.startBystander(t, "bystander")
	const (
		players = 60
		// MiB more than before: for hostile input, and for 60 players
		most = players*(64+128)/1024 + 40
	)
	before := s.WithT(t).MemoryMiB("VmRSS")
	for _, tt := range []struct {
		name, room string
		length     int // of the message that is announced
		chunk      int
		want       expectation
	}{
		{"16 MB, waiting for a stream", "nobody", 0xffffff, 1<<31 - 1, closes},
		{"16 MB, playing", "bystander", 0xffffff, 1<<31 - 1, closes},
		{"16 MB, before play", "", 0xffffff, 1<<31 - 1, closes},
		{"60 KiB less one byte, waiting for a stream", "nobody", 60 << 10, 60<<10 - 1, pongs},
		{"60 KiB less one byte, playing", "bystander", 60 << 10, 60<<10 - 1, pongs},
		{"60 KiB less one byte, before play", "", 60 << 10, 60<<10 - 1, pongs},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := make([]byte, min(tt.chunk, tt.length))
			var all []*peer
			defer func() {
				for _, p := range all {
					p.NetConn.Close()
				}
			}()
			for range players {
				p := s.dial(t)
				p.advance(connected)
				if tt.room != "" {
					p.play(tt.room)
				}
				if tt.room == "bystander" {
					p.await("onStatus", "NetStream.Play.Start")
				}
				all = append(all, p)
			}
			for _, p := range all {
				p.send(control(setChunkSize, be32(uint32(tt.chunk))),
					message{CSID: 5, Type: command, StreamID: p.StreamID}.Header(tt.length))
				p.send(body)
				p.send(control(userControl, []byte{0, 6, 1, 2, 3, 4}))
			}
			for _, p := range all {
				p.t = t
				tt.want(p)
			}
			now, peak := s.WithT(t).MemoryMiB("VmRSS"), s.WithT(t).MemoryMiB("VmHWM")
			t.Logf("%d MiB before, %d now, %d at the peak", before, now, peak)
			if peak > before+most {
				t.Errorf("%d MiB at the peak, %d before: want at most %d more", peak, before, most)
			}
		})
	}
	bystander.finish()
	s.audit(t, 0)
}

// pongs waits for the reply to a ping: the server has read all before it.
func pongs(p *peer) {
	p.t.Helper()
	for {
		m, err := p.ReadMessage(replyTimeout)
		if err != nil {
			p.t.Fatal(err)
		}
		if m.Type == userControl && len(m.Payload) > 1 && m.Payload[1] == 7 {
			return
		}
	}
}

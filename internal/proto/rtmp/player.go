package rtmp

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"time"

	"livego/internal/ops/netx"
)

// A Player is a player's connection whose bytes somebody else moves: he feeds it what the player
// sends, and sends what it returns. It needs no goroutine and little memory, for there are
// thousands. Not for concurrent use.
type Player struct {
	c        *ServerConn
	buffered []byte // what the connection had read before Detach
	input    []byte // the argument of the Feed in progress
}

// errNeedInput is how reading ends where all that was fed has been read.
var errNeedInput = errors.New("rtmp: nothing more is fed")

// readBufferDetached holds the longest chunk header.
const readBufferDetached = 32

// Detach turns c, of which Accept has returned a play request, into a Player. c must not be used
// any more, and its network connection neither: what was read of it already is in the Player.
func (c *ServerConn) Detach() *Player {
	c.negotiating, c.detached = false, true
	p := &Player{c: c}
	buffered, _ := c.in.br.Peek(c.in.br.Buffered())
	p.buffered = slices.Concat(buffered, c.src.leftover)
	c.src.leftover, c.src.in, c.nc = nil, nil, nil
	c.in.br = bufio.NewReaderSize(p, readBufferDetached)
	return p
}

// Read gives the chunk reader what is fed.
func (p *Player) Read(b []byte) (int, error) {
	from := &p.buffered
	if len(p.buffered) == 0 {
		p.buffered, from = nil, &p.input
	}
	if len(*from) == 0 {
		return 0, errNeedInput
	}
	n := copy(b, *from)
	*from = (*from)[n:]
	return n, nil
}

// Feed takes what the player has sent, which it does not keep, and returns what is to be sent to it
// between two messages. The error is ErrStreamEnded when it leaves, or a *ProtocolError. What it
// holds between two calls is limited as it is for a ServerConn: a header, and the bodies of
// unfinished messages.
func (p *Player) Feed(b []byte) (reply []byte, err error) {
	c := p.c
	c.src.total += uint64(len(b))
	if err := c.onRead(); err != nil {
		return nil, err
	}
	p.input = b
	err = p.handleMessages()
	p.input = nil
	return p.popPending(), err
}

// handleMessages acts on the handleMessages that are complete.
func (p *Player) handleMessages() error {
	for {
		m, err := p.c.next()
		switch {
		case errors.Is(err, errNeedInput):
			return nil
		case err != nil:
			return err
		case m.Type != typeCommand:
			p.c.opt.SkipCount("player_media")
		default:
			if err := p.c.serveCommand(m); err != nil {
				return err
			}
		}
	}
}

// popPending returns what is to be sent.
func (p *Player) popPending() []byte {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	out := p.c.pending
	p.c.pending = nil
	return out
}

// Serve answers a player on nc, whose connection it was, who waits for his stream, until ctx ends:
// then the error is that of ctx, and the player is as before. Any other error is how he left.
func (p *Player) Serve(ctx context.Context, nc net.Conn) error {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		nc.SetReadDeadline(time.Unix(1, 0))
	})
	defer func() {
		if !stop() {
			<-interrupted
		}
		nc.SetReadDeadline(time.Time{})
	}()
	var buf [readBufferPlayer]byte
	for {
		nc.SetReadDeadline(time.Now().Add(p.c.opt.PingInterval))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n, err := nc.Read(buf[:])
		reply, feedErr := p.Feed(buf[:n])
		switch {
		case feedErr != nil:
			return feedErr
		case ctx.Err() != nil && len(reply) == 0:
			return ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			reply = append(reply, p.Ping()...)
		case err != nil:
			return err
		}
		if _, err := netx.WriteBuffers(nc, &net.Buffers{reply}, p.c.opt.WriteTimeout); err != nil {
			return err
		}
	}
}

// Reject tells the player on nc, as ServerConn.Reject does, that there is nothing to see, and closes nc.
func (p *Player) Reject(nc net.Conn, code, description string) {
	defer nc.Close()
	last := net.Buffers{p.StatusError(code, description)}
	if _, err := netx.WriteBuffers(nc, &last, p.c.opt.WriteTimeout); err != nil {
		return
	}
	if w, ok := nc.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
	netx.Linger(nc, p.c.opt.LingerTimeout, p.c.opt.WriteTimeout)
}

// collect returns what a function of the connection has collect; what it cannot send it has not.
func (p *Player) collect(send func() error) []byte {
	if err := send(); err != nil {
		return nil
	}
	return p.popPending()
}

// Accept returns what grants the play.
func (p *Player) Accept() []byte { return p.collect(p.c.AcceptPlay) }

// Ping returns a ping.
func (p *Player) Ping() []byte { return p.collect(p.c.ping) }

// End returns what tells the player that there is no more to come, as EndPlay does.
func (p *Player) End(code, reason string) []byte {
	return p.collect(func() error { return p.c.EndPlay(code, reason) })
}

// StatusError returns what tells the player that he must go, as ServerConn.StatusError does.
func (p *Player) StatusError(code, description string) []byte {
	return p.collect(func() error { return p.c.StatusError(code, description) })
}

// RequestReconnect returns what ServerConn.RequestReconnect sends.
func (p *Player) RequestReconnect(why string) []byte {
	return p.collect(func() error { return p.c.RequestReconnect(why) })
}

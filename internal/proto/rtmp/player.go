package rtmp

import (
	"bufio"
	"errors"
	"slices"
)

// A Player is the protocol state of a player whose network connection belongs to the caller: the
// caller passes it the received bytes and sends the bytes that it returns. It needs no goroutine
// and little memory, because a server has thousands. It is not safe for concurrent use.
type Player struct {
	c        *ServerConn
	buffered []byte // bytes that the connection had read before Detach
	input    []byte // the argument of the current Feed
}

// errNeedInput ends reading when all input has been read.
var errNeedInput = errors.New("rtmp: more input needed")

// readBufferDetached holds the longest chunk header.
const readBufferDetached = 32

// Detach turns c, whose Accept has returned a play request, into a Player. c must not
// be used afterwards. The caller owns the network connection; the Player has the bytes that c has
// read from it already.
func (c *ServerConn) Detach() *Player {
	c.negotiating, c.detached = false, true
	p := &Player{c: c}
	buffered, _ := c.in.br.Peek(c.in.br.Buffered())
	p.buffered = slices.Concat(buffered, c.src.leftover)
	c.src.leftover, c.src.in, c.nc = nil, nil, nil
	c.in.br = bufio.NewReaderSize(p, readBufferDetached)
	return p
}

// Read returns the input to the chunk reader.
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

// Feed handles bytes that the player has sent, which it does not keep, and returns the reply, which
// is to be sent between two messages. The error is ErrStreamEnded when the player leaves, or a
// *ProtocolError. Between two calls it holds no more than a ServerConn does: a header, and the
// bodies of unfinished messages.
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

// handleMessages handles the messages that are complete.
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

// popPending returns the messages to send and clears them.
func (p *Player) popPending() []byte {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	out := p.c.pending
	p.c.pending = nil
	return out
}

// collect returns what send has queued, nil if it failed.
func (p *Player) collect(send func() error) []byte {
	if err := send(); err != nil {
		return nil
	}
	return p.popPending()
}

// Accept returns the messages that accept the play request.
func (p *Player) Accept() []byte { return p.collect(p.c.AcceptPlay) }

// Ping returns a ping request.
func (p *Player) Ping() []byte { return p.collect(p.c.ping) }

// End returns the messages that end the stream, as ServerConn.endPlay does.
func (p *Player) End(code, reason string) []byte {
	return p.collect(func() error { return p.c.endPlay(code, reason) })
}

// StatusError returns the messages that end the stream with an error, as ServerConn.StatusError
// does.
func (p *Player) StatusError(code, description string) []byte {
	return p.collect(func() error { return p.c.StatusError(code, description) })
}

// RequestReconnect returns the message that ServerConn.RequestReconnect sends.
func (p *Player) RequestReconnect(tcURL, why string) []byte {
	return p.collect(func() error { return p.c.RequestReconnect(tcURL, why) })
}

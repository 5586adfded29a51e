package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"livego/internal/codec/accessunit"
	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

const (
	firstFrameTimeout = 40 * time.Second // for the first frame: some servers let players wait for half a minute
	maxEmptyMessages  = 1000             // messages without a frame in a row
	// maxAheadOfRealtime is how far a stream may be ahead of real time. Servers send less than
	// this to new viewers at once.
	maxAheadOfRealtime = 5 * time.Minute
	maxStep            = 10 * time.Second // between two frames of a track; a larger step is a jump of the clock
	maxRedirects       = 5
	maxHeader          = 64 << 10 // bytes of an HTTP response header
	readBuffer         = 32 << 10
)

var (
	errNoFrames      = errors.New("no frame within the read timeout")
	errEmptyMessages = fmt.Errorf("%d messages without a frame", maxEmptyMessages)
	errTooFast       = errors.New("the stream is faster than real time: it is a file, or the remote server pulls it " +
		"from this server")
)

// A messageSource returns the messages of a pulled stream.
type messageSource struct {
	next func() (typ uint8, timestamp uint32, body []byte, err error)
	// receiving reports whether a message has been received in part. It may be called
	// concurrently with next.
	receiving func() bool

	remote string // host:port
	close  func()
}

// pull publishes the stream of the remote server until either ends. The stream is then held as
// after a lost publisher, because a server that restarts cannot be told from one whose stream has
// ended.
func (m *Manager) pull(ctx context.Context, r *relay) error {
	grant, err := m.options().Authorizer.Authorize(ctx, domain.AuthRequest{Action: domain.Publish, App: r.Name.App,
		Name: r.Name.Room, Proto: protoPull})
	if err != nil {
		return err
	}
	m.setState(r, stateConnecting)
	pullCtx, disconnect := context.WithCancelCause(ctx)
	defer disconnect(nil)
	silence := time.AfterFunc(firstFrameTimeout, func() { disconnect(errNoFrames) })
	defer silence.Stop()
	open := m.openRTMP
	if r.target.rtmp.Host == "" {
		open = m.openHTTP
	}
	src, err := open(pullCtx, r)
	if err == nil {
		defer src.close()
		err = m.publish(pullCtx, r, grant, src, func() { silence.Reset(m.options().ReadTimeout) })
	}
	if pullCtx.Err() != nil {
		err = context.Cause(pullCtx)
	}
	return describeEOF(err)
}

// protoPull is the protocol of pulls in statistics and authorization.
const protoPull = "pull"

// publish publishes the messages of src. It calls alive for each message with frames.
func (m *Manager) publish(ctx context.Context, r *relay, grant domain.Grant, src *messageSource, alive func()) error {
	var (
		skips    = media.NewSkips(r.log)
		demux    = flv.Demuxer{Skips: skips}
		p        *stream.Publisher
		pictures *accessunit.Writer
		empty    int
		lead     realtimeLead
	)
	defer func() {
		if p == nil {
			return
		}
		how := stream.Lost
		if context.Cause(ctx) == context.Canceled { // the relay was stopped
			how = stream.Clean
		}
		defer p.End(how)
		_ = pictures.Close() // the pull has already ended for another reason
	}()
	for {
		typ, timestamp, body, err := src.next()
		if err != nil {
			return err
		}
		r.observeBytes(len(body))
		frames, bad := demux.Message(typ, timestamp, body, time.Now())
		if bad != nil && !errors.Is(bad, flv.ErrSkip) {
			return bad
		}
		if len(frames) == 0 {
			if empty++; empty > maxEmptyMessages {
				return errEmptyMessages
			}
			if pictures != nil {
				err = pictures.Write(nil)
			}
			if err != nil {
				return err
			}
			continue
		}
		empty = 0
		alive()
		if p == nil {
			p, err = m.hub.Publish(ctx, grant.Name, stream.PublishOptions{
				Proto: protoPull, Remote: src.remote, URL: r.target.redacted, Role: grant.Role, Owner: grant.Owner(),
				Takeover: grant.Takeover, Skips: skips, Relay: true,
			})
			if err != nil {
				return err
			}
			m.setState(r, stateRunning)
			pictures = accessunit.NewWriter(func(f *media.Frame) error {
				if lead.update(f) > maxAheadOfRealtime {
					return errTooFast
				}
				return p.Write(f)
			}, src.receiving)
		}
		if err := pictures.Write(frames); err != nil {
			return err
		}
	}
}

// A realtimeLead measures how far a stream is ahead of real time. Servers that pull from each
// other in a ring resend what they hold as fast as they can once the publisher is gone. No live
// stream does so for long.
type realtimeLead struct {
	track   *media.Track // the first track: tracks are not in step
	dts     time.Duration
	arrived time.Time
	ahead   time.Duration
}

// update returns the lead after f, which Publisher.Write must not have changed yet.
func (l *realtimeLead) update(f *media.Frame) time.Duration {
	switch {
	case l.track == nil:
		l.track = f.Track
	case l.track.Kind != f.Track.Kind || l.track.ID != f.Track.ID:
		return l.ahead
	default:
		step := f.DTS - l.dts
		if step < 0 || step > maxStep {
			step = 0 // another encoder's clock
		}
		l.ahead = max(0, l.ahead+step-f.Arrived.Sub(l.arrived))
	}
	l.dts, l.arrived = f.DTS, f.Arrived
	return l.ahead
}

// openRTMP plays the stream over RTMP, until ctx ends.
func (m *Manager) openRTMP(ctx context.Context, r *relay) (*messageSource, error) {
	c, nc, err := m.connect(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := c.Play(ctx, r.target.rtmp.Name); err != nil {
		c.Close()
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	return &messageSource{
		next: func() (uint8, uint32, []byte, error) {
			msg, err := c.ReadMessage()
			return msg.Type, msg.Timestamp, msg.Payload, err
		},
		receiving: c.Receiving,
		remote:    nc.RemoteAddr().String(),
		close:     func() { stop(); c.Close() },
	}, nil
}

// openHTTP plays the stream over HTTP-FLV, until ctx ends. Redirects are checked like the URL.
func (m *Manager) openHTTP(ctx context.Context, r *relay) (*messageSource, error) {
	remote := ""
	client := http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				nc, err := m.options().dialer.dial(ctx, address, false, r.target.trusted)
				if err == nil {
					remote = nc.RemoteAddr().String()
				}
				return nc, err
			},
			TLSClientConfig: m.options().dialer.tlsConfig(""), TLSHandshakeTimeout: tlsTimeout,
			ResponseHeaderTimeout:  firstFrameTimeout,
			MaxResponseHeaderBytes: maxHeader, DisableKeepAlives: true, DisableCompression: true,
		},
		CheckRedirect: checkRedirect,
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.target.u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "livego")
	resp, err := client.Do(req) //nolint:bodyclose // by the source
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("unexpected HTTP status %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	tags := flv.NewReader(bufio.NewReaderSize(resp.Body, readBuffer), m.options().Conn.MaxMessage)
	warned := false
	return &messageSource{
		next: func() (uint8, uint32, []byte, error) {
			t, err := tags.Next()
			if !warned && tags.Anomalies != (flv.Anomalies{}) {
				warned = true
				r.log.Warn("nonconforming FLV stream", "reason", tags.Anomalies.String())
			}
			return t.Type, t.Timestamp, t.Body, err
		},
		receiving: tags.Receiving,
		remote:    remote,
		close:     func() { resp.Body.Close() },
	}, nil
}

// checkRedirect checks the URL of a redirect; the dialer checks its address.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errors.New("too many redirects")
	}
	req.Header.Del("Referer") // it would contain the query
	if _, err := parseTarget(domain.Pull, req.URL.String(), false); err != nil || req.URL.Scheme != "http" &&
		req.URL.Scheme != "https" {
		return errors.New("redirect to a URL that cannot be pulled")
	}
	return nil
}

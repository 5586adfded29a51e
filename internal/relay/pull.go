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
	firstFrameTimeout = 40 * time.Second // for the first frame: servers let players wait for half a minute
	maxEmptyMessages  = 1000             // messages without a frame in a row
	// that a stream may come faster than it plays: what servers hold for who joins is less
	maxAheadOfRealtime = 5 * time.Minute
	maxStep            = 10 * time.Second // between two frames of a track; beyond, the clock has jumped
	maxRedirects       = 5
	maxHeader          = 64 << 10 // bytes of a header of HTTP
	readBuffer         = 32 << 10
)

var (
	errNoFrames      = errors.New("no frame came for too long")
	errEmptyMessages = fmt.Errorf("%d messages without a frame", maxEmptyMessages)
	errTooFast       = errors.New("it comes faster than it plays: it is a file, or the other end pulls it from here")
)

// A messageSource gives the messages of what is pulled.
type messageSource struct {
	next func() (typ uint8, timestamp uint32, body []byte, err error)
	// receiving reports whether a message has come in part. It is called while next may be.
	receiving func() bool

	remote string // host:port
	close  func()
}

// pull publishes what the other end plays until one of both is lost. It is held then like what an
// encoder publishes: a server that restarts says the same as one whose stream has ended.
func (m *Manager) pull(ctx context.Context, r *relay) error {
	if err := m.opt.Admit(r.Name); err != nil {
		return err
	}
	m.setState(r, stateConnecting)
	pulling, hangUp := context.WithCancelCause(ctx)
	defer hangUp(nil)
	silence := time.AfterFunc(firstFrameTimeout, func() { hangUp(errNoFrames) })
	defer silence.Stop()
	open := m.openRTMP
	if r.target.rtmp.Host == "" {
		open = m.openHTTP
	}
	src, err := open(pulling, r)
	if err == nil {
		defer src.close()
		err = m.publish(pulling, r, src, func() { silence.Reset(m.opt.ReadTimeout) })
	}
	if pulling.Err() != nil {
		err = context.Cause(pulling)
	}
	return describeEOF(err)
}

// publish publishes what src gives; alive is called at each frame.
func (m *Manager) publish(ctx context.Context, r *relay, src *messageSource, alive func()) error {
	var (
		skips    = media.NewSkips(r.log)
		demux    = flv.Demuxer{Skips: skips}
		p        *stream.Publisher
		pictures *accessunit.Writer
		barren   int
		lead     realtimeLead
	)
	defer func() {
		if p == nil {
			return
		}
		how := stream.Lost
		if context.Cause(ctx) == context.Canceled { // it was stopped
			how = stream.Clean
		}
		defer p.End(how)
		_ = pictures.Close() // the pull has ended for another reason
	}()
	for {
		typ, timestamp, body, err := src.next()
		if err != nil {
			return err
		}
		frames, bad := demux.Message(typ, timestamp, body, time.Now())
		if bad != nil && !errors.Is(bad, flv.ErrSkip) {
			return bad
		}
		if len(frames) == 0 {
			if barren++; barren > maxEmptyMessages {
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
		barren = 0
		alive()
		if p == nil {
			p, err = m.hub.Publish(ctx, r.Name, stream.PublishOptions{
				Proto: "pull", Remote: src.remote, URL: r.target.redacted, Grant: domain.Grant{Name: r.Name}, Skips: skips,
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

// A realtimeLead is how far a stream has come before its time. Servers that pull from each other in
// a ring send round what they hold, as fast as they can, when the encoder has gone; nothing else
// that is live goes on like that.
type realtimeLead struct {
	track   *media.Track // the first: tracks are not in step
	dts     time.Duration
	arrived time.Time
	ahead   time.Duration
}

// update returns how far f has, which Publisher.Write has not had yet.
func (l *realtimeLead) update(f *media.Frame) time.Duration {
	switch {
	case l.track == nil:
		l.track = f.Track
	case l.track.Kind != f.Track.Kind || l.track.ID != f.Track.ID:
		return l.ahead
	default:
		step := f.DTS - l.dts
		if step < 0 || step > maxStep {
			step = 0 // the clock of another encoder
		}
		l.ahead = max(0, l.ahead+step-f.Arrived.Sub(l.arrived))
	}
	l.dts, l.arrived = f.DTS, f.Arrived
	return l.ahead
}

// openRTMP plays by RTMP, until ctx ends.
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

// openHTTP plays HTTP-FLV, until ctx ends. Each redirect is looked at as the address was.
func (m *Manager) openHTTP(ctx context.Context, r *relay) (*messageSource, error) {
	remote := ""
	client := http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				nc, err := m.dialer.dial(ctx, address, false, r.target.trusted)
				if err == nil {
					remote = nc.RemoteAddr().String()
				}
				return nc, err
			},
			TLSClientConfig: m.dialer.tlsConfig(""), TLSHandshakeTimeout: tlsTimeout, ResponseHeaderTimeout: firstFrameTimeout,
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
		return nil, fmt.Errorf("it answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	tags := flv.NewReader(bufio.NewReaderSize(resp.Body, readBuffer), m.opt.Conn.MaxMessage)
	said := false
	return &messageSource{
		next: func() (uint8, uint32, []byte, error) {
			t, err := tags.Next()
			if !said && tags.Anomalies != (flv.Anomalies{}) {
				said = true
				r.log.Warn("stream is no proper FLV", "reason", tags.Anomalies.String())
			}
			return t.Type, t.Timestamp, t.Body, err
		},
		receiving: tags.Receiving,
		remote:    remote,
		close:     func() { resp.Body.Close() },
	}, nil
}

// checkRedirect holds a redirect to the rules for addresses; the guard holds it to those for where it leads.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errors.New("it redirects again and again")
	}
	req.Header.Del("Referer") // has the query
	if _, err := parseTarget(domain.Pull, req.URL.String(), false); err != nil || req.URL.Scheme != "http" &&
		req.URL.Scheme != "https" {
		return errors.New("it redirects to where no stream is pulled from")
	}
	return nil
}

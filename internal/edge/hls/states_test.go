package hls

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/media"
	"livego/internal/stream"
)

// TestRepublishWithoutMediaKeepsPlaylist requests the playlists of a room that was watched before,
// and is published again by an encoder that sends nothing and leaves: the response is the kept
// playlist of the session before.
func TestRepublishWithoutMediaKeepsPlaylist(t *testing.T) {
	for _, target := range []string{"/live/movie.m3u8", "/live/movie.m3u8?format=ts", "/live/movie/index.m3u8",
		"/live/movie/ts.m3u8"} {
		t.Run(target, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newLowLatencyServer(t, stream.Options{})
				p := c.publish(movie)
				c.write(p, 5*time.Second)
				c.get(target)
				p.End(stream.Clean)
				sleep(watchedFor) // else the request would make the feed process the frames so far
				for _, ended := range []bool{false, true} {
					p = c.publish(movie)
					synctest.Wait() // the new session waits for the first frame
					var answer <-chan timedResponse
					if !ended {
						answer = c.getAsync(target)
						synctest.Wait()
					}
					p.End(stream.Clean)
					synctest.Wait()
					if ended {
						answer = c.getAsync(target)
					}
					if r := <-answer; r.w.Code != 200 {
						t.Errorf("requested after the end: %v: %d %s", ended, r.w.Code, r.w.Body)
					}
					sleep(watchedFor)
				}
			})
		})
	}
}

// A stateModel predicts which responses a request for the movie may get after any sequence of
// operations.
type stateModel struct {
	*testServer
	rnd *rand.Rand
	log []string // operations so far, for error messages

	hold     time.Duration
	p        *stream.Publisher // nil without a publisher
	carried  bool              // HLS can carry what p sends
	session  bool              // the hub has a stream session, which may be held
	lost     time.Time         // when p was lost
	written  time.Duration     // media of the session that HLS can carry
	started  bool              // something was written in the session
	kept     bool              // a session with media has ended and may be kept
	unsure   bool              // the kept session may have expired
	ended    time.Time         // when the last session of the name ended in the hub
	answers  []chan stateReply
	panicked chan string
}

// A stateReply is the response to a request in a goroutine.
type stateReply struct {
	target string
	code   int
	took   time.Duration
}

func (m *stateModel) logf(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

// settle updates the model to the current time.
func (m *stateModel) settle() {
	synctest.Wait()
	if m.session && m.p == nil && time.Since(m.lost) >= m.hold {
		m.finish(m.lost.Add(m.hold))
	}
}

// finish records that the hub's session has ended.
func (m *stateModel) finish(at time.Time) {
	m.session, m.ended = false, at
	if m.written > 0 {
		m.kept, m.unsure = true, false
	}
	m.written, m.started = 0, false
}

// step performs a random operation.
func (m *stateModel) step() {
	m.settle()
	switch m.rnd.IntN(10) {
	case 0, 1:
		if m.p != nil {
			return
		}
		if !m.session {
			m.forgetKept()
		}
		m.p, m.carried, m.session = m.publish(movie), m.rnd.IntN(4) > 0, true
		m.logf("publish, carried %v", m.carried)
	case 2, 3:
		if m.p == nil {
			return
		}
		d := []time.Duration{40 * ms, 480 * ms, 3 * time.Second, 7 * time.Second}[m.rnd.IntN(4)]
		m.started = true
		if m.carried {
			m.write(m.p, d)
			m.written += d
		} else {
			m.writeUncarried(m.p)
		}
		m.logf("write %v", d)
	case 4:
		if m.p == nil {
			return
		}
		how := []stream.EndReason{stream.Clean, stream.Lost}[m.rnd.IntN(2)]
		m.p.End(how)
		m.p, m.lost = nil, time.Now()
		if m.logf("end %v", how); how == stream.Clean || m.hold == 0 {
			m.finish(time.Now())
		}
	case 5:
		d := []time.Duration{7 * ms, 333 * ms, 3 * time.Second, 13 * time.Second, 200 * time.Second}[m.rnd.IntN(5)]
		m.logf("sleep %v", d)
		sleep(d)
	case 6, 7:
		m.request()
	default:
		m.check()
	}
}

// writeUncarried writes a frame of a codec that HLS cannot carry.
func (m *stateModel) writeUncarried(p *stream.Publisher) {
	f := &media.Frame{Track: hevc, Meta: &media.Meta{HasVideo: true}, DTS: m.at, PTS: m.at, RAP: media.Keyframe,
		Arrived: time.Now(), Payload: []byte{0}}
	if err := p.Write(f); err != nil {
		m.t.Fatal(err)
	}
	m.at += 40 * ms
}

// forgetKept updates the model of ended sessions: their playlist stays for at least half a minute.
func (m *stateModel) forgetKept() {
	const atMost = 3 * time.Minute // its window and half a minute
	m.unsure = m.unsure || time.Since(m.ended) >= keepEnded
	m.kept = m.kept && time.Since(m.ended) <= atMost
}

// target returns the URL of a random request.
func (m *stateModel) target() string {
	seq := 100 * (1 + m.rnd.IntN(3))
	targets := []string{
		"/live/movie.m3u8", "/live/movie.m3u8?format=ts", "/live/movie/index.m3u8", "/live/movie/ts.m3u8",
		fmt.Sprintf("/live/movie/index.m3u8?_HLS_msn=%d&_HLS_part=%d", seq+m.rnd.IntN(9), m.rnd.IntN(12)),
		fmt.Sprintf("/live/movie/ts.m3u8?_HLS_msn=%d", seq+m.rnd.IntN(9)),
		fmt.Sprintf("/live/movie/index.m3u8?_HLS_msn=%d&_HLS_skip=YES", seq+m.rnd.IntN(9)),
		fmt.Sprintf("/live/movie/%d-%d.%d.m4s", seq, 1000*m.rnd.IntN(8), m.rnd.IntN(9)),
		fmt.Sprintf("/live/movie/%d-%d.ts", seq, 1000*m.rnd.IntN(8)),
	}
	return targets[m.rnd.IntN(len(targets))]
}

// request sends a request in a goroutine and continues.
func (m *stateModel) request() {
	target, method := m.target(), []string{"GET", "GET", "GET", "HEAD"}[m.rnd.IntN(4)]
	m.logf("%s %s", method, target)
	answer := make(chan stateReply, 1)
	m.answers = append(m.answers, answer)
	begin := time.Now()
	go func() {
		code := 0
		if w := m.serve(method, target); w != nil {
			code = w.Code
		}
		answer <- stateReply{target, code, time.Since(begin)}
	}()
}

// serve is do, except that it returns nil when the handler panics.
func (m *stateModel) serve(method, target string) (w *httptest.ResponseRecorder) {
	defer func() {
		if r := recover(); r != nil {
			m.panicked <- fmt.Sprintf("%s %s: %v", method, target, r)
			w = nil
		}
	}()
	return m.do(method, target)
}

// check requests a playlist and compares the response with what the state allows.
func (m *stateModel) check() {
	m.settle()
	if !m.session {
		m.forgetKept()
	}
	target := []string{"/live/movie.m3u8", "/live/movie/index.m3u8", "/live/movie/ts.m3u8"}[m.rnd.IntN(3)]
	allowed := m.allowed()
	state := fmt.Sprintf("session %v, publisher %v, carried %v, started %v, written %v, kept %v", m.session, m.p != nil,
		m.carried, m.started, m.written, m.kept)
	m.logf("check %s", target)
	w := m.serve("GET", target)
	if w == nil {
		return
	}
	if !slices.Contains(allowed, w.Code) {
		m.t.Errorf("%s: %d %s, want one of %v: %s", target, w.Code, w.Body, allowed, state)
	}
	if m.settle(); !m.session && w.Code == 200 && strings.HasPrefix(target, "/live/movie/") &&
		!strings.Contains(w.Body.String(), "ENDLIST") {
		sleep(endDelay)
		if w = m.serve("GET", target); w != nil && w.Code == 200 && !strings.Contains(w.Body.String(), "ENDLIST") {
			m.t.Errorf("%s: the stream has ended, the playlist has not:\n%s", target, w.Body)
		}
	}
}

// allowed returns the statuses that a request for a playlist may get now.
func (m *stateModel) allowed() []int {
	const certain = 3 * time.Second // with this much, a session has a segment
	switch {
	case m.session && m.written >= certain:
		return []int{200}
	case m.session && m.written > 0 && !m.carried: // HLS cannot carry what comes now
		return []int{200, 404, 503}
	// Perhaps a segment; if not, the wait may end with what was kept, or with the stream.
	case m.session && m.written > 0:
		return []int{200, 503}
	case m.session && m.started && m.kept: // nothing that HLS can carry
		return []int{404, 503, 200}
	case m.session && m.started:
		return []int{404, 503}
	case m.session && m.kept: // the wait may end with the session
		return []int{503, 200, 404}
	case m.session:
		return []int{503, 404}
	case !m.kept:
		return []int{404}
	case !m.unsure:
		return []int{200}
	}
	return []int{200, 404}
}

// run performs n random operations and then checks that every request gets its response in time.
func (m *stateModel) run(n int) error {
	for range n {
		m.step()
		select {
		case p := <-m.panicked:
			return errors.New("panic: " + p)
		default:
		}
		if m.t.Failed() {
			return errors.New("wrong response")
		}
	}
	// A request waits for the first segment, and is then blocked for up to three target durations
	// of at most 6 s.
	const longest = 10*time.Second + maxBlockedTargets*6*time.Second
	for _, answer := range m.answers {
		var r stateReply
		select {
		case r = <-answer:
		case <-time.After(2 * longest):
			return errors.New("a request got no response")
		}
		switch r.code {
		case 200, 400, 404, 503:
		default:
			return fmt.Errorf("%s: %d", r.target, r.code)
		}
		if r.took > longest {
			return fmt.Errorf("%s: response after %v", r.target, r.took)
		}
	}
	return nil
}

// TestRandomOperations publishes, writes, ends and requests in random order. Every request gets a
// response, in time and as the state allows.
func TestRandomOperations(t *testing.T) {
	rounds, steps := 150, 40
	if testing.Short() {
		rounds = 30
	}
	for round := range rounds {
		synctest.Test(t, func(t *testing.T) {
			hold := []time.Duration{0, 11 * time.Second}[round%2]
			m := &stateModel{
				testServer: newLowLatencyServer(t, stream.Options{Hold: hold}), hold: hold,
				rnd: rand.New(rand.NewPCG(uint64(round), 13)), panicked: make(chan string, 1000),
			}
			if err := m.run(steps); err != nil {
				t.Errorf("round %d: %v; operations:\n%s", round, err, strings.Join(m.log, "\n"))
			}
			if m.p != nil {
				m.p.End(stream.Clean)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// endDelay is more than the time for which the last parts of a stream are in the playlist before
// its end.
const endDelay = time.Second

// TestEndedSessionReleasesStream checks what a session keeps of the stream and of the session
// before.
func TestEndedSessionReleasesStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLowLatencyServer(t, stream.Options{})
		for range 2 {
			p := c.publish(movie)
			c.write(p, 5*time.Second)
			c.get("/live/movie.m3u8")
			p.End(stream.Clean)
			sleep(endDelay)
		}
		c.srv.mu.RLock()
		defer c.srv.mu.RUnlock()
		if sub := c.srv.streamSessions[movie].subscriber.Load(); sub != nil {
			t.Error("an ended session keeps its subscriber")
		}
	})
}

package netx

import (
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
)

// A fakeConn records that it was closed.
type fakeConn struct{ closed bool }

func (c *fakeConn) Close() error {
	c.closed = true
	return nil
}

// A testLimiter admits fake connections to a Limiter.
type testLimiter struct {
	*Limiter
	port int
}

// connect admits a connection from addr. The entry is nil if it was refused.
func (c *testLimiter) connect(addr string, use Use) (*fakeConn, *entry) {
	c.port++
	remote, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(addr, fmt.Sprint(1000+c.port)))
	if err != nil {
		panic(err)
	}
	f := new(fakeConn)
	return f, c.admit(f, remote, false, use)
}

// connectN admits n connections from addr.
func (c *testLimiter) connectN(t *testing.T, n int, addr string, use Use) (conns []*fakeConn, entries []*entry) {
	t.Helper()
	for i := range n {
		f, e := c.connect(addr, use)
		if e == nil {
			t.Fatalf("connection %d of %s is refused", i, addr)
		}
		conns, entries = append(conns, f), append(entries, e)
	}
	return conns, entries
}

func closed(conns []*fakeConn) (n int) {
	for _, c := range conns {
		if c.closed {
			n++
		}
	}
	return n
}

func newTestLimiter(t *testing.T, o LimitOptions) *testLimiter {
	t.Helper()
	c := &testLimiter{Limiter: NewLimiter(o)}
	t.Cleanup(c.Close)
	return c
}

// TestLimiterByAddress: at the limit, the oldest idle connection of the address is closed.
// Connections that send media do not count, until they have sent none for long.
func TestLimiterByAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const office, other = "192.0.2.1", "192.0.2.2"
		l := newTestLimiter(t, LimitOptions{PerAddress: 2, Idle: time.Minute})
		first, entries := l.connectN(t, 2, office, ForViewers)
		others, _ := l.connectN(t, 2, other, ForViewers)
		l.connectN(t, 1, office, ForEncoders)
		if !first[0].closed || first[1].closed || closed(others) != 0 {
			t.Error("at the limit the oldest idle connection of the address is closed, and no other")
		}
		l.markDelivered(entries[1], 0)
		l.connectN(t, 1, office, ForViewers)
		if first[1].closed {
			t.Error("a connection that delivers media was closed")
		}
		if err := l.becomePublisher(l.oldest(t, ForEncoders)); err != nil {
			t.Error(err)
		}
		watching, players := l.connectN(t, 1, office, ForViewers)
		l.startStream(players[0])
		waiting, _ := l.connectN(t, 2, office, ForViewers)
		time.Sleep(45 * time.Second)
		l.markDelivered(entries[1], 0)
		time.Sleep(45 * time.Second)
		l.connectN(t, 1, office, ForViewers)
		if first[1].closed || watching[0].closed || closed(waiting) != 1 {
			t.Errorf("active 45 s ago: closed %v; streaming: closed %v; idle: %d closed", first[1].closed, watching[0].closed,
				closed(waiting))
		}
		time.Sleep(75 * time.Second)
		l.endStream(players[0])
		l.connectN(t, 3, office, ForViewers)
		if !first[1].closed || watching[0].closed {
			t.Errorf("inactive for two minutes: closed %v; stream just ended: closed %v", first[1].closed, watching[0].closed)
		}
		time.Sleep(2 * time.Minute)
		l.connectN(t, 3, office, ForViewers)
		if !watching[0].closed {
			t.Error("a connection whose stream ended two minutes ago is not closed")
		}
	})
}

// oldest returns the oldest idle entry.
func (c *testLimiter) oldest(t *testing.T, use Use) *entry {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	all := &c.idle
	if use == ForEncoders {
		all = &c.undecided
	}
	if all.Len() == 0 {
		t.Fatal("no connection is idle")
	}
	return all.Front().Value.(*entry)
}

// TestLimiterLongSegments: a stream with long segments may be silent for three of them.
func TestLimiterLongSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLimiter(t, LimitOptions{PerAddress: 1, Idle: time.Minute})
		conns, entries := l.connectN(t, 1, "192.0.2.1", ForViewers)
		l.markDelivered(entries[0], 3*time.Minute)
		time.Sleep(2 * time.Minute)
		l.connectN(t, 2, "192.0.2.1", ForViewers)
		if conns[0].closed {
			t.Error("closed after two minutes of three")
		}
	})
}

// TestLimiterBurst: many connections at once get a moment for their first request. After that, the
// limit holds for the idle ones.
func TestLimiterBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 4
		l := newTestLimiter(t, LimitOptions{PerAddress: most, Idle: time.Minute, Burst: time.Second})
		school, entries := l.connectN(t, most*burstFactor, "192.0.2.1", ForViewers)
		if n := closed(school); n != 0 {
			t.Fatalf("%d of %d closed", n, len(school))
		}
		for _, e := range entries[:20] {
			l.markDelivered(e, 0)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := closed(school[:20]); n != 0 {
			t.Errorf("%d viewers closed", n)
		}
		if n := closed(school[20:]); n != len(school)-20-most {
			t.Errorf("%d silent connections closed, want all of %d but %d", n, len(school)-20, most)
		}
		flood, _ := l.connectN(t, 10*most*burstFactor, "192.0.2.2", ForViewers)
		if n := len(flood) - closed(flood); n > most*burstFactor {
			t.Errorf("%d connections of a flood are kept, want %d", n, most*burstFactor)
		}
	})
}

// TestLimiterAddresses: which addresses count as one, and which are not limited.
func TestLimiterAddresses(t *testing.T) {
	proxies, err := ParseNetworks([]string{"198.51.100.0/24"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		o       LimitOptions
		addrs   []string
		limited bool
	}{
		{"IPv4", LimitOptions{}, []string{"192.0.2.1", "192.0.2.1"}, true},
		{"mapped", LimitOptions{}, []string{"192.0.2.1", "::ffff:192.0.2.1"}, true},
		{"two", LimitOptions{}, []string{"192.0.2.1", "192.0.2.2"}, false},
		{"/64", LimitOptions{}, []string{"2001:db8::1", "2001:db8::2"}, true},
		{"two /64", LimitOptions{}, []string{"2001:db8::1", "2001:db8:0:1::1"}, false},
		{"loopback", LimitOptions{}, []string{"127.0.0.1", "127.0.0.1"}, false},
		{"loopback of IPv6", LimitOptions{}, []string{"::1", "::1"}, false},
		{"loopback by option", LimitOptions{Loopback: true}, []string{"127.0.0.1", "127.0.0.1"}, true},
		{"proxy", LimitOptions{}, []string{"198.51.100.7", "198.51.100.7"}, false},
	} {
		o := tt.o
		o.PerAddress, o.Proxies = 1, proxies
		l := newTestLimiter(t, o)
		first, _ := l.connectN(t, 1, tt.addrs[0], ForViewers)
		_, e := l.connectN(t, 1, tt.addrs[1], ForViewers)
		if first[0].closed != tt.limited {
			t.Errorf("%s: the first is closed: %v", tt.name, first[0].closed)
		}
		l.remove(e[0])
		l.remove(e[0]) // a second call does nothing
		if l.viewers > 1 || len(l.addrs) > 1 {
			t.Errorf("%s: %d viewers and %d addresses are left", tt.name, l.viewers, len(l.addrs))
		}
	}
}

// TestLimiterDescriptors: when descriptors are scarce, an address with a quarter of them gets no
// more, no viewer that watches is closed, and encoders are admitted.
func TestLimiterDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLimiter(t, LimitOptions{Idle: time.Minute,
			Descriptors: Descriptors{Viewers: 100, Undecided: 4, Publishers: 2}})
		greedy, entries := l.connectN(t, 81, "192.0.2.1", ForViewers)
		for _, e := range entries {
			l.startStream(e)
		}
		if _, e := l.connect("192.0.2.1", ForViewers); e != nil {
			t.Error("an address with a quarter of the descriptors gets one more")
		}
		viewers, entries := l.connectN(t, 10, "192.0.2.2", ForViewers)
		for _, e := range entries {
			l.markDelivered(e, 0)
		}
		waiting, _ := l.connectN(t, 9, "192.0.2.3", ForViewers)
		for range 5 { // the oldest idle connection makes room
			l.connectN(t, 1, "192.0.2.4", ForViewers)
		}
		if closed(greedy) != 0 || closed(viewers) != 0 || closed(waiting) != 5 {
			t.Errorf("closed: %d and %d viewers, %d idle ones of 5", closed(greedy), closed(viewers), closed(waiting))
		}

		undecided, entries := l.connectN(t, 5, "192.0.2.5", ForEncoders)
		if !undecided[0].closed || closed(undecided) != 1 {
			t.Errorf("%d undecided connections are closed, want the oldest", closed(undecided))
		}
		for i, e := range entries[1:] {
			if err := l.becomePublisher(e); err != nil {
				t.Errorf("encoder %d: %v", i, err)
			}
		}
		if closed(undecided) != 1 || closed(waiting) != 7 {
			t.Errorf("%d encoders closed, %d idle viewers of 7", closed(undecided)-1, closed(waiting))
		}
		_, players := l.connectN(t, 1, "192.0.2.1", ForEncoders) // it may be an encoder
		if err := l.becomeViewer(players[0]); domain.KindOf(err) != domain.Limit {
			t.Errorf("an address with a quarter of the descriptors plays: %v", err)
		}
	})
}

// TestLimiterFullRefuses: if no connection is idle, new ones are refused, and so is an encoder
// beyond the descriptors for publishers.
func TestLimiterFullRefuses(t *testing.T) {
	var reasons []string
	l := newTestLimiter(t, LimitOptions{
		Idle: time.Minute, Descriptors: Descriptors{Viewers: 10, Undecided: 4, Publishers: 1},
		Report: func(_ net.Addr, reason string) { reasons = append(reasons, reason) },
	})
	for i := range 10 {
		_, e := l.connectN(t, 1, fmt.Sprintf("192.0.2.%d", i), ForViewers)
		l.startStream(e[0])
	}
	if _, e := l.connect("192.0.2.99", ForViewers); e != nil {
		t.Error("an eleventh viewer of ten is admitted")
	}
	_, encoders := l.connectN(t, 2, "192.0.2.98", ForEncoders)
	if err := l.becomePublisher(encoders[0]); err != nil {
		t.Errorf("the first encoder: %v", err)
	}
	if err := l.becomePublisher(encoders[1]); domain.KindOf(err) != domain.Limit {
		t.Errorf("the second encoder: %v", err)
	}
	if want := []string{reasonDescriptors, reasonDescriptors}; fmt.Sprint(reasons) != fmt.Sprint(want) {
		t.Errorf("reported %q, want %q", reasons, want)
	}
	// The publisher, and the encoder that has neither published nor played.
	if s := l.Statistics(); s.Connections != 10+2 || s.Limited["descriptors"] != 2 || len(s.Limited) != 4 {
		t.Errorf("statistics %+v", s)
	}
}

// TestLimiterAssign: a connection of a proxy counts for the client whose request it carries.
func TestLimiterAssign(t *testing.T) {
	proxies, err := ParseNetworks([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	l := newTestLimiter(t, LimitOptions{PerAddress: 2, Idle: time.Minute, Proxies: proxies})
	conns, entries := l.connectN(t, 6, "127.0.0.1", ForViewers)
	client, other := ParseClient("192.0.2.1"), ParseClient("192.0.2.2")
	for _, e := range entries[:3] {
		if err := l.assign(e, client); err != nil {
			t.Fatal(err)
		}
	}
	if !conns[0].closed || closed(conns) != 1 {
		t.Errorf("%d closed, want the oldest", closed(conns))
	}
	if s := l.Statistics(); s.Connections != 5 || s.Limited["address_limit"] != 1 {
		t.Errorf("statistics %+v", s)
	}
	l.unassign(entries[1])
	l.assign(entries[3], client)
	l.assign(entries[4], other)
	l.assign(entries[5], client)
	if !conns[2].closed || closed(conns) != 2 {
		t.Errorf("%d closed, want two", closed(conns))
	}
	l.startStream(entries[3])
	l.unassign(entries[3])
	if h := entries[3].address; h == nil || h.prefix.Addr() != client {
		t.Error("a client that streams is not counted")
	}
	// A reported loopback address is limited too.
	l.assign(entries[1], ParseClient("127.0.0.1"))
	if entries[1].address == nil {
		t.Error("a client with a reported loopback address is not counted")
	}
}

// TestDeliveredAllocations: MarkDelivered is called for every segment and part.
func TestDeliveredAllocations(t *testing.T) {
	l := newTestLimiter(t, LimitOptions{PerAddress: 2, Idle: time.Minute})
	_, entries := l.connectN(t, 1, "192.0.2.1", ForViewers)
	c := new(Conn)
	c.entry.Store(entries[0])
	if n := testing.AllocsPerRun(100, func() { MarkDelivered(c, time.Second) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestLimiterNewOptions changes the limits while connections are open: none is closed by that, and the
// new limits hold for the next one.
func TestLimiterNewOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const office = "192.0.2.1"
		o := LimitOptions{PerAddress: 2, Idle: time.Minute, Burst: time.Second}
		l := newTestLimiter(t, o)
		conns, _ := l.connectN(t, 6, office, ForViewers) // a burst, which the timer trims
		o.PerAddress = 0
		l.SetOptions(o)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := closed(conns); n != 0 {
			t.Errorf("%d connections are closed without a limit", n)
		}
		o.PerAddress, o.Burst = 3, 0
		l.SetOptions(o)
		if n := closed(conns); n != 0 {
			t.Errorf("%d connections are closed by a new limit", n)
		}
		l.connectN(t, 1, office, ForViewers)
		if n := closed(conns); n != 4 {
			t.Errorf("%d of 6 connections are closed when another arrives, want 4", n)
		}
	})
}

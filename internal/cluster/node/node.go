// Package node is this server as a node of a cluster. It sends the streams of its hub to other nodes,
// and replicates theirs into its hub while they have viewers here. It does not decide which node owns a
// stream.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/cluster/peer"
	"livego/internal/cluster/replica"
	"livego/internal/domain"
	"livego/internal/ops/httpx"
	"livego/internal/ops/logging"
	"livego/internal/stream"
)

// upgrade is the protocol to which a connection that replicates a stream is upgraded.
const upgrade = "livego-replica"

// Limits of what another node sends.
const (
	maxReason = 512       // bytes of the reason of a refusal
	maxFile   = 256 << 20 // bytes of a file
	// maxFetches is how many requests for files of one owner may be in flight: one that does not answer
	// leaves room for those of the others.
	maxFetches = 512
)

// Options of a Node.
type Options struct {
	Identity peer.Identity
	// Owner returns the node that owns a stream; ok is false if that is this one.
	Owner func(domain.Name) (id string, ok bool)
	// Address returns the address of a node.
	Address func(id string) (addr string, ok bool)
	Hub     *stream.Hub
	Source  replica.SourceOptions
	// ServeFile responds with a file or a playlist of a stream that this node owns, for another node.
	ServeFile func(w http.ResponseWriter, r *http.Request, name domain.Name, file string)
	// Watched reports whether a replicated stream has viewers here.
	Watched func(domain.Name) bool
	// Target returns the target duration of a stream's HLS, 0 if it has none.
	Target func(domain.Name) time.Duration
	Nodes  int // of the cluster

	HandshakeTimeout time.Duration // of a connection, and for the response to a request
	Server           httpx.ServerOptions
	Log              *slog.Logger
}

// Settings are options that a running Node can replace.
type Settings struct {
	Idle time.Duration // how long a stream is replicated without viewers, at least
	Hold time.Duration // how long a replicated session outlives the connection to its owner
	GOPs int           // the newest of a stream that another node gets first
}

// A Node is one node. Run must be called.
type Node struct {
	opt     Options
	set     atomic.Pointer[Settings]
	source  *replica.Source
	dialer  *peer.Dialer
	client  *http.Client
	fetcher *http.Client     // for responses that may take long
	refused *logging.Limiter // of other nodes

	mu       sync.Mutex
	rooms    map[domain.Name]*room
	fetching map[string]int // requests for files in flight, by owner
	closed   bool
	work     sync.WaitGroup // of rooms
}

// New returns a Node.
func New(o Options, s Settings) *Node {
	n := &Node{
		opt: o, rooms: make(map[domain.Name]*room), fetching: make(map[string]int),
		dialer:  &peer.Dialer{Identity: o.Identity, Timeout: o.HandshakeTimeout},
		refused: &logging.Limiter{Interval: time.Minute},
	}
	n.SetSettings(s)
	o.Source.Node, o.Source.GOPs = o.Identity.Node, func() int { return n.set.Load().GOPs }
	n.source = replica.NewSource(o.Hub, o.Source)
	n.client = &http.Client{
		Transport: &http.Transport{
			DialTLSContext: n.dial, DisableCompression: true, MaxIdleConnsPerHost: 4,
			IdleConnTimeout: o.Server.IdleTimeout / 2, ResponseHeaderTimeout: o.HandshakeTimeout,
			MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	slow := n.client.Transport.(*http.Transport).Clone()
	slow.ResponseHeaderTimeout = 0
	n.fetcher = &http.Client{Transport: slow, CheckRedirect: n.client.CheckRedirect}
	return n
}

// SetSettings replaces the settings. Streams that are replicated keep their Hold.
func (n *Node) SetSettings(s Settings) { n.set.Store(&s) }

// dial connects to the node whose ID is the host of addr.
func (n *Node) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	id, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	at, ok := n.opt.Address(id)
	if !ok {
		return nil, domain.Errorf(domain.Unavailable, "node %s is unknown", id)
	}
	return n.dialer.Dial(ctx, id, at)
}

// CheckPublish returns why name cannot be published here; nil if it can.
func (n *Node) CheckPublish(name domain.Name) error {
	if owner, ok := n.opt.Owner(name); ok {
		return domain.Errorf(domain.Conflict, "%s belongs to node %s: publish it there", name, owner)
	}
	return nil
}

type nodeKey struct{}

// Serve serves other nodes on ln until ctx ends.
func (n *Node) Serve(ctx context.Context, ln net.Listener) error {
	ln, err := peer.Listen(ln, peer.ListenOptions{Identity: n.opt.Identity, Timeout: n.opt.HandshakeTimeout,
		Log: n.opt.Log})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var replicas sync.WaitGroup // connections that were hijacked from HTTP
	defer func() {
		n.mu.Lock() // no other one is added from now on
		cancel()
		n.mu.Unlock()
		replicas.Wait()
	}()
	add := func() (stopping error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if stopping = ctx.Err(); stopping == nil {
			replicas.Add(1)
		}
		return stopping
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /replica/v1/{app}/{room}", func(w http.ResponseWriter, r *http.Request) {
		if add() == nil {
			defer replicas.Done()
			n.serveReplica(ctx, w, r)
		}
	})
	mux.HandleFunc("GET /hls/v1/{app}/{room}/{file}", n.serveFile)
	srv := httpx.NewServer(mux, n.opt.Server)
	srv.ReadTimeout = 2 * n.opt.Server.HeaderTimeout // requests have no bodies
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if p, ok := c.(*peer.Conn); ok {
			ctx = context.WithValue(ctx, nodeKey{}, p.Node)
		}
		return ctx
	}
	defer context.AfterFunc(ctx, func() { srv.Close() })()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// owned returns the stream that r names, which this node has.
func (n *Node) owned(r *http.Request) (domain.Name, error) {
	name, err := domain.ParseName(r.PathValue("app"), r.PathValue("room"))
	if err != nil {
		return name, err
	}
	if owner, ok := n.opt.Owner(name); ok {
		return name, domain.Errorf(domain.Conflict, "%s belongs to node %s, not to %s", name, owner, n.opt.Identity.Node)
	}
	if in, ok := n.opt.Hub.Info(name); ok && in.Replicated {
		return name, domain.Errorf(domain.Conflict, "node %s replicates %s itself", n.opt.Identity.Node, name)
	}
	return name, nil
}

func (n *Node) serveFile(w http.ResponseWriter, r *http.Request) {
	name, err := n.owned(r)
	if err != nil {
		httpx.WriteError(w, err)
		return
	}
	n.opt.ServeFile(w, r, name, r.PathValue("file"))
}

// serveReplica sends a stream to the node that has sent r.
func (n *Node) serveReplica(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	name, err := n.owned(r)
	var after uint64
	if err == nil {
		after, err = parseAfter(r.URL.Query().Get("after"))
	}
	switch {
	case err != nil:
	case !strings.EqualFold(r.Header.Get("Upgrade"), upgrade):
		err = domain.Errorf(domain.Invalid, "the request asks for no upgrade to %s", upgrade)
	case !n.opt.Hub.Has(name) && after == 0: // else that node gets the end
		err = domain.Errorf(domain.NotFound, "nobody is publishing %s", name)
	}
	if err != nil {
		httpx.WriteError(w, err)
		return
	}
	to, _ := r.Context().Value(nodeKey{}).(string)
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", upgrade)
	w.WriteHeader(http.StatusSwitchingProtocols)
	nc, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		n.opt.Log.Error("cannot take over the connection", "err", err)
		return
	}
	log := n.opt.Log.With("stream", name.String(), "node", to)
	log.Info("replica connected")
	err = n.source.Serve(ctx, nc, name, after)
	log.Info("replica disconnected", "reason", err)
}

// parseAfter parses the query parameter after: the term and the Seq of the next frame that the peer needs.
// No term is known yet.
func parseAfter(text string) (seq uint64, err error) {
	term, after, ok := strings.Cut(text, ",")
	if _, err = strconv.ParseUint(term, 10, 62); err == nil {
		seq, err = strconv.ParseUint(after, 10, 62)
	}
	if !ok || err != nil {
		return 0, domain.Errorf(domain.Invalid, "invalid after: must be TERM,SEQUENCE")
	}
	return seq, nil
}

// get sends a request for a stream to its owner. The error of a response has its reason.
func (n *Node) get(ctx context.Context, c *http.Client, name domain.Name, path string, change func(*http.Request),
	status int) (*http.Response, error) {
	owner, ok := n.opt.Owner(name)
	if !ok {
		return nil, domain.Errorf(domain.NotFound, "%s belongs to this node", name)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+owner+path, nil)
	if err != nil {
		return nil, err
	}
	change(r)
	resp, err := c.Do(r)
	if err != nil {
		if request := new(url.Error); errors.As(err, &request) {
			err = request.Err // without the URL
		}
		if domain.KindOf(err) == domain.Internal {
			err = domain.Errorf(domain.Unavailable, "node %s: %w", owner, err)
		}
		return nil, err
	}
	if resp.StatusCode == status {
		return resp, nil
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxReason))
	kind := domain.Unavailable
	switch resp.StatusCode {
	case http.StatusNotFound:
		kind = domain.NotFound
	case http.StatusBadRequest:
		kind = domain.Invalid
	}
	err = domain.Errorf(kind, "%s", strings.TrimSpace(string(b)))
	if resp.StatusCode == http.StatusServiceUnavailable || kind != domain.Unavailable {
		err = answerError{err}
	}
	return nil, err
}

// An answerError is what the owner of a stream says about a request of a viewer. Other errors of get are about
// the cluster: viewers do not get them.
type answerError struct{ error }

func (e answerError) Unwrap() error { return e.error }

// unreachable logs err, why the owner of name cannot be asked, and returns the error for viewers, without
// names and addresses of nodes.
func (n *Node) unreachable(name domain.Name, err error) error {
	owner, _ := n.opt.Owner(name)
	if suppressed, ok := n.refused.Allow(owner); ok {
		n.opt.Log.Warn("cannot replicate a stream", "stream", name.String(), "node", owner, "err", err,
			"suppressed", suppressed)
	}
	return domain.Errorf(domain.Unavailable, "the server that publishes %s cannot be reached", name)
}

// escape returns the path of a stream in a URL.
func escape(name domain.Name) string {
	return url.PathEscape(name.App) + "/" + url.PathEscape(name.Room)
}

// connect opens a connection that replicates name from its owner.
func (n *Node) connect(ctx context.Context, name domain.Name, after uint64) (net.Conn, error) {
	var nc net.Conn
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { nc = i.Conn }}
	path := fmt.Sprintf("/replica/v1/%s?after=0,%d", escape(name), after)
	//nolint:bodyclose // upgraded closes it
	resp, err := n.get(httptrace.WithClientTrace(ctx, trace), n.client, name, path, func(r *http.Request) {
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", upgrade)
	}, http.StatusSwitchingProtocols)
	if err != nil {
		return nil, err
	}
	return &upgraded{nc, resp.Body}, nil
}

// An upgraded is the connection below an HTTP response.
type upgraded struct {
	net.Conn
	body io.ReadCloser // with what HTTP has read already
}

func (u *upgraded) Read(b []byte) (int, error) { return u.body.Read(b) }
func (u *upgraded) Close() error               { return u.body.Close() }

// A File is what the owner of a stream has under a name.
type File struct {
	Type, ETag string
	Body       []byte
}

// Fetch returns a file of a stream from its owner, or a playlist. uri is its name, with a query. It may wait
// as long as ctx allows, if uri asks for what is to come.
func (n *Node) Fetch(ctx context.Context, name domain.Name, uri string) (File, error) {
	owner, _ := n.opt.Owner(name)
	if !n.startFetch(owner) {
		return File{}, domain.Errorf(domain.Unavailable, "too many requests to the server that publishes %s", name)
	}
	defer n.endFetch(owner)
	file, query, _ := strings.Cut(uri, "?")
	resp, err := n.get(ctx, n.fetcher, name, "/hls/v1/"+escape(name)+"/"+url.PathEscape(file),
		func(r *http.Request) { r.URL.RawQuery = query }, http.StatusOK)
	if err != nil {
		return File{}, n.fetchError(ctx, name, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("file of %s is larger than %d bytes", name, maxFile)
	}
	if err != nil {
		return File{}, n.fetchError(ctx, name, err)
	}
	return File{resp.Header.Get("Content-Type"), strings.Trim(resp.Header.Get("ETag"), `"`), b}, nil
}

// startFetch counts a request for a file of owner, unless there are too many.
func (n *Node) startFetch(owner string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fetching[owner] >= maxFetches {
		return false
	}
	n.fetching[owner]++
	return true
}

func (n *Node) endFetch(owner string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fetching[owner]--; n.fetching[owner] == 0 {
		delete(n.fetching, owner)
	}
}

// fetchError returns the error of Fetch for viewers.
func (n *Node) fetchError(ctx context.Context, name domain.Name, err error) error {
	switch answer := (answerError{}); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &answer), domain.KindOf(err) == domain.NotFound:
		return err
	}
	return n.unreachable(name, err)
}

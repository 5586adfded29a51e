package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Polls describes the requests to Options.Poll in the window.
type Polls struct {
	URL      string      `json:"url"`
	Requests int         `json:"requests"`
	Failed   int         `json:"failed"`
	Bytes    int64       `json:"bytes"` // of all responses
	Response Percentiles `json:"response_ms"`
}

// A poller requests a URL while the window is open.
type poller struct {
	url       string
	interval  time.Duration
	polls     Polls
	responses histogram
	done      chan struct{} // closed when the window is closed
}

// run requests the URL at the interval for the duration of the window, or until ctx ends. A request
// that takes longer delays the next.
func (p *poller) run(ctx context.Context, window time.Duration) {
	defer close(p.done)
	ctx, cancel := context.WithTimeout(ctx, window)
	defer cancel()
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		start := time.Now()
		n, err := p.request(ctx, client)
		if ctx.Err() != nil {
			return
		}
		p.polls.Requests++
		p.polls.Bytes += n
		p.responses.add(time.Since(start))
		if err != nil {
			p.polls.Failed++
		}
	}
}

// request requests the URL once, and returns the length of the response.
func (p *poller) request(ctx context.Context, client *http.Client) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("unexpected HTTP status %d", resp.StatusCode)
	}
	return n, err
}

// result waits until the window is closed and returns the polls.
func (p *poller) result() *Polls {
	<-p.done
	polls := p.polls
	polls.URL, polls.Response = p.url, p.responses.percentiles()
	return &polls
}

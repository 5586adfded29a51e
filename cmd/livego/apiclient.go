package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"livego/internal/control/auth"
	"livego/internal/control/keyexport"
	"livego/internal/domain"
	"livego/internal/ops/config"
)

const (
	// apiTimeout is the time limit of a request to a server on this machine.
	apiTimeout = 30 * time.Second
	// maxResponse is the maximum size of a response in bytes.
	maxResponse = 64 << 20
	// importBatch is how many keys one request imports: a quarter of what fits into its body.
	importBatch = 50
)

// apiClient manages the keys of a running server over its operator's HTTP.
type apiClient struct {
	base   string
	token  string // "" if it cannot be read; from this machine it is usually not needed
	client *http.Client
}

// newAPIClient returns a client for the server that runs with these settings.
func newAPIClient(cfg config.Config) *apiClient {
	token := cfg.AdminToken
	if token == "" {
		token, _ = auth.ReadAdminToken(cfg.DataDir) // the server reports an invalid file
	}
	scheme := "http://"
	var secure *tls.Config
	if cfg.UseAPIHTTPS {
		scheme, secure = "https://", apiTLSConfig(cfg)
	}
	return connectAPI(scheme+dialHost(cfg.APIAddr), token, secure)
}

// connectAPI returns a client for the server at base. A nil secure verifies certificates as usual.
func connectAPI(base, token string, secure *tls.Config) *apiClient {
	return &apiClient{
		base: base, token: token,
		client: &http.Client{
			Timeout: apiTimeout, Transport: &http.Transport{Proxy: nil, TLSClientConfig: secure},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// apiTLSConfig returns how to verify the server's certificate, which has a public name instead of
// this machine's address: by that name, and by the certificate file in the settings, which may be
// self-signed.
func apiTLSConfig(cfg config.Config) *tls.Config {
	if len(cfg.ACME.Domains) > 0 {
		return &tls.Config{ServerName: cfg.ACME.Domains[0]}
	}
	pair, err := tls.LoadX509KeyPair(cfg.RTMPSCert, cfg.RTMPSKey)
	if err != nil {
		return nil // a server with these settings could read it: this is another one
	}
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	c := &tls.Config{RootCAs: roots}
	switch {
	case len(pair.Leaf.DNSNames) > 0:
		c.ServerName = pair.Leaf.DNSNames[0]
	case len(pair.Leaf.IPAddresses) > 0:
		c.ServerName = pair.Leaf.IPAddresses[0].String()
	}
	return c
}

// isRunning reports whether the server responds.
func (o *apiClient) isRunning(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, o.base+"/healthz", nil)
	if err != nil {
		return false
	}
	resp, err := o.client.Do(r)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// call sends a request with body as JSON, nil for none, and decodes the response into out, unless it
// is empty.
func (o *apiClient) call(ctx context.Context, method, path string, body, out any) error {
	resp, err := o.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse))
	if err != nil {
		return fmt.Errorf("read the server's response: %w", err)
	}
	if out == nil || len(data) == 0 {
		return nil
	}
	return json.Unmarshal(data, out)
}

// send sends a request with body as JSON, nil for none. It returns the response, whose body the caller
// closes, or the error in it.
func (o *apiClient) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var sent io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, o.base+path, sent)
	if err != nil {
		return nil, err
	}
	if o.token != "" {
		r.Header.Set("Authorization", "Bearer "+o.token)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := o.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("the server at %s: %w", o.base, errors.Unwrap(err)) // without the URL
	}
	if resp.StatusCode < http.StatusMultipleChoices {
		return resp, nil
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse))
	if err != nil {
		return nil, fmt.Errorf("read the server's response: %w", err)
	}
	return nil, responseError(resp.StatusCode, data)
}

// responseError returns the error in a response of /control or of /api/v1.
func responseError(status int, data []byte) error {
	var reply struct {
		Detail string `json:"detail"`
		Data   string `json:"data"`
		Errors []struct {
			Message  string `json:"message"`
			Location string `json:"location"`
		} `json:"errors"`
	}
	if json.Unmarshal(data, &reply) != nil || reply.Detail+reply.Data == "" {
		return fmt.Errorf("the server returned HTTP %d", status)
	}
	text := printable(reply.Detail + reply.Data)
	for _, e := range reply.Errors { // the mistakes, a line for each
		text += "\n  "
		if e.Location != "" {
			text += printable(e.Location) + ": "
		}
		text += printable(e.Message)
	}
	if status == http.StatusConflict {
		return domain.Errorf(domain.Conflict, "server error: %s", text)
	}
	return fmt.Errorf("server error: %s", text)
}

const keysPath = "/api/v1/keys"

func (o *apiClient) List(ctx context.Context, room string) ([]domain.Key, error) {
	var all []domain.Key
	for after := ""; ; {
		var page struct {
			Keys []keyexport.Key
			Next string
		}
		query := url.Values{"limit": {"1000"}}
		if room != "" {
			query.Set("room", room)
		}
		if after != "" {
			query.Set("after", after)
		}
		if err := o.call(ctx, http.MethodGet, keysPath+"?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		keys, err := fromJSON(page.Keys)
		if err != nil {
			return nil, err
		}
		if all = append(all, keys...); page.Next == "" || page.Next <= after {
			return all, nil
		}
		after = page.Next
	}
}

func fromJSON(in []keyexport.Key) ([]domain.Key, error) {
	keys := make([]domain.Key, len(in))
	for i, j := range in {
		var err error
		if keys[i], err = j.ToDomain(); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// keyBody returns the body of the request that creates k.
func keyBody(k domain.Key) map[string]any {
	j := keyexport.FromDomain(k)
	body := map[string]any{"room": j.Room}
	for name, v := range map[string]string{"app": j.App, "label": j.Label, "role": j.Role} {
		if v != "" {
			body[name] = v
		}
	}
	if j.Expires != nil {
		body["expires"] = j.Expires
	}
	return body
}

func (o *apiClient) Add(ctx context.Context, k domain.Key) (domain.Key, error) {
	var made keyexport.Key
	if err := o.call(ctx, http.MethodPost, keysPath, keyBody(k), &made); err != nil {
		return domain.Key{}, err
	}
	return made.ToDomain()
}

func (o *apiClient) reset(ctx context.Context, app, room string, grace time.Duration) (string, error) {
	query := url.Values{"room": {room}}
	if app != "" {
		query.Set("app", app)
	}
	if grace > 0 {
		query.Set("grace", strconv.Itoa(int(grace.Seconds()))+"s")
	}
	var answer struct{ Data string }
	err := o.call(ctx, http.MethodPost, "/control/reset?"+query.Encode(), nil, &answer)
	return answer.Data, err
}

func (o *apiClient) revoke(ctx context.Context, id string) error {
	return o.call(ctx, http.MethodDelete, keysPath+"/"+url.PathEscape(id), nil, nil)
}

func (o *apiClient) deleteRoom(ctx context.Context, room string) error {
	return o.call(ctx, http.MethodPost, "/control/delete?"+url.Values{"room": {room}}.Encode(), nil, nil)
}

func (o *apiClient) endSessions(ctx context.Context, app, room string) (int, error) {
	query := url.Values{"room": {room}}
	if app != "" {
		query.Set("app", app)
	}
	var answer struct{ Ended int }
	err := o.call(ctx, http.MethodDelete, "/api/v1/sessions?"+query.Encode(), nil, &answer)
	return answer.Ended, err
}

func (o *apiClient) Dump(ctx context.Context) ([]domain.Key, error) {
	var all struct{ Keys []keyexport.Key }
	if err := o.call(ctx, http.MethodGet, keysPath+"/export", nil, &all); err != nil {
		return nil, err
	}
	return fromJSON(all.Keys)
}

func (o *apiClient) importKeys(ctx context.Context, keys []domain.Key) (keyexport.Report, error) {
	var total keyexport.Report
	for batch := range slices.Chunk(keys, importBatch) {
		body := struct {
			Keys []keyexport.Key `json:"keys"`
		}{}
		for _, k := range batch {
			body.Keys = append(body.Keys, keyexport.FromDomain(k))
		}
		var report keyexport.Report
		if err := o.call(ctx, http.MethodPost, keysPath+"/import", body, &report); err != nil {
			return total, err
		}
		total.Add(report)
	}
	return total, nil
}

func (o *apiClient) Close() error {
	o.client.CloseIdleConnections()
	return nil
}

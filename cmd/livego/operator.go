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
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"livego/internal/app"
	"livego/internal/config"
	"livego/internal/keyfile"
	"livego/internal/live"
	"livego/internal/textfile"
)

const (
	// operatorTimeout bounds one request to a server on the same machine.
	operatorTimeout = 30 * time.Second
	// maxAnswer bounds what is read of its answer.
	maxAnswer = 64 << 20
	// importBatch is how many keys go in one request: a quarter of what its body may hold.
	importBatch = 50
)

// operator manages the keys of a running server by its HTTP.
type operator struct {
	base   string
	token  string // "" where it cannot be read: from this machine none is needed, mostly
	client *http.Client
}

// dialOperator returns the operator of the server that runs with these settings, if it does.
func dialOperator(cfg config.Config) *operator {
	token := cfg.AdminToken
	if token == "" {
		if data, err := os.ReadFile(filepath.Join(cfg.DataDir, app.TokenFile)); err == nil {
			data, _ = textfile.Decode(data) // the server refuses what is no text
			token = strings.TrimSpace(string(data))
		}
	}
	host, port, _ := net.SplitHostPort(cfg.APIAddr) // checked when the settings were read
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http://"
	var secure *tls.Config
	if cfg.UseAPIHTTPS {
		scheme, secure = "https://", trustOf(cfg)
	}
	return &operator{
		base: scheme + net.JoinHostPort(host, port), token: token,
		client: &http.Client{
			Timeout: operatorTimeout, Transport: &http.Transport{Proxy: nil, TLSClientConfig: secure},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// trustOf returns how the server's own certificate is known, which is for a name of the network and not for this machine's address:
// by that name, and by the file that the settings have, whoever has signed it.
func trustOf(cfg config.Config) *tls.Config {
	if len(cfg.ACME.Domains) > 0 {
		return &tls.Config{ServerName: cfg.ACME.Domains[0]}
	}
	pair, err := tls.LoadX509KeyPair(cfg.RTMPSCert, cfg.RTMPSKey)
	if err != nil {
		return nil // who serves by it has read it: this is another server
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

// answers reports whether a server is there.
func (o *operator) answers(ctx context.Context) bool {
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

// call makes a request with body as JSON, none for nil, and reads the answer into out.
func (o *operator) call(ctx context.Context, method, path string, body, out any) error {
	var sent io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, o.base+path, sent)
	if err != nil {
		return err
	}
	if o.token != "" {
		r.Header.Set("Authorization", "Bearer "+o.token)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := o.client.Do(r)
	if err != nil {
		return fmt.Errorf("the server at %s: %w", o.base, errors.Unwrap(err)) // without the URL
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("the answer of the server: %w", err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return refusalOf(resp.StatusCode, data)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}

// refusalOf returns what a server has said, by either of its ways to say no.
func refusalOf(status int, data []byte) error {
	var said struct {
		Detail string `json:"detail"`
		Data   string `json:"data"`
	}
	if json.Unmarshal(data, &said) != nil || said.Detail+said.Data == "" {
		return fmt.Errorf("the server answers %d", status)
	}
	if status == http.StatusConflict {
		return live.Errorf(live.Conflict, "the server says: %s", said.Detail+said.Data)
	}
	return fmt.Errorf("the server says: %s", said.Detail+said.Data)
}

const operatorKeys = "/api/v1/keys"

func (o *operator) list(ctx context.Context, room string) ([]live.Key, error) {
	var all []live.Key
	for after := ""; ; {
		var page struct {
			Keys []keyfile.Key
			Next string
		}
		query := url.Values{"limit": {"1000"}}
		if room != "" {
			query.Set("room", room)
		}
		if after != "" {
			query.Set("after", after)
		}
		if err := o.call(ctx, http.MethodGet, operatorKeys+"?"+query.Encode(), nil, &page); err != nil {
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

func fromJSON(in []keyfile.Key) ([]live.Key, error) {
	keys := make([]live.Key, len(in))
	for i, j := range in {
		var err error
		if keys[i], err = j.Key(); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func (o *operator) add(ctx context.Context, k live.Key) (live.Key, error) {
	j := keyfile.Of(k)
	body := map[string]any{"room": j.Room}
	for name, v := range map[string]string{"app": j.App, "label": j.Label, "role": j.Role} {
		if v != "" {
			body[name] = v
		}
	}
	if j.Expires != nil {
		body["expires"] = j.Expires
	}
	var made keyfile.Key
	if err := o.call(ctx, http.MethodPost, operatorKeys, body, &made); err != nil {
		return live.Key{}, err
	}
	return made.Key()
}

func (o *operator) reset(ctx context.Context, app, room string, grace time.Duration) (string, error) {
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

func (o *operator) revoke(ctx context.Context, id string) error {
	return o.call(ctx, http.MethodDelete, operatorKeys+"/"+url.PathEscape(id), nil, nil)
}

func (o *operator) remove(ctx context.Context, room string) error {
	return o.call(ctx, http.MethodPost, "/control/delete?"+url.Values{"room": {room}}.Encode(), nil, nil)
}

func (o *operator) endSessions(ctx context.Context, app, room string) (int, error) {
	query := url.Values{"room": {room}}
	if app != "" {
		query.Set("app", app)
	}
	var answer struct{ Ended int }
	err := o.call(ctx, http.MethodDelete, "/api/v1/sessions?"+query.Encode(), nil, &answer)
	return answer.Ended, err
}

func (o *operator) dump(ctx context.Context) ([]live.Key, error) {
	var all struct{ Keys []keyfile.Key }
	if err := o.call(ctx, http.MethodGet, operatorKeys+"/export", nil, &all); err != nil {
		return nil, err
	}
	return fromJSON(all.Keys)
}

func (o *operator) load(ctx context.Context, keys []live.Key) (keyfile.Report, error) {
	var total keyfile.Report
	for batch := range slices.Chunk(keys, importBatch) {
		body := struct {
			Keys []keyfile.Key `json:"keys"`
		}{}
		for _, k := range batch {
			body.Keys = append(body.Keys, keyfile.Of(k))
		}
		var report keyfile.Report
		if err := o.call(ctx, http.MethodPost, operatorKeys+"/import", body, &report); err != nil {
			return total, err
		}
		total.Add(report)
	}
	return total, nil
}

func (o *operator) close() error {
	o.client.CloseIdleConnections()
	return nil
}

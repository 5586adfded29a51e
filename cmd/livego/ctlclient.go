package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// apiPrefix is the path prefix of the API.
const apiPrefix = "/api/v1"

// An apiCall is a request to the API, and how its response is shown.
type apiCall struct {
	method  string // GET if ""
	path    string // below apiPrefix
	query   url.Values
	body    any      // sent as JSON; nil for none
	list    string   // the member of the response that is a list of entries; "" if there is none
	limit   int      // at most this many entries; 0 for all
	columns []string // the members of an entry in the table; nil for all
}

// ctlClient returns the client for the server that the flags, the environment, the context or the
// settings of this machine name, in this order. A token that is stored with a server is sent to no other.
func (e *env) ctlClient() (_ *apiClient, err error) {
	f := e.ctl
	server := cmp.Or(f.Server, e.getenv("LIVEGO_CTL_SERVER"))
	token, ca := cmp.Or(f.Token, e.getenv("LIVEGO_CTL_TOKEN")), f.CA
	if f.TokenFile != "" {
		if token, err = readToken(f.TokenFile); err != nil {
			return nil, err
		}
	}
	if f.Context != "" || server == "" {
		contexts, err := e.readContexts()
		if err != nil {
			return nil, err
		}
		name := cmp.Or(f.Context, e.getenv("LIVEGO_CTL_CONTEXT"), contexts.Current)
		c, ok := contexts.Contexts[name]
		switch {
		case name == "": // the server of this machine
		case !ok:
			return nil, errNoContext(name)
		default:
			server, token, ca = c.Server, cmp.Or(token, c.Token), cmp.Or(ca, c.CA)
		}
	}
	if server == "" {
		cfg, err := e.load()
		if err != nil {
			return nil, err
		}
		client := newAPIClient(cfg.Config)
		client.token = cmp.Or(token, client.token)
		return client, nil
	}
	base, err := parseServer(server)
	if err != nil {
		return nil, &failure{exitUsage, err}
	}
	var secure *tls.Config
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		secure = &tls.Config{RootCAs: x509.NewCertPool()}
		if !secure.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: the file has no certificate in PEM", ca)
		}
	}
	return connectAPI(base, token, secure), nil
}

// readToken returns the token in a file.
func readToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	return strings.TrimSpace(string(data)), err
}

// parseServer returns the base URL of a server.
func parseServer(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return "", errors.New("the server must be a URL such as https://live.example.com or http://127.0.0.1:8090")
	}
	return strings.TrimSuffix(server, "/"), nil
}

// getenv returns a variable of the environment, "" if it is not set.
func (e *env) getenv(name string) string {
	for _, v := range slices.Backward(e.environ) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// callAPI makes a call and prints the response, again and again with --watch.
func (e *env) callAPI(call apiCall) error {
	if call.method = cmp.Or(call.method, http.MethodGet); call.method != http.MethodGet && e.ctl.Watch {
		return &failure{exitUsage, errors.New("--watch is for commands that only read")}
	}
	client, err := e.ctlClient()
	if err != nil {
		return err
	}
	defer client.client.CloseIdleConnections()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for {
		response, err := client.fetch(ctx, call)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		var out bytes.Buffer
		if e.ctl.JSON {
			err = response.printJSON(&out)
		} else {
			err = response.print(&out, call)
		}
		if err != nil {
			return err
		}
		if e.ctl.Watch && isTerminal(e.stdout) {
			const home, clear = "\x1b[H", "\x1b[J" // ECMA-48: CUP, ED
			out.WriteString(clear)
			_, err = fmt.Fprint(e.stdout, home, strings.ReplaceAll(out.String(), "\n", "\x1b[K\n"))
		} else {
			_, err = out.WriteTo(e.stdout)
		}
		if err != nil || !e.ctl.Watch {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(e.ctl.Interval, 100*time.Millisecond)):
		}
	}
}

// maxPage is the longest page of a list.
const maxPage = 1000

// fetch makes a call. Of a list it fetches all pages, up to the limit of the call.
func (o *apiClient) fetch(ctx context.Context, call apiCall) (value, error) {
	if call.list == "" {
		var response value
		return response, o.call(ctx, call.method, apiPrefix+call.path+encodeQuery(call.query), call.body, &response)
	}
	entries := value{kind: array}
	query := url.Values{}
	for name, values := range call.query {
		query[name] = values
	}
	for {
		var page value
		if call.limit > 0 {
			query.Set("limit", fmt.Sprint(min(call.limit-len(entries.items), maxPage)))
		}
		if err := o.call(ctx, http.MethodGet, apiPrefix+call.path+encodeQuery(query), nil, &page); err != nil {
			return value{}, err
		}
		entries.items = append(entries.items, page.member(call.list).items...)
		next := page.member("next").text
		if next == "" || next == query.Get("cursor") || call.limit > 0 && len(entries.items) >= call.limit {
			return entries, nil
		}
		query.Set("cursor", next)
	}
}

func encodeQuery(q url.Values) string {
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// watchEvents prints events as they happen, until interrupted or the server stops.
func (e *env) watchEvents(call apiCall) error {
	client, err := e.ctlClient()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	client.client.Timeout = 0
	resp, err := client.send(ctx, http.MethodGet, apiPrefix+call.path+encodeQuery(call.query), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxResponse)
	name := ""
	for lines.Scan() && err == nil {
		line := lines.Text()
		if text, ok := strings.CutPrefix(line, "event: "); ok {
			name = text
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			err = e.printEvent(name, data, call.columns)
		}
		if line == "" {
			name = ""
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return cmp.Or(err, lines.Err(), errors.New("the server has ended the stream of events"))
}

// printEvent prints one event of a stream, which has no name; "lost" reports lost events.
func (e *env) printEvent(name, data string, columns []string) error {
	if e.ctl.JSON {
		_, err := fmt.Fprintln(e.stdout, data)
		return err
	}
	v, err := parseValue([]byte(data))
	if err != nil {
		return err
	}
	if name == "lost" {
		_, err := fmt.Fprintf(e.stderr, "livego: %s events were lost: this client is too slow\n", v.member("events").text)
		return err
	}
	var cells []string
	for _, c := range columns {
		if cell := v.cell(c); cell != "-" {
			cells = append(cells, cell)
		}
	}
	_, err = fmt.Fprintln(e.stdout, strings.Join(cells, "  "))
	return err
}

// download stores the file at path in a new file; "" is its name on the server.
func (e *env) download(path, file string) error {
	client, err := e.ctlClient()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	client.client.Timeout = 0
	resp, err := client.send(ctx, http.MethodGet, apiPrefix+path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if file == "-" {
		_, err := io.Copy(e.stdout, resp.Body)
		return err
	}
	if file == "" {
		_, params, _ := mime.ParseMediaType(resp.Header.Get("Content-Disposition"))
		if file = params["filename"]; file == "" || file != filepath.Base(file) || strings.HasPrefix(file, ".") {
			return errors.New("the server names no file: add a name to the command")
		}
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, resp.Body)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	_, err = fmt.Fprintf(e.stderr, "livego: %s written to %s\n", formatBytes(n), file)
	return err
}

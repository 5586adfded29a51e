package acmetest

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

func (a *Authority) accountURL(i int) string { return fmt.Sprintf("%s/account/%d", a.srv.URL, i) }

// ServeHTTP implements http.Handler.
func (a *Authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	nonce := rand.Text()
	a.nonces[nonce] = true
	w.Header().Set("Replay-Nonce", nonce)
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/directory":
		writeJSON(w, 200, map[string]any{
			"newNonce": a.srv.URL + "/nonce", "newAccount": a.srv.URL + "/account", "newOrder": a.srv.URL + "/order",
			"meta": map[string]any{},
		})
		return
	case "/nonce":
		return
	}
	req, err := a.readRequest(r)
	if err == nil {
		err = a.serve(w, r.URL.Path, req)
	}
	if err != nil {
		a.problems = append(a.problems, r.URL.Path+": "+err.Error())
		ref := &problem{500, "serverInternal", err.Error()}
		errors.As(err, &ref)
		w.Header().Set("Content-Type", "application/problem+json")
		writeJSON(w, ref.status, map[string]any{"type": "urn:ietf:params:acme:error:" + ref.kind, "detail": ref.text,
			"status": ref.status})
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// serve handles a signed request. The caller holds a.mu.
func (a *Authority) serve(w http.ResponseWriter, path string, req request) error {
	what, number, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch path {
	case "/account":
		return a.newAccount(w, req)
	case "/order":
		return a.newOrder(w, req)
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || n >= len(a.orders) || a.orders[n].account != req.account {
		return newProblem(404, "malformed", "this account has no %s", path)
	}
	o := a.orders[n]
	switch what {
	case "authz":
		writeJSON(w, 200, map[string]any{
			"status": o.authorization(), "identifier": identifier(o.domain), "challenges": []any{a.challenge(n)},
		})
	case "challenge":
		if string(req.payload) != "{}" { // 7.5.1
			return newProblem(400, "malformed", "the response to a challenge must be an empty object")
		}
		a.validateChallenge(o)
		w.Header().Set("Link", fmt.Sprintf(`<%s/authz/%d>;rel="up"`, a.srv.URL, n))
		writeJSON(w, 200, a.challenge(n))
	case "finalize":
		if o.status != "ready" {
			return newProblem(403, "orderNotReady", "the order is %s", o.status)
		}
		csr, err := certificateRequest(req, o)
		if err == nil {
			err = a.issue(o, csr)
		}
		if err != nil {
			return err
		}
		a.writeOrder(w, 200, n)
	case "order":
		a.writeOrder(w, 200, n)
	case "cert":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		_, _ = w.Write(o.chain)
	default:
		return newProblem(404, "malformed", "no resource %s", path)
	}
	return nil
}

func (a *Authority) newAccount(w http.ResponseWriter, req request) error {
	var body struct {
		Agreed   bool `json:"termsOfServiceAgreed"`
		Existing bool `json:"onlyReturnExisting"`
	}
	if err := json.Unmarshal(req.payload, &body); err != nil {
		return newProblem(400, "malformed", "%v", err)
	}
	status := 200
	if req.account < 0 {
		if body.Existing {
			return newProblem(400, "accountDoesNotExist", "no account has this key")
		}
		if !body.Agreed {
			return newProblem(403, "userActionRequired", "the terms were not agreed to")
		}
		a.accounts = append(a.accounts, req.key)
		req.account, status = len(a.accounts)-1, 201
	}
	w.Header().Set("Location", a.accountURL(req.account))
	writeJSON(w, status, map[string]any{"status": "valid"})
	return nil
}

func (a *Authority) newOrder(w http.ResponseWriter, req request) error {
	var body struct {
		Identifiers []struct{ Type, Value string }
	}
	if err := json.Unmarshal(req.payload, &body); err != nil || len(body.Identifiers) != 1 ||
		body.Identifiers[0].Type != "dns" {
		return newProblem(400, "malformed", "an order must have one name: %s", req.payload)
	}
	a.orders = append(a.orders, &order{account: req.account, domain: body.Identifiers[0].Value, token: rand.Text(),
		status: "pending"})
	w.Header().Set("Location", fmt.Sprintf("%s/order/%d", a.srv.URL, len(a.orders)-1))
	a.writeOrder(w, 201, len(a.orders)-1)
	return nil
}

func identifier(domain string) any { return map[string]string{"type": "dns", "value": domain} }

func (a *Authority) writeOrder(w http.ResponseWriter, status, n int) {
	o := a.orders[n]
	v := map[string]any{
		"status": o.status, "identifiers": []any{identifier(o.domain)},
		"authorizations": []any{fmt.Sprintf("%s/authz/%d", a.srv.URL, n)},
		"finalize":       fmt.Sprintf("%s/finalize/%d", a.srv.URL, n),
	}
	if o.chain != nil {
		v["certificate"] = fmt.Sprintf("%s/cert/%d", a.srv.URL, n)
	}
	writeJSON(w, status, v)
}

// authorization returns the status of the only authorization of o.
func (o *order) authorization() string {
	if o.status == "pending" || o.status == "invalid" {
		return o.status
	}
	return "valid"
}

func (a *Authority) challenge(n int) any {
	o := a.orders[n]
	return map[string]any{
		"type": "http-01", "url": fmt.Sprintf("%s/challenge/%d", a.srv.URL, n), "token": o.token, "status": o.authorization(),
	}
}

// validateChallenge fetches the response to the challenge from the domain, which is on this machine
// (8.3).
func (a *Authority) validateChallenge(o *order) {
	port := a.ports[a.validations%len(a.ports)]
	a.validations++
	o.status = "invalid"
	r, err := http.NewRequest("GET", fmt.Sprintf("http://127.0.0.1:%d/.well-known/acme-challenge/%s", port, o.token), nil)
	if err != nil {
		a.problems = append(a.problems, err.Error())
		return
	}
	r.Host = o.domain
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		a.problems = append(a.problems, err.Error())
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if want := o.token + "." + thumbprint(a.accounts[o.account]); strings.TrimRight(string(body), " \r\n\t") != want {
		a.problems = append(a.problems, fmt.Sprintf("HTTP %d: %s, want %s", resp.StatusCode, body, want))
		return
	}
	o.status = "ready"
}

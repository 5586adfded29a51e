package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"livego/internal/control/auth"
	"livego/internal/domain"
)

// v1 begins the path of every route of the interface that programs are written for.
const v1 = "/api/v1"

// routeV1 serves /api/v1. Its description, in OpenAPI 3.1, is made from the types of what goes in and out.
func (s *server) routeV1() {
	config := huma.DefaultConfig("livego", s.Version)
	// the page of the docs would load from elsewhere
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = v1+"/openapi", "", ""
	// nor does an answer point to its schema
	config.CreateHooks = nil
	config.RejectUnknownQueryParameters = true
	config.Formats = map[string]huma.Format{"application/json": strictJSON(), "json": strictJSON()}
	config.Transformers = []huma.Transformer{redactInput}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"bearer": {Type: "http", Scheme: "bearer"}}
	config.Security = []map[string][]string{{"bearer": {}}, {}}
	mux := http.NewServeMux()
	api := humago.New(mux, config)
	s.routeKeys(api)
	s.routeTokens(api)
	s.routeRelays(api)
	s.routeSessions(api)
	huma.Register(api, operation("GET", v1+"/events", "list-events", "Who was refused lately, the newest first"),
		s.listEvents)
	huma.Register(api, operation("GET", v1+"/recordings", "list-recordings",
		"What is recorded, and the last files that were finished, the newest first"), s.listRecordings)
	s.mux.HandleFunc(v1+"/", func(w http.ResponseWriter, r *http.Request) {
		for name, values := range r.URL.Query() {
			if len(values) > 1 {
				writeError(w, r, domain.Errorf(domain.Invalid, "%.32q is given %d times", name, len(values)))
				return
			}
		}
		mux.ServeHTTP(&problemWriter{ResponseWriter: w, r: r}, r)
	})
}

type eventsInput struct {
	Type  string `query:"type" enum:"denied" default:"denied" doc:"Of what kind: there is one."`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type eventList struct {
	Body struct {
		Events []auth.Refusal `json:"events"`
	}
}

func (s *server) listEvents(_ context.Context, in *eventsInput) (*eventList, error) {
	out := new(eventList)
	out.Body.Events = s.Audit.Latest(in.Limit)
	return out, nil
}

// operation describes a route.
func operation(method, path, id, summary string, errors ...int) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, MaxBodyBytes: maxBody,
		Errors: append([]int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden,
			http.StatusServiceUnavailable}, errors...),
	}
}

// problemWriter has the libraries' answers be those of the rest: 400 where a request breaks a rule,
// and a problem where the mux knows no route or method, of which it speaks in plain text.
type problemWriter struct {
	http.ResponseWriter
	r           *http.Request
	discardBody bool // the body that follows is not ours
}

func (w *problemWriter) WriteHeader(status int) {
	ofMux := strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain")
	switch {
	case status == http.StatusUnprocessableEntity:
		status = http.StatusBadRequest
	case ofMux && status == http.StatusMethodNotAllowed:
		w.discardBody = true
		writeError(w.ResponseWriter, w.r, errMethod)
		return
	case ofMux && status == http.StatusNotFound:
		w.discardBody = true
		writeError(w.ResponseWriter, w.r, errNoRoute)
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *problemWriter) Write(b []byte) (int, error) {
	if w.discardBody {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

// redactInput keeps what was sent out of an error: it may be a secret in the wrong place.
func redactInput(_ huma.Context, _ string, v any) (any, error) {
	e, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	if e.Status == http.StatusUnprocessableEntity {
		e.Status, e.Title = http.StatusBadRequest, http.StatusText(http.StatusBadRequest)
	}
	for _, d := range e.Errors {
		d.Value = nil
		if strings.HasPrefix(d.Message, "un") { // unexpected property, unknown query parameter
			d.Location = "" // a name that the sender made up
		}
	}
	return e, nil
}

// strictJSON reads a body as its sender must have meant it: no member twice, and nothing behind it.
func strictJSON() huma.Format {
	return huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: func(data []byte, v any) error {
		if err := checkDuplicateMembers(data); err != nil {
			return err
		}
		return json.Unmarshal(data, v)
	}}
}

var errJSON = errors.New("the body is no JSON, or has a member twice")

// checkDuplicateMembers looks for members that are there twice.
func checkDuplicateMembers(data []byte) error {
	type level struct {
		members map[string]bool // nil in an array
		value   bool            // a member's value comes next
	}
	var open []level
	d := json.NewDecoder(bytes.NewReader(data))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && len(open) == 0 {
			return nil
		}
		if err != nil {
			return errJSON
		}
		delim, isDelim := token.(json.Delim)
		if isDelim && (delim == '}' || delim == ']') {
			open = open[:len(open)-1]
			continue
		}
		if n := len(open); n > 0 && open[n-1].members != nil {
			top := &open[n-1]
			if name, ok := token.(string); ok && !top.value {
				if top.members[name] {
					return errJSON
				}
				top.members[name], top.value = true, true
				continue
			}
			top.value = false
		}
		if !isDelim {
			continue
		}
		if len(open) == maxDepth {
			return errJSON
		}
		l := level{}
		if delim == '{' {
			l.members = map[string]bool{}
		}
		open = append(open, l)
	}
}

// maxDepth is how deep the JSON of a request may be.
const maxDepth = 32

// writeProblem writes err as RFC 9457 has it.
func writeProblem(w http.ResponseWriter, err error) {
	status := statusOf(err)
	if status == http.StatusForbidden && !errors.Is(err, auth.ErrRights) {
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	writeJSON(w, huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: clientMessage(err)})
}

// humaError returns err as the library wants it.
func humaError(err error) error { return huma.NewError(statusOf(err), clientMessage(err)) }

// withoutCancel is uncanceledContext for what has a context only.
func withoutCancel(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"livego/internal/control/auth"
	"livego/internal/domain"
)

// v1 is the path prefix of the versioned API.
const v1 = "/api/v1"

// routeV1 serves /api/v1. The OpenAPI 3.1 description is generated from the input and output types.
func (s *server) routeV1() {
	config := huma.DefaultConfig("livego", s.Version)
	// the documentation page would load scripts from other sites
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = v1+"/openapi", "", ""
	// responses do not link to their schema
	config.CreateHooks = nil
	config.RejectUnknownQueryParameters = true
	config.Formats = map[string]huma.Format{"application/json": strictJSON(), "json": strictJSON()}
	config.Transformers = []huma.Transformer{redactInput}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"bearer": {Type: "http", Scheme: "bearer"}}
	config.Security = []map[string][]string{{"bearer": {}}, {}}
	config.OnAddOperation = append(config.OnAddOperation, completeOperation)
	mux := http.NewServeMux()
	api := humago.New(mux, config)
	s.routeKeys(api)
	make := operation("POST", tokensPath, "make-token", "Make a token to watch or to publish a stream",
		http.StatusNotFound, http.StatusConflict)
	make.DefaultStatus = http.StatusCreated
	huma.Register(api, make, s.makeToken)
	s.routeRelays(api)
	s.routeRooms(api)
	s.routeStreams(api)
	s.routeSessions(api)
	s.routeEvents(api)
	s.routeRecordings(api)
	s.routeSettings(api)
	s.routeServer(api)
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

// operation returns the description of a route.
func operation(method, path, id, summary string, errors ...int) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, MaxBodyBytes: maxBody,
		Errors: append([]int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden,
			http.StatusServiceUnavailable}, errors...),
	}
}

// completeOperation changes what huma describes to what this package does: the responses of
// problemWriter and of the limits of all requests, and the role that a caller needs.
func completeOperation(_ *huma.OpenAPI, op *huma.Operation) {
	access := requiredAccess(&http.Request{Method: op.Method, URL: &url.URL{Path: op.Path}})
	op.Extensions = map[string]any{"x-role": access.Rights.String()}
	delete(op.Responses, "422")
	if access.Rights == auth.Read && !access.Credential {
		delete(op.Responses, "403") // every valid credential has the rights
	}
	if op.RequestBody != nil {
		for _, status := range []int{http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType} {
			op.Responses[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status),
				Content: op.Responses["400"].Content}
		}
	}
	if created := op.Responses["201"]; created != nil && created.Content == nil {
		created.Content = op.Responses["200"].Content
	}
}

// problemWriter adapts responses of huma and net/http: 422 becomes 400, and the plain-text 404, 405
// and 416 of net/http become problem details.
type problemWriter struct {
	http.ResponseWriter
	r           *http.Request
	discardBody bool // drop the plain text
}

func (w *problemWriter) WriteHeader(status int) {
	isText := strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain")
	switch {
	case status == http.StatusUnprocessableEntity:
		status = http.StatusBadRequest
	case isText && status == http.StatusMethodNotAllowed:
		w.discardBody = true
		writeError(w.ResponseWriter, w.r, errMethod)
		return
	case isText && status == http.StatusRequestedRangeNotSatisfiable:
		w.discardBody = true
		writeError(w.ResponseWriter, w.r, errRange)
		return
	case isText && status == http.StatusNotFound:
		w.discardBody = true
		writeError(w.ResponseWriter, w.r, errNoRoute)
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *problemWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *problemWriter) Write(b []byte) (int, error) {
	if w.discardBody {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

// redactInput removes the client's input from an error: it may be a secret.
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
			d.Location = "" // the name is input too
		}
	}
	return e, nil
}

// strictJSON decodes JSON that is unambiguous: no duplicate members and no trailing data.
func strictJSON() huma.Format {
	return huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: func(data []byte, v any) error {
		if err := checkDuplicateMembers(data); err != nil {
			return err
		}
		return json.Unmarshal(data, v)
	}}
}

var errJSON = errors.New("invalid JSON body, or a duplicate member")

// checkDuplicateMembers returns an error if an object has a member twice. Names that differ only in
// case are the same member: encoding/json decodes them into the same field.
func checkDuplicateMembers(data []byte) error {
	type level struct {
		members map[string]bool // nil for an array
		value   bool            // the next token is a member's value
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
				name = strings.ToLower(strings.ToUpper(name)) // folds also the long s and the Kelvin sign
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

// maxDepth is the maximum nesting depth of JSON in a request.
const maxDepth = 32

// writeProblem writes err as problem details (RFC 9457).
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

// humaError returns err as an error of huma.
func humaError(err error) error { return huma.NewError(statusOf(err), clientMessage(err)) }

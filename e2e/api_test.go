package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

const contractSecret = "a secret of the contract test"

// notProvoked are the documented statuses that TestAPIContract does not provoke: faults of the server
// and of its store, and conflicts and limits, which other tests provoke.
var notProvoked = []int{409, 429, 500, 502, 503}

// TestAPIContract calls every route and method of the OpenAPI description, as the description alone
// says: a valid call, and each documented error. Every response must be documented and match its
// schema.
func TestAPIContract(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	other := harness.Start(t, harness.Options{Flags: []string{"--rtmp_noauth=true"}})
	s := harness.Start(t, harness.Options{Flags: []string{
		"--jwt.secret=" + contractSecret, "--token.secret=another secret of the test", allowLoopback, "--flv_archive=true",
		"--flv_dir=" + t.TempDir(),
	}})
	c := newContract(t, s)
	c.values["url"] = other.RTMP("contract")
	c.values["keys"] = []any{map[string]any{"room": "imported"}}

	file := load(t, sample.AV).File(t)
	for _, room := range []string{"contract", "ended"} {
		made := c.getJSON("PUT", "/api/v1/rooms/"+room)
		s.PushTo(file, s.RTMP(made["key"].(string)), "-stream_loop", "-1")
		harness.Eventually(t, 20*time.Second, "live", func() error {
			if in := c.getJSON("GET", "/api/v1/recordings?state=recording&room="+room); len(in["recordings"].([]any)) == 0 {
				return errors.New("not recorded")
			}
			return nil
		})
	}
	c.getJSON("DELETE", "/api/v1/streams/live/ended")
	harness.Eventually(t, 20*time.Second, "a finished recording", func() error {
		if in := c.getJSON("GET", "/api/v1/recordings?state=finished"); len(in["recordings"].([]any)) == 0 {
			return errors.New("none")
		}
		return nil
	})

	for _, o := range c.operations() {
		c.callErrors(o)
		c.callValid(o)
	}
	c.callOtherMethods()
	for _, o := range c.operations() {
		for _, status := range o.statuses() {
			if !c.seen[o.id][status] && !slices.Contains(notProvoked, status) {
				t.Errorf("%s: no response has the documented status %d", o.id, status)
			}
		}
	}
}

// A contract is an OpenAPI description, and the server that must keep it.
type contract struct {
	t        *testing.T
	s        *harness.Server
	doc      map[string]any
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema // by JSON pointer
	values   map[string]any                // of members and required parameters, by name
	seen     map[string]map[int]bool       // statuses by operation
}

func newContract(t *testing.T, s *harness.Server) *contract {
	c := &contract{
		t: t, s: s, compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{},
		values: map[string]any{"app": "live", "room": "contract", "direction": "push", "action": "play",
			"description": "of a test", "label": "studio"},
		seen: map[string]map[int]bool{},
	}
	c.doc = c.getJSON("GET", "/api/v1/openapi.json")
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource("openapi.json", c.doc); err != nil {
		t.Fatal(err)
	}
	return c
}

// An apiOperation is one method of one path.
type apiOperation struct {
	id, method, path string
	spec             map[string]any
}

// operations returns all operations in the order of calls: those that delete what others need come
// last.
func (c *contract) operations() (list []apiOperation) {
	for path, methods := range c.doc["paths"].(map[string]any) {
		for method, spec := range methods.(map[string]any) {
			spec := spec.(map[string]any)
			list = append(list, apiOperation{spec["operationId"].(string), strings.ToUpper(method), path, spec})
		}
	}
	order := func(o apiOperation) int {
		deletes := strings.HasPrefix(o.method, "DELETE")
		return slices.Index([]bool{
			o.method == "PUT" || o.method == "POST", !deletes, deletes && strings.Contains(o.path, "/sessions"),
			deletes && strings.Contains(o.path, "/streams"), deletes && !strings.Contains(o.path, "/rooms"), true,
		}, true)
	}
	slices.SortFunc(list, func(a, b apiOperation) int {
		return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(a.path+a.method, b.path+b.method))
	})
	return list
}

func (o apiOperation) statuses() (list []int) {
	for status := range o.spec["responses"].(map[string]any) {
		n, _ := strconv.Atoi(status)
		list = append(list, n)
	}
	slices.Sort(list)
	return list
}

// parameters returns the parameters in "path" or "query".
func (o apiOperation) parameters(in string) (list []map[string]any) {
	all, _ := o.spec["parameters"].([]any)
	for _, p := range all {
		if p := p.(map[string]any); p["in"] == in {
			list = append(list, p)
		}
	}
	return list
}

// role returns the least role that may call it.
func (o apiOperation) role() string { return o.spec["x-role"].(string) }

// bodySchema returns the schema of the body; nil if it has none.
func (c *contract) bodySchema(o apiOperation) map[string]any {
	body, ok := o.spec["requestBody"].(map[string]any)
	if !ok {
		return nil
	}
	schema := body["content"].(map[string]any)["application/json"].(map[string]any)["schema"].(map[string]any)
	if ref, ok := schema["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/components/schemas/")
		schema = c.doc["components"].(map[string]any)["schemas"].(map[string]any)[name].(map[string]any)
	}
	return schema
}

// body returns a valid body, with the members that the test has values for; "" if there is none.
func (c *contract) body(o apiOperation) string {
	schema := c.bodySchema(o)
	if schema == nil {
		return ""
	}
	members := map[string]any{}
	required, _ := schema["required"].([]any)
	properties, _ := schema["properties"].(map[string]any)
	for name := range properties {
		if v, ok := c.values[name]; ok {
			members[name] = v
		} else if slices.Contains(required, any(name)) {
			c.t.Errorf("%s: the test has no value for the member %s", o.id, name)
		}
	}
	text, err := json.Marshal(members)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

// targets returns URLs of o for each entry of the list that its path parameters refer to. Without
// such parameters it returns one.
func (c *contract) targets(o apiOperation) (list []string) {
	query := url.Values{}
	for _, p := range o.parameters("query") {
		if name := p["name"].(string); p["required"] == true {
			query.Set(name, fmt.Sprint(c.values[name]))
		}
	}
	add := func(path string) { list = append(list, path+"?"+query.Encode()) }
	collection, _, found := strings.Cut(o.path, "/{")
	if !found {
		add(o.path)
		return list
	}
	for _, entries := range c.getJSON("GET", collection) {
		entries, _ := entries.([]any)
		for _, e := range entries {
			path := o.path
			for _, p := range o.parameters("path") {
				name := p["name"].(string)
				value, ok := e.(map[string]any)[name].(string)
				if !ok {
					c.t.Fatalf("%s: the entries of %s have no %s", o.id, collection, name)
				}
				path = strings.Replace(path, "{"+name+"}", url.PathEscape(value), 1)
			}
			add(path)
		}
	}
	return list
}

// absent returns the URL of o for what does not exist.
func (o apiOperation) absent() string {
	path := o.path
	for _, p := range o.parameters("path") {
		path = strings.Replace(path, "{"+p["name"].(string)+"}", "nothing", 1)
	}
	return path
}

// callValid calls o as it is documented: it must succeed for one of the entries that it can refer to.
func (c *contract) callValid(o apiOperation) {
	var answers []string
	for _, target := range c.targets(o) {
		status, answer := c.call(o, target, c.body(o), "admin")
		answers = append(answers, fmt.Sprint(target, " ", status, " ", answer))
		if status/100 == 2 {
			if slices.Contains(o.statuses(), 206) {
				c.call(o, target, "", "admin", "Range: bytes=0-3")
				c.call(o, target, "", "admin", "Range: bytes=999999999999-")
			}
			if o.method == "PUT" || slices.Contains(o.statuses(), 201) && slices.Contains(o.statuses(), 200) {
				c.call(o, target, c.body(o), "admin") // what it creates exists now
				c.call(o, strings.Replace(o.path, "{room}", "another", 1), c.body(o), "admin")
			}
			return
		}
	}
	c.t.Errorf("%s never succeeds: %q", o.id, answers)
}

// callErrors calls o with each mistake that the description lets a client make.
func (c *contract) callErrors(o apiOperation) {
	target, body := o.absent(), c.body(o)
	check := func(what string, want int, target, body, role string, headers ...string) {
		if status, answer := c.call(o, target, body, role, headers...); status != want {
			c.t.Errorf("%s with %s: %d %s, want %d", o.id, what, status, answer, want)
		}
	}
	check("no credential", 401, target, body, "")
	check("an invalid credential", 401, target, body, "nobody")
	check("an unknown parameter", 400, target+"?unknown=1", body, "admin")
	for _, p := range o.parameters("query") {
		name, schema := p["name"].(string), p["schema"].(map[string]any)
		check("two of "+name, 400, target+"?"+name+"=1&"+name+"=1", body, "admin")
		if schema["type"] != "string" || schema["enum"] != nil || schema["format"] != nil {
			check("an invalid "+name, 400, target+"?"+name+"=%2F", body, "admin")
		}
		if n, ok := schema["maxLength"].(json.Number); ok {
			length, _ := n.Int64()
			check("a long "+name, 400, target+"?"+name+"="+strings.Repeat("1", int(length)+1), body, "admin")
		}
		if p["required"] == true {
			check("no "+name, 400, target, body, "admin")
		}
	}
	if i := slices.Index([]string{"read", "operate", "admin"}, o.role()); i > 0 {
		check("too few rights", 403, target, body, []string{"read", "operate"}[i-1])
	}
	check("a role that is none", 401, target, body, "spectator")
	if slices.Contains(o.statuses(), 404) {
		absent := target
		if len(o.parameters("path")) == 0 { // then the app is absent, in the body or in the query
			c.values["app"] = "nothing"
			if len(o.parameters("query")) > 0 {
				absent += "?app=nothing&room=contract"
			}
		}
		check("nothing there", 404, absent, c.body(o), "admin")
		c.values["app"] = "live"
	}
	schema := c.bodySchema(o)
	if schema == nil {
		return
	}
	for _, text := range []string{"{", "[]", `"x"`, body + "x", `{"a":1,"a":1}`, strings.Repeat("[", 100)} {
		check("the body "+text, 400, target, text, "admin")
	}
	if schema["additionalProperties"] == false {
		check("an unknown member", 400, target, strings.Replace(body, "{", `{"unknown":1,`, 1), "admin")
	}
	required, _ := schema["required"].([]any)
	if len(required) > 0 {
		check("no members", 400, target, "{}", "admin")
	}
	check("a long body", 413, target, `{"x":"`+strings.Repeat("x", 70<<10)+`"}`, "admin")
	check("a compressed body", 415, target, body, "admin", "Content-Encoding: gzip")
	properties, _ := schema["properties"].(map[string]any)
	for name, member := range properties {
		if member.(map[string]any)["type"] == "string" {
			check("a number as "+name, 400, target, fmt.Sprintf("{%q:1}", name), "admin")
		}
	}
}

// callOtherMethods calls every path by the methods that it does not document.
func (c *contract) callOtherMethods() {
	for path, methods := range c.doc["paths"].(map[string]any) {
		documented := slices.Collect(maps.Keys(methods.(map[string]any)))
		for _, method := range []string{"get", "put", "post", "patch", "delete", "options", "trace"} {
			if slices.Contains(documented, method) || c.matchesOther(path, method) {
				continue
			}
			target := strings.NewReplacer("{", "", "}", "").Replace(path)
			resp, body := c.send(strings.ToUpper(method), target, "", "admin")
			allowed := strings.ToLower(resp.Header.Get("Allow"))
			for _, m := range documented {
				if !strings.Contains(allowed, m) {
					c.t.Errorf("%s %s: Allow is %q without %s", method, path, allowed, m)
				}
			}
			if resp.StatusCode != 405 {
				c.t.Errorf("%s %s: %d %s", method, path, resp.StatusCode, body)
			}
			if err := c.schema("/components/schemas/ErrorModel").Validate(c.decode(body)); err != nil {
				c.t.Errorf("%s %s: %v", method, path, err)
			}
		}
	}
	if resp, body := c.send("GET", "/api/v1/nothing", "", "admin"); resp.StatusCode != 404 {
		c.t.Errorf("an unknown path: %d %s", resp.StatusCode, body)
	}
}

// matchesOther reports whether path is also one of another documented path with a parameter, which has
// that method: /keys/export is one of /keys/{id}.
func (c *contract) matchesOther(path, method string) bool {
	for other, methods := range c.doc["paths"].(map[string]any) {
		start, parameter, _ := strings.Cut(other, "{")
		rest, ok := strings.CutPrefix(path, start)
		if ok && parameter != "" && !strings.Contains(parameter+rest, "/") && methods.(map[string]any)[method] != nil {
			return true
		}
	}
	return false
}

// call sends a request for o, and checks that the response is documented. headers are "Name: value".
func (c *contract) call(o apiOperation, target, body, role string, headers ...string) (status int, answer string) {
	c.t.Helper()
	resp, answer := c.send(o.method, target, body, role, headers...)
	if c.seen[o.id] == nil {
		c.seen[o.id] = map[int]bool{}
	}
	c.seen[o.id][resp.StatusCode] = true
	what := fmt.Sprintf("%s %s: %d %s", o.method, target, resp.StatusCode, cut(answer, 300))
	documented, ok := o.spec["responses"].(map[string]any)[strconv.Itoa(resp.StatusCode)].(map[string]any)
	if !ok {
		c.t.Errorf("%s: the status is not documented", what)
		return resp.StatusCode, answer
	}
	content, _ := documented["content"].(map[string]any)
	contentType := resp.Header.Get("Content-Type")
	if len(content) == 0 {
		if answer != "" {
			c.t.Errorf("%s: a body is not documented", what)
		}
		return resp.StatusCode, answer
	}
	if content[contentType] == nil {
		c.t.Errorf("%s: the content type %q is not documented", what, contentType)
		return resp.StatusCode, answer
	}
	if strings.HasSuffix(contentType, "json") {
		escape := strings.NewReplacer("~", "~0", "/", "~1")
		pointer := "/paths/" + escape.Replace(o.path) + "/" + strings.ToLower(o.method) + "/responses/" +
			strconv.Itoa(resp.StatusCode) + "/content/" + escape.Replace(contentType) + "/schema"
		if err := c.schema(pointer).Validate(c.decode(answer)); err != nil {
			c.t.Errorf("%s\n%v", what, err)
		}
	}
	return resp.StatusCode, answer
}

func (c *contract) schema(pointer string) *jsonschema.Schema {
	c.t.Helper()
	if s := c.schemas[pointer]; s != nil {
		return s
	}
	s, err := c.compiler.Compile("openapi.json#" + pointer)
	if err != nil {
		c.t.Fatal(err)
	}
	c.schemas[pointer] = s
	return s
}

func (c *contract) decode(text string) any {
	c.t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		c.t.Fatalf("%v: %s", err, cut(text, 300))
	}
	return v
}

// send sends a request with the credential of a role; "" for none. Of a stream without end it reads
// nothing.
func (c *contract) send(method, target, body, role string, headers ...string) (*http.Response, string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, c.s.API(target), bytes.NewReader([]byte(body)))
	if err != nil {
		c.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if role != "" {
		claims := fmt.Sprintf(`{"role":%q,"exp":%d}`, role, time.Now().Add(time.Hour).Unix())
		r.Header.Set("Authorization", "Bearer "+harness.JWT(contractSecret, `{"alg":"HS256"}`, claims))
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	resp, err := harness.Client().Do(r)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		return resp, ""
	}
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, target, err)
	}
	return resp, string(answer)
}

// getJSON sends a request that must succeed, and returns the object in the response.
func (c *contract) getJSON(method, target string) map[string]any {
	c.t.Helper()
	resp, body := c.send(method, target, "", "admin")
	if resp.StatusCode/100 != 2 {
		c.t.Fatalf("%s %s: %d %s", method, target, resp.StatusCode, body)
	}
	if body == "" {
		return nil
	}
	return c.decode(body).(map[string]any)
}

func cut(s string, limit int) string { return s[:min(len(s), limit)] }

// TestRoomSurvivesKill creates and describes a room, kills the server and starts it again.
func TestRoomSurvivesKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var made, found struct{ Description, Key string }
	for i, status := range []int{http.StatusCreated, http.StatusOK} {
		s := harness.Start(t, harness.Options{DataDir: dir})
		body := `{"description":"Camera 1"}`
		if i == 1 {
			body = ""
		}
		resp, text := request(t, http.MethodPut, s.API("/api/v1/rooms/movie"), func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
		})
		if err := json.Unmarshal([]byte(text), []any{&made, &found}[i]); resp.StatusCode != status || err != nil {
			t.Fatalf("HTTP %d %s, want %d", resp.StatusCode, text, status)
		}
		s.Kill()
	}
	if found != made || found.Description != "Camera 1" || found.Key == "" {
		t.Errorf("created %+v, found %+v", made, found)
	}
}

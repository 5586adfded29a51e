package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"
)

// TestOpenAPIDocument compares the OpenAPI description, which is generated from the code, with the
// committed one: a change of the interface is seen in review. With -update it writes the file.
func TestOpenAPIDocument(t *testing.T) {
	const path = "../../../docs/openapi.json"
	s := newFixture(t, func(o *Options) { o.Version = "v1" })
	w := s.get("/api/v1/openapi.json")
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var got bytes.Buffer
	if err := json.Indent(&got, w.Body.Bytes(), "", " "); err != nil {
		t.Fatal(err)
	}
	got.WriteByte('\n')
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("the interface has changed: run go test ./internal/control/api -run TestOpenAPIDocument -update")
	}
}

var update = flag.Bool("update", false, "write docs/openapi.json")

package keyexport

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"livego/internal/domain"
)

// fileCases are files to import and the result of each; they seed the fuzz target too.
var fileCases = []struct {
	name, text string
	keys       int
	want       string // in the error
}{
	{"no keys", `{"livego_keys":1,"keys":[]}`, 0, ""},
	{"minimal", `{"livego_keys":1,"keys":[{"room":"movie"}]}`, 1, ""},
	{"all fields", `{"livego_keys":1,"keys":[{"id":"x","room":"a","app":"live","label":"cam",` +
		`"role":"backup","created":"2024-01-01T00:00:00Z","expires":"2034-01-01T00:00:00+01:00",` +
		`"last_used":"2024-01-02T00:00:00Z","generation":3,"key":"` + strings.Repeat("aB0", 16) + `"}]}`, 1, ""},
	{"description", `{"livego_keys":1,"keys":[{"room":"a","description":"Caméra 1"}]}`, 1, ""},
	{"invalid description", `{"livego_keys":1,"keys":[{"room":"a","description":"a\nb"}]}`, 0, "invalid description"},
	{"long description", `{"livego_keys":1,"keys":[{"room":"a","description":"` + strings.Repeat("x", 257) + `"}]}`, 0,
		"invalid description"},
	{"former", `{"livego_keys":1,"keys":[{"room":"a","label":"~"}]}`, 1, ""},
	{"byte-order mark", "\xef\xbb\xbf" + `{"livego_keys":1,"keys":[{"room":"movie"}]}`, 1, ""},
	{"UTF-16", "\xff\xfe{\x00}\x00", 0, "the file is UTF-16: save it as UTF-8"},
	{"empty", ``, 0, "not a key file"},
	{"not JSON", `hello`, 0, "invalid JSON at byte 1"},
	{"another file", `{"keys":[]}`, 0, "version 0"},
	{"newer version", `{"livego_keys":2,"keys":[]}`, 0, "version 2"},
	{"two values", `{"livego_keys":1,"keys":[]}{}`, 0, "data after the keys"},
	{"unknown field", `{"livego_keys":1,"keys":[{"room":"a","x":1}]}`, 0, "unknown field"},
	{"wrong type", `{"livego_keys":1,"keys":[{"room":5}]}`, 0, "room has the wrong type"},
	{"invalid room", `{"livego_keys":1,"keys":[{"room":"../x"}]}`, 0, "key 1: room name"},
	{"no room", `{"livego_keys":1,"keys":[{"room":"a"},{"label":"x"}]}`, 0, "key 2: room name is empty"},
	{"reserved app", `{"livego_keys":1,"keys":[{"room":"a","app":"api"}]}`, 0, "reserved"},
	{"invalid label", `{"livego_keys":1,"keys":[{"room":"a","label":"~x"}]}`, 0, "label name"},
	{"invalid role", `{"livego_keys":1,"keys":[{"room":"a","role":"boss"}]}`, 0, "primary or backup"},
	{"short key", `{"livego_keys":1,"keys":[{"room":"a","key":"h1dd3n"}]}`, 0, "48 letters"},
	{"invalid id", `{"livego_keys":1,"keys":[{"room":"a","id":"a/b"}]}`, 0, "id has"},
	{"long id", `{"livego_keys":1,"keys":[{"room":"a","id":"` + strings.Repeat("x", 65) + `"}]}`, 0, "id is longer"},
	{"deep", strings.Repeat(`{"keys":[`, 20000), 0, "invalid"},
}

func TestDecode(t *testing.T) {
	for _, c := range fileCases {
		keys, err := Decode(strings.NewReader(c.text))
		switch {
		case c.want == "" && (err != nil || len(keys) != c.keys):
			t.Errorf("%s: %d keys, %v", c.name, len(keys), err)
		case c.want != "" && (domain.KindOf(err) != domain.Invalid || !strings.Contains(err.Error(), c.want) ||
			strings.Contains(err.Error(), "h1dd3n")):
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.want)
		}
	}
}

func TestEncodeDecodeRoundTrip(t *testing.T) {
	want := []domain.Key{
		domain.Key{Room: "a"}.Complete(),
		domain.Key{Room: "b", App: "live", Label: "cam", Role: domain.Backup, Expires: time.Unix(1e10, 5),
			LastUsed: time.Unix(1e9, 0), Generation: 9}.Complete(),
	}
	var b bytes.Buffer
	if err := Encode(&b, want); err != nil {
		t.Fatal(err)
	}
	got, err := Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i] = got[i].Complete()
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range fileCases {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, s string) {
		keys, err := Decode(strings.NewReader(s))
		if err != nil {
			return
		}
		for _, k := range keys {
			if domain.CheckRoom(k.Room) != nil || k.Secret != "" && !domain.LooksLikeKey(k.Secret) {
				t.Errorf("%q has the key %+v", s, k)
			}
		}
	})
}

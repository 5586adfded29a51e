package domain

import (
	"regexp"
	"strings"
	"testing"
)

// names is a table of room names; it also seeds the fuzz target. want is a word of the error, ""
// for a valid name.
var names = []struct{ name, want string }{
	{"movie", ""}, {"Room", ""}, {"room", ""}, {"a", ""}, {"0", ""}, {"a.b-c_d", ""}, {"-", ""}, {"console", ""},
	{"com", ""}, {"com10", ""},
	{strings.Repeat("a", 128), ""}, {strings.Repeat("a", 47), ""}, {strings.Repeat("a", 49), ""},
	{strings.Repeat("a", 47) + "-", ""},
	{"index", ""}, {"flv", ""}, {"ts", ""},
	{"", "empty"},
	{strings.Repeat("a", 129), "longer"}, {strings.Repeat("a", 65536), "longer"},
	{strings.Repeat("a", 255) + ".flv", "longer"},
	{"..", "dot"}, {".", "dot"}, {".hidden", "dot"}, {"x.", "dot"}, {"../x", "character"}, {"a/../../b", "character"},
	{"....//", "character"},
	{"%2e%2e%2f", "character"}, {`..%5c`, "character"}, {`\`, "character"}, {"C:", "character"}, {"//host", "character"},
	{"/abs", "character"},
	{"a\x00b", "character"}, {"x\n#EXTINF", "character"}, {"x\r\ny", "character"}, {"\t", "character"},
	{"\x1b[2J", "character"}, {"\x7f", "character"},
	{"<img src=x onerror=alert(1)>", "character"}, {`'"><script>`, "character"}, {"${7*7}", "character"},
	{"{{.}}", "character"}, {"%n%s", "character"},
	{"é", "character"}, {"\xff", "character"}, {"a b", "character"}, {"a ", "character"}, {"a:b", "character"},
	{"key?x=y", "character"},
	{"CON", "device"}, {"nul", "device"}, {"aux.x", "device"}, {"Com1", "device"}, {"lpt9.a.b", "device"},
	{"nul.flv", "format"}, {"x.flv", "format"}, {"y.m3u8", "format"}, {"index.m3u8", "format"}, {"x.flv.flv", "format"},
	{"a.TS", "format"}, {"a.m4s", "format"}, {"a.mp4", "format"},
	{strings.Repeat("Az0", 16), "stream key"},
}

func TestCheckRoom(t *testing.T) {
	for _, tt := range names {
		err := CheckRoom(tt.name)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%.40q: %v", tt.name, err)
		case tt.want != "" && err == nil:
			t.Errorf("%.40q is accepted", tt.name)
		case tt.want != "" && (KindOf(err) != Invalid || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%.40q: %v, want it to name the rule: %s", tt.name, err, tt.want)
		}
	}
}

func TestCheckApp(t *testing.T) {
	for _, app := range []string{"live", "vod", "hls", "flv", "Live2"} {
		if err := CheckApp(app); err != nil {
			t.Error(err)
		}
	}
	for _, app := range []string{"api", "control", "stat", "STATICS", "metrics", "healthz", "readyz", "debug", "whip", "",
		"a/b"} {
		if CheckApp(app) == nil {
			t.Errorf("%q is accepted", app)
		}
	}
}

func FuzzCheckRoom(f *testing.F) {
	for _, tt := range names {
		f.Add(tt.name)
	}
	safe := regexp.MustCompile(`^[A-Za-z0-9_-]([A-Za-z0-9._-]{0,126}[A-Za-z0-9_-])?$`)
	f.Fuzz(func(t *testing.T, s string) {
		if CheckRoom(s) == nil && (!safe.MatchString(s) || LooksLikeKey(s)) {
			t.Errorf("%q is accepted", s)
		}
	})
}

func TestNewSecret(t *testing.T) {
	seen := map[string]bool{}
	var count [128]int
	for range 2000 {
		s := NewSecret()
		if !LooksLikeKey(s) || seen[s] {
			t.Fatalf("bad or repeated key %q", s)
		}
		seen[s] = true
		for i := range len(s) {
			count[s[i]]++
		}
	}
	for c, n := range count { // 96,000 characters of 62: 1548 each, standard deviation 39
		if isBase62(byte(c)) && (n < 1250 || n > 1850) {
			t.Errorf("%q came %d times, want about 1548", rune(c), n)
		}
	}
}

func TestErrors(t *testing.T) {
	err := &Error{Kind: Unavailable, Op: "publishing", Name: Name{"live", "movie"}, Err: Errorf(Conflict, "in use")}
	if got, want := err.Error(), "publishing: live/movie: in use"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if KindOf(err) != Unavailable || Reason(err) != "in use" {
		t.Errorf("kind %v, reason %q", KindOf(err), Reason(err))
	}
	if hidden := Reason(&Error{Kind: Internal, Err: Errorf(Internal, "open /etc/secret")}); hidden != "internal error" {
		t.Errorf("an internal error is shown to the client: %q", hidden)
	}
}

func TestShorten(t *testing.T) {
	key := strings.Repeat("kEy1", KeyLength/4)
	for _, tt := range []struct {
		text string
		n    int
		want string
	}{
		{"short", 10, "short"},
		{"a longer text", 8, "a longer"},
		{"caf\u00e9", 4, "caf"},
		{"key " + key, 4 + KeyLength, "key " + key},
		{"key " + key, 3 + KeyLength, "key "},
		{"key " + key, 5, "key "},
		{"key " + key + " is wrong", 60, "key " + key + " is wron"},
		{key, KeyLength - 1, ""},
		{key[1:] + " ", 20, key[1:21]},
		{key + key, KeyLength + 7, (key + key)[:KeyLength+7]},
	} {
		if got := Shorten(tt.text, tt.n); got != tt.want {
			t.Errorf("%q in %d bytes: %q, want %q", tt.text, tt.n, got, tt.want)
		}
	}
}

func TestNodeIDs(t *testing.T) {
	for id, ok := range map[string]bool{
		"a": true, "node-1.eu_west": true, "": false, "a b": false, "a/b": false, "ä": false, strings.Repeat("a", 65): false,
	} {
		if err := CheckNodeID(id); (err == nil) != ok {
			t.Errorf("%q: %v", id, err)
		}
	}
}

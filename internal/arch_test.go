package internal_test

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "livego"

// mayImport says which of our packages each of our packages may import besides itself. A package that is not here fails the
// test: give it a line when it is born, and think about what it has to know. Tests of a package may import what they like
// below the line of the package they test, and the test-only packages.
var mayImport = map[string][]string{
	// Words. They know nobody, so that everybody may know them.
	"internal/live":     {},
	"internal/media":    {},
	"internal/redisurl": {},
	"internal/textfile": {},
	"internal/netx":     {"internal/live"},
	"internal/obs":      {"internal/live"},

	// Codecs turn bytes into facts about media; one codec knows no other.
	"internal/codec/bits": {},
	"internal/codec/nal":  {"internal/codec/bits"},
	"internal/codec/h264": {"internal/media", "internal/codec/bits", "internal/codec/nal"},
	"internal/codec/h265": {"internal/media", "internal/codec/bits", "internal/codec/nal"},
	"internal/codec/av1":  {"internal/media", "internal/codec/bits"},
	"internal/codec/vp9":  {"internal/media", "internal/codec/bits"},
	"internal/codec/aac":  {"internal/media", "internal/codec/bits"},
	"internal/codec/ac3":  {"internal/codec/bits"},
	"internal/codec/flac": {"internal/codec/bits"},
	"internal/codec/mp3":  {"internal/media"},
	"internal/codec/opus": {},
	// All of them behind one door, so that no container has a switch over codecs.
	"internal/codec": {"internal/media", "internal/codec/..."},

	// Frames of parts to frames of pictures, for whoever reads an encoder's messages. No container needs it.
	"internal/accessunit": {"internal/media", "internal/codec/..."},

	// Containers turn frames into bytes and back. They know no connection.
	"internal/container/amf0": {},
	"internal/container/m3u8": {},
	"internal/container/flv":  {"internal/media", "internal/codec", "internal/container/amf0"},
	"internal/container/ts":   {"internal/media", "internal/codec", "internal/codec/...", "internal/container/es"},
	"internal/container/fmp4": {"internal/media", "internal/codec/..."},
	"internal/container/es":   {"internal/media", "internal/codec", "internal/codec/..."},
	"internal/container/mkv":  {"internal/media", "internal/codec", "internal/codec/..."},
	"internal/container/mp4":  {"internal/media", "internal/codec", "internal/codec/..."},

	// What has frames in it, wherever it is.
	"internal/source":  {"internal/media", "internal/accessunit", "internal/codec", "internal/container/...", "internal/rtmp", "internal/textfile"},
	"internal/playout": {"internal/media", "internal/container/flv", "internal/rtmp", "internal/source", "internal/textfile"},
	"internal/probe":   {"internal/media", "internal/container/fmp4", "internal/container/ts", "internal/source"},

	// The protocol knows neither rooms nor keys nor frames: a bench and a relay use it as the edge does.
	"internal/rtmp": {"internal/container/amf0", "internal/netx"},

	// The core. Whatever it imported would be a reason for it to change.
	"internal/stream": {"internal/live", "internal/media"},
	// Frames to segments. A subscriber feeds it; it knows no HTTP.
	"internal/segment": {"internal/live", "internal/media", "internal/codec/...", "internal/container/...", "internal/stream"},

	// One stream to many sockets. The edges say how it is laid out.
	"internal/fan": {"internal/live", "internal/media", "internal/netx", "internal/stream"},

	// Streams to files. It is a subscriber like any.
	"internal/record": {"internal/live", "internal/media", "internal/stream", "internal/container/flv"},

	// From and to other servers: a subscriber and a publisher like any.
	"internal/relay": {"internal/live", "internal/media", "internal/accessunit", "internal/netx", "internal/stream", "internal/rtmp", "internal/container/flv"},

	// Requests in front of net/http. It knows nothing of what is served.
	"internal/front": {"internal/netx"},

	// The control plane. A config is plain values: what they mean is the business of whoever gets them.
	"internal/config":          {"internal/live", "internal/redisurl", "internal/textfile"},
	"internal/acme":            {},
	"internal/acme/acmetest":   {},
	"internal/peeruser":        {},
	"internal/auth":            {"internal/live", "internal/netx", "internal/peeruser", "internal/textfile"},
	"internal/hook":            {"internal/live", "internal/netx", "internal/stream"},
	"internal/keyfile":         {"internal/live", "internal/textfile"},
	"internal/store/bolt":      {"internal/live"},
	"internal/store/redis":     {"internal/live", "internal/redisurl"},
	"internal/store/storetest": {"internal/live"},

	// An edge plugs a protocol into the core. It never imports another edge, a store, the api or the config: app maps the
	// config to its Options.
	"internal/edge/rtmp": {"internal/fan", "internal/live", "internal/media", "internal/netx", "internal/obs", "internal/stream", "internal/rtmp", "internal/accessunit", "internal/container/flv"},
	"internal/edge/flv":  {"internal/fan", "internal/live", "internal/media", "internal/netx", "internal/obs", "internal/stream", "internal/container/flv"},
	"internal/edge/hls":  {"internal/live", "internal/media", "internal/netx", "internal/obs", "internal/stream", "internal/segment", "internal/container/m3u8", "internal/front"}, // the front in a benchmark only

	// The operator's door. It sees the hub and the keys, not how streams travel.
	"internal/api": {"internal/keyfile", "internal/live", "internal/media", "internal/netx", "internal/obs", "internal/stream", "internal/auth"},

	// The bench speaks protocols. It measures any server, so it knows nothing of this one.
	"internal/bench":  {"internal/media", "internal/codec/...", "internal/container/...", "internal/rtmp"},
	"scripts/testlog": {},
	"bench/compare":   {"internal/bench"},

	// The one place where everything meets.
	"internal/app": {"internal/..."},
	"cmd/livego":   {"internal/app", "internal/auth", "internal/bench", "internal/config", "internal/keyfile", "internal/live", "internal/obs", "internal/playout", "internal/probe", "internal/source", "internal/textfile"},

	// The end-to-end tests see the binary only, as a user does: what they know of formats is their own, so that one mistake
	// cannot hide on both sides.
	"e2e":         {"e2e/...", "internal/acme/acmetest"}, // an authority is none of ours
	"e2e/hostile": {"e2e/..."},
	"e2e/rtmp":    {},
	"e2e/scenes":  {"e2e/..."},
	"e2e/browser": {"e2e/..."},
	"e2e/essence": {},
	"e2e/rig":     {},
	"e2e/sample":  {"e2e/essence", "e2e/rig"},
}

// owners says which packages may import each outside module; the reason is the module's own.
var owners = map[string][]string{
	"github.com/alecthomas/kong":        {"cmd/livego"},
	"github.com/asticode/go-astits":     {"e2e/essence"}, // a reader of MPEG-TS that is not ours judges what ours writes
	"github.com/caddyserver/certmagic":  {"internal/acme"},
	"github.com/danielgtaylor/huma/v2":  {"internal/api"},
	"github.com/goccy/go-yaml":          {"internal/config"},
	"github.com/golang-jwt/jwt/v5":      {"internal/auth"},
	"github.com/gorilla/websocket":      {"internal/edge/flv"},
	"github.com/lmittmann/tint":         {"internal/obs"},
	"github.com/redis/go-redis/v9":      {"internal/store/redis"},
	"github.com/schollz/progressbar/v3": {"cmd/livego"},
	"go.etcd.io/bbolt":                  {"internal/store/bolt"},
	"go.uber.org/zap":                   {"internal/acme"}, // certmagic's logger: to keep it quiet
	"golang.org/x/net":                  {"internal/edge/...", "internal/app"},
	"golang.org/x/sys":                  {"internal/bench", "internal/fan", "internal/front", "internal/netx", "internal/peeruser"},
	"golang.org/x/time":                 {"internal/auth", "internal/netx", "internal/rtmp", "internal/edge/..."},

	// In tests only.
	"github.com/google/go-cmp": {},
	"go.uber.org/goleak":       {},
}

// testOnly lists what any test may import and nothing else may.
var testOnly = []string{"github.com/google/go-cmp", "go.uber.org/goleak", "internal/acme/acmetest", "internal/store/storetest"}

// TestImports holds every package to the tables above.
func TestImports(t *testing.T) {
	for _, p := range listPackages(t) {
		allowed, ok := mayImport[p.path]
		if !ok {
			t.Errorf("%s has no line in mayImport", p.path)
			continue
		}
		for _, imp := range p.Imports {
			if !p.may(imp, allowed) || slices.Contains(testOnly, imp) {
				t.Errorf("%s must not import %s", p.path, imp)
			}
		}
		for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
			if imp != p.path && !p.may(imp, allowed) && !inModules(imp, testOnly) && !below(imp, allowed) {
				t.Errorf("the tests of %s must not import %s", p.path, imp)
			}
		}
	}
}

// TestImportTableIsTrue finds lines of the tables whose package is gone or misspelt.
func TestImportTableIsTrue(t *testing.T) {
	have := map[string]bool{}
	for _, p := range listPackages(t) {
		have[p.path] = true
	}
	for path := range mayImport {
		if !have[path] {
			t.Errorf("mayImport has a line for %s, which does not exist", path)
		}
	}
}

// may reports whether p may import imp outside its tests: the standard library always.
func (p pkg) may(imp string, allowed []string) bool {
	if ours(imp) {
		return matches(imp, allowed)
	}
	owned, outside := ownersOf(imp)
	return !outside || matches(p.path, owned)
}

// below reports whether imp is something that a package in allowed may itself import: a test builds its scene from the parts.
func below(imp string, allowed []string) bool {
	for _, a := range allowed {
		if matches(imp, mayImport[a]) {
			return true
		}
	}
	return false
}

// ownersOf returns who may import the module that holds the package imp. A module without a line has no owner: nobody may.
func ownersOf(imp string) (owned []string, outside bool) {
	for _, m := range slices.Sorted(maps.Keys(owners)) {
		if inModules(imp, []string{m}) {
			return owners[m], true
		}
	}
	first, _, _ := strings.Cut(imp, "/")
	return nil, strings.Contains(first, ".")
}

func ours(imp string) bool {
	return strings.HasPrefix(imp, "internal/") || strings.HasPrefix(imp, "cmd/") || imp == "e2e" || strings.HasPrefix(imp, "e2e/")
}

// matches reports whether path is one of patterns; "x/..." stands for everything below x.
func matches(path string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		dir, tree := strings.CutSuffix(p, "/...")
		return path == p || tree && strings.HasPrefix(path, dir+"/")
	})
}

func inModules(imp string, modules []string) bool {
	return slices.ContainsFunc(modules, func(m string) bool { return imp == m || strings.HasPrefix(imp, m+"/") })
}

// A pkg is one package of this module; paths of ours have lost the module's name.
type pkg struct {
	path                               string
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

// listPackages asks the go command, with every build constraint of this system applied.
func listPackages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		p.path = strings.TrimPrefix(p.ImportPath, module+"/")
		for _, list := range [][]string{p.Imports, p.TestImports, p.XTestImports} {
			for i := range list {
				list[i] = strings.TrimPrefix(list[i], module+"/")
			}
		}
		if p.path == "internal" { // this package of tests
			continue
		}
		pkgs = append(pkgs, p)
	}
}

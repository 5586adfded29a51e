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

// mayImport says which of our packages each of our packages may import besides itself. A package
// that is not here fails the test: give it a line when it is born, and think about what it has to
// know. Tests of a package may import what they like below the line of the package they test, and
// the test-only packages.
var mayImport = map[string][]string{
	// Words. They know nobody, so that everybody may know them.
	"internal/domain":       {},
	"internal/media":        {},
	"internal/ops/redisurl": {},
	"internal/ops/textfile": {},
	"internal/ops/netx":     {"internal/domain"},
	"internal/ops/httpx":    {"internal/domain"},
	"internal/ops/logging":  {"internal/domain"},

	// Codecs turn bytes into facts about media; one codec knows no other.
	"internal/codec/bits": {},
	"internal/codec/nal":  {},
	"internal/codec/h264": {"internal/media", "internal/codec/bits", "internal/codec/nal"},
	"internal/codec/h265": {"internal/media", "internal/codec/bits", "internal/codec/nal"},
	"internal/codec/av1":  {"internal/media", "internal/codec/bits"},
	"internal/codec/vp9":  {"internal/media", "internal/codec/bits"},
	"internal/codec/aac":  {"internal/codec/bits"},
	"internal/codec/ac3":  {"internal/codec/bits"},
	"internal/codec/flac": {"internal/codec/bits"},
	"internal/codec/mp3":  {},
	"internal/codec/opus": {},
	// All of them behind one door, so that no container has a switch over codecs.
	"internal/codec": {"internal/media", "internal/codec/..."},

	// Frames of parts to frames of pictures, for whoever reads an encoder's messages. No container needs it.
	"internal/codec/accessunit": {"internal/media", "internal/codec/..."},

	// Containers turn frames into bytes and back. They know no connection.
	"internal/container/amf0": {},
	"internal/container/m3u8": {},
	"internal/container/flv":  {"internal/media", "internal/codec", "internal/container/amf0"},
	"internal/container/ts":   {"internal/media", "internal/codec", "internal/codec/...", "internal/container/es"},
	"internal/container/fmp4": {"internal/media", "internal/codec/..."},
	"internal/container/es":   {"internal/media", "internal/codec", "internal/codec/..."},
	"internal/container/mkv":  {"internal/media", "internal/codec"},
	"internal/container/mp4":  {"internal/media", "internal/codec"},

	// What has frames in it, wherever it is.
	"internal/source": {"internal/media", "internal/codec/accessunit", "internal/codec", "internal/container/...",
		"internal/proto/rtmp", "internal/ops/textfile"},
	"internal/playout": {"internal/media", "internal/container/flv", "internal/proto/rtmp", "internal/source",
		"internal/ops/textfile"},
	"internal/tools/probe": {"internal/media", "internal/container/fmp4", "internal/container/ts", "internal/source"},

	// The protocol knows neither rooms nor keys nor frames: a bench and a relay use it as the edge does.
	"internal/proto/rtmp": {"internal/container/amf0", "internal/ops/netx"},

	// The core. Whatever it imported would be a reason for it to change.
	"internal/stream": {"internal/domain", "internal/media"},
	// Frames to segments. A subscriber feeds it; it knows no HTTP.
	"internal/deliver/segment": {"internal/domain", "internal/media", "internal/container/..."},

	// One stream to many sockets. The edges say how it is laid out.
	"internal/deliver/fanout": {"internal/domain", "internal/media", "internal/ops/netx", "internal/stream"},

	// Streams to files. It is a subscriber like any.
	"internal/record": {"internal/domain", "internal/media", "internal/stream", "internal/container/flv"},

	// From and to other servers: a subscriber and a publisher like any.
	"internal/relay": {"internal/domain", "internal/media", "internal/codec/accessunit", "internal/ops/netx",
		"internal/stream", "internal/proto/rtmp", "internal/container/flv"},

	// Requests in front of net/http. It knows nothing of what is served.
	"internal/proto/http1": {"internal/ops/netx"},

	// The control plane. A config is plain values: what they mean is the business of whoever gets them.
	"internal/ops/config":        {"internal/domain", "internal/ops/redisurl", "internal/ops/textfile"},
	"internal/ops/acme":          {},
	"internal/ops/acme/acmetest": {},
	"internal/ops/peeruser":      {},
	"internal/control/auth": {"internal/domain", "internal/ops/netx", "internal/ops/peeruser",
		"internal/ops/textfile"},
	"internal/control/webhook":         {"internal/domain", "internal/ops/netx", "internal/stream"},
	"internal/control/keyexport":       {"internal/domain", "internal/ops/textfile"},
	"internal/control/store/bolt":      {"internal/domain"},
	"internal/control/store/redis":     {"internal/domain", "internal/ops/redisurl"},
	"internal/control/store/storetest": {"internal/domain"},

	// An edge plugs a protocol into the core. It never imports another edge, a store, the api or the config: app maps the
	// config to its Options.
	"internal/edge/rtmp": {"internal/deliver/fanout", "internal/domain", "internal/media", "internal/ops/netx",
		"internal/ops/logging", "internal/stream", "internal/proto/rtmp", "internal/codec/accessunit",
		"internal/container/flv"},
	"internal/edge/httpflv": {"internal/ops/httpx", "internal/deliver/fanout", "internal/domain", "internal/media",
		"internal/ops/netx", "internal/ops/logging", "internal/stream", "internal/container/flv"},
	// the front in a benchmark only
	"internal/edge/hls": {"internal/ops/httpx", "internal/domain", "internal/media", "internal/ops/netx",
		"internal/stream", "internal/deliver/segment", "internal/container/m3u8", "internal/proto/http1"},

	// The operator's door. It sees the hub and the keys, not how streams travel.
	"internal/control/api": {"internal/ops/httpx", "internal/control/keyexport", "internal/domain", "internal/media",
		"internal/ops/logging", "internal/stream", "internal/control/auth"},

	// The bench speaks protocols. It measures any server, so it knows nothing of this one.
	"internal/tools/bench": {"internal/media", "internal/codec/...", "internal/container/...", "internal/proto/rtmp"},
	"scripts/testlog":      {},
	"bench/compare":        {"internal/tools/bench"},

	// The one place where everything meets.
	"internal/app": {"internal/..."},
	"cmd/livego": {"internal/app", "internal/control/auth", "internal/tools/bench", "internal/ops/config",
		"internal/control/keyexport", "internal/domain", "internal/ops/logging", "internal/playout", "internal/tools/probe",
		"internal/source", "internal/ops/textfile"},

	// The end-to-end tests see the binary only, as a user does: what they know of formats is their
	// own, so that one mistake cannot hide on both sides.
	"e2e":              {"e2e/...", "internal/ops/acme/acmetest"}, // an authority is none of ours
	"e2e/hostile":      {"e2e/..."},
	"e2e/rtmp":         {},
	"e2e/resilience":   {"e2e/..."},
	"e2e/browser":      {"e2e/..."},
	"e2e/mediacompare": {},
	"e2e/harness":      {},
	"e2e/sample":       {"e2e/mediacompare", "e2e/harness"},
}

// owners says which packages may import each outside module; the reason is the module's own.
var owners = map[string][]string{
	"github.com/alecthomas/kong": {"cmd/livego"},
	// a reader of MPEG-TS that is not ours judges what ours writes
	"github.com/asticode/go-astits":     {"e2e/mediacompare"},
	"github.com/caddyserver/certmagic":  {"internal/ops/acme"},
	"github.com/danielgtaylor/huma/v2":  {"internal/control/api"},
	"github.com/goccy/go-yaml":          {"internal/ops/config"},
	"github.com/golang-jwt/jwt/v5":      {"internal/control/auth"},
	"github.com/gorilla/websocket":      {"internal/edge/httpflv"},
	"github.com/lmittmann/tint":         {"internal/ops/logging"},
	"github.com/redis/go-redis/v9":      {"internal/control/store/redis"},
	"github.com/schollz/progressbar/v3": {"cmd/livego"},
	"go.etcd.io/bbolt":                  {"internal/control/store/bolt"},
	"go.uber.org/zap":                   {"internal/ops/acme"}, // certmagic's logger: to keep it quiet
	"golang.org/x/sys": {"internal/tools/bench", "internal/deliver/fanout", "internal/proto/http1",
		"internal/ops/netx", "internal/ops/peeruser"},
	"golang.org/x/time": {"internal/edge/..."},

	// In tests only.
	"github.com/google/go-cmp": {},
	"go.uber.org/goleak":       {},
}

// testOnly lists what any test may import and nothing else may.
var testOnly = []string{"github.com/google/go-cmp", "go.uber.org/goleak", "internal/ops/acme/acmetest",
	"internal/control/store/storetest"}

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

// below reports whether imp is something that a package in allowed may itself import: a test builds
// its scene from the parts.
func below(imp string, allowed []string) bool {
	for _, a := range allowed {
		if matches(imp, mayImport[a]) {
			return true
		}
	}
	return false
}

// ownersOf returns who may import the module that holds the package imp. A module without a line
// has no owner: nobody may.
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
	return strings.HasPrefix(imp, "internal/") || strings.HasPrefix(imp, "cmd/") || imp == "e2e" ||
		strings.HasPrefix(imp, "e2e/")
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

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

// mayImport lists, for each package of this module, the packages of this module that it may import.
// A package without an entry fails the test. Tests of a package may also import what the packages in
// its entry may import, and the test-only packages.
var mayImport = map[string][]string{
	// Terms and helpers that import nothing else, so that every package may import them.
	"internal/domain":         {},
	"internal/media":          {},
	"internal/ops/atomicfile": {},
	"internal/ops/redisurl":   {},
	"internal/ops/textfile":   {},
	"internal/ops/netx":       {"internal/domain"},
	"internal/ops/httpx":      {"internal/domain"},
	"internal/ops/logging":    {"internal/domain"},
	"internal/ops/tracing":    {"internal/domain"},
	"internal/ops/histogram":  {},
	"internal/ops/ffmpeg":     {},
	"internal/ops/varint":     {},
	"internal/ops/ownertable": {"internal/domain"},

	// Codecs turn bytes into facts about media. No codec imports another.
	"internal/codec/bits": {},
	"internal/codec/nal":  {"internal/codec/bits"},
	"internal/codec/h264": {"internal/media", "internal/codec/bits", "internal/codec/nal"},
	"internal/codec/h265": {"internal/media", "internal/codec/bits", "internal/codec/nal"},
	"internal/codec/av1":  {"internal/media", "internal/codec/bits"},
	"internal/codec/vp9":  {"internal/media", "internal/codec/bits"},
	"internal/codec/aac":  {"internal/codec/bits"},
	"internal/codec/ac3":  {"internal/codec/bits"},
	"internal/codec/flac": {"internal/codec/bits"},
	"internal/codec/mp3":  {},
	"internal/codec/opus": {},
	// One interface to all codecs, so that no container has a switch over codecs.
	"internal/codec": {"internal/media", "internal/codec/..."},

	// Joins the parts of access units, for the packages that read an encoder's messages.
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

	// Sources of frames: files and live streams.
	"internal/source": {"internal/media", "internal/codec/accessunit", "internal/codec", "internal/container/...",
		"internal/proto/rtmp", "internal/ops/textfile"},
	"internal/playout": {"internal/media", "internal/container/flv", "internal/proto/rtmp", "internal/source",
		"internal/ops/ffmpeg", "internal/ops/textfile"},
	"internal/tools/probe": {"internal/media", "internal/container/fmp4", "internal/container/ts", "internal/health",
		"internal/source"},

	// The protocol knows no rooms, keys or frames: the bench and the relay use it as the edge does.
	"internal/proto/rtmp": {"internal/container/amf0", "internal/ops/netx"},

	// The core. Each import would be a reason for it to change.
	"internal/stream": {"internal/domain", "internal/media", "internal/ops/histogram"},
	// Frames to segments and playlists. It knows no HTTP.
	"internal/deliver/segment": {"internal/domain", "internal/media", "internal/container/...", "internal/ops/varint"},

	// Streams of other servers: the records between two servers, and the two ends of a connection. hls in
	// tests only.
	"internal/cluster/wire": {"internal/media", "internal/ops/varint"},
	"internal/cluster/replica": {"internal/domain", "internal/media", "internal/stream", "internal/cluster/wire",
		"internal/deliver/segment", "internal/edge/hls"},
	// How nodes connect, and what they ask each other.
	"internal/cluster/peer": {"internal/domain", "internal/ops/logging", "internal/ops/netx", "internal/ops/varint"},
	"internal/cluster/node": {"internal/domain", "internal/stream", "internal/cluster/peer", "internal/cluster/replica",
		"internal/ops/httpx", "internal/ops/logging"},

	// One stream to many sockets. The edges give it their encoders.
	"internal/deliver/fanout": {"internal/domain", "internal/media", "internal/ops/netx", "internal/stream"},

	// How long frames wait for others. It knows no stream.
	"internal/deliver/batching": {},

	// What players report, by stream.
	"internal/proto/cmcd":  {},
	"internal/quality":     {"internal/domain", "internal/ops/histogram", "internal/proto/cmcd"},
	"internal/edge/report": {"internal/ops/netx", "internal/proto/cmcd", "internal/quality"},

	// Problems of streams, from their frames.
	"internal/health": {"internal/media", "internal/codec"},
	// The same for every stream of a hub. FLV and the samples of the end-to-end tests in tests only.
	"internal/health/monitor": {"internal/domain", "internal/health", "internal/media", "internal/stream",
		"internal/container/flv"},

	// Streams to files. It is a subscriber like any other.
	"internal/record": {"internal/domain", "internal/media", "internal/ops/logging", "internal/stream",
		"internal/container/flv"},

	// From and to other servers: a subscriber and a publisher like any other.
	"internal/relay": {"internal/domain", "internal/media", "internal/codec/accessunit", "internal/ops/atomicfile",
		"internal/ops/netx", "internal/stream", "internal/proto/rtmp", "internal/container/flv"},

	// A fast path in front of net/http. It knows no handler.
	"internal/proto/http1": {"internal/ops/netx", "internal/proto/http2"},
	// Streams and frames over any connection. It knows no sockets.
	"internal/proto/http2": {},

	// The control plane. A config is plain values; the packages that receive them interpret them.
	"internal/ops/config": {"internal/domain", "internal/ops/atomicfile", "internal/ops/httpx", "internal/ops/netx",
		"internal/ops/ownertable", "internal/ops/redisurl", "internal/ops/textfile"},
	"internal/ops/acme":          {"internal/domain"},
	"internal/ops/admission":     {"internal/domain", "internal/ops/memlimit"},
	"internal/ops/certfile":      {},
	"internal/ops/certtest":      {},
	"internal/ops/memlimit":      {},
	"internal/ops/acme/acmetest": {},
	"internal/ops/peeruser":      {},
	"internal/ops/systemd":       {},
	"internal/control/auth": {"internal/domain", "internal/ops/atomicfile", "internal/ops/httpx", "internal/ops/netx",
		"internal/ops/peeruser", "internal/ops/textfile"},
	"internal/control/events": {"internal/domain", "internal/stream"},
	"internal/control/webhook": {"internal/domain", "internal/ops/histogram", "internal/ops/netx",
		"internal/ops/tracing", "internal/stream"},
	"internal/control/keyexport":       {"internal/domain", "internal/ops/textfile"},
	"internal/control/store/bolt":      {"internal/domain"},
	"internal/control/store/redis":     {"internal/domain", "internal/ops/redisurl"},
	"internal/control/store/measured":  {"internal/domain", "internal/ops/histogram"},
	"internal/control/store/storetest": {"internal/control/keys", "internal/domain"},
	"internal/control/keys":            {"internal/domain"},

	// An edge connects a protocol to the core. It never imports another edge, a store, the api or the
	// config: app maps the config to its Options.
	"internal/edge/rtmp": {"internal/deliver/fanout", "internal/domain", "internal/media", "internal/ops/netx",
		"internal/ops/tracing", "internal/ops/logging", "internal/stream", "internal/proto/rtmp",
		"internal/codec/accessunit", "internal/container/flv"},
	"internal/edge/httpflv": {"internal/ops/httpx", "internal/deliver/fanout", "internal/domain", "internal/media",
		"internal/ops/tracing", "internal/ops/netx", "internal/ops/logging", "internal/stream", "internal/container/flv",
		"internal/proto/cmcd", "internal/quality"},
	// Pictures of streams. ffmpeg makes them.
	"internal/edge/thumbnail": {"internal/container/fmp4", "internal/domain", "internal/media", "internal/ops/ffmpeg",
		"internal/ops/histogram", "internal/ops/httpx", "internal/stream"},
	// HTTP for viewers, in front of the handlers of the protocols, which app gives it.
	"internal/edge/viewerhttp": {"internal/ops/httpx", "internal/ops/netx", "internal/proto/http1",
		"internal/proto/http2"},
	// http1 in a benchmark only
	"internal/edge/hls": {"internal/ops/httpx", "internal/domain", "internal/media", "internal/ops/netx",
		"internal/ops/tracing", "internal/stream", "internal/deliver/segment", "internal/container/m3u8",
		"internal/proto/cmcd", "internal/proto/http1", "internal/quality"},

	// The operator's API. It sees the hub and the keys, not how streams are delivered.
	"internal/control/api": {"internal/ops/httpx", "internal/control/keyexport", "internal/domain", "internal/media",
		"internal/ops/logging", "internal/stream", "internal/control/auth", "internal/health", "internal/control/events",
		"internal/ops/config", "internal/quality"},

	// The bench speaks protocols. It measures any server, so it does not know this one.
	"internal/tools/bench": {"internal/media", "internal/codec/...", "internal/container/...", "internal/proto/rtmp",
		"internal/ops/netx"},
	"scripts/testlog": {},
	"bench/compare":   {"internal/tools/bench"},

	// Reads the counts of all parts of a server, for Prometheus. No part knows it.
	"internal/metrics": {"internal/domain", "internal/stream", "internal/control/...", "internal/edge/hls",
		"internal/edge/report", "internal/edge/thumbnail", "internal/health", "internal/health/monitor",
		"internal/ops/histogram", "internal/ops/netx", "internal/quality", "internal/record",
		"internal/relay"},

	// The built player and its page. It knows no streams.
	"web": {"internal/ops/httpx"},

	// Wiring.
	"internal/app": {"internal/...", "web"},
	"cmd/livego": {"internal/app", "internal/control/auth", "internal/tools/bench", "internal/ops/config",
		"internal/ops/ffmpeg", "internal/control/keyexport", "internal/domain", "internal/ops/atomicfile",
		"internal/ops/logging", "internal/playout", "internal/tools/probe", "internal/source"},

	// The end-to-end tests use the binary only, as a user does. They have parsers of their own, so
	// that one mistake cannot hide on both sides.
	"e2e":              {"e2e/...", "internal/ops/acme/acmetest"}, // a certificate authority for tests
	"e2e/hostile":      {"e2e/..."},
	"e2e/deploy":       {"e2e/..."},
	"e2e/rtmp":         {},
	"e2e/resilience":   {"e2e/..."},
	"e2e/browser":      {"e2e/..."},
	"e2e/mediacompare": {},
	"e2e/harness":      {},
	"e2e/sample":       {"e2e/mediacompare", "e2e/harness"},
}

// owners lists, for each module of others, the packages that may import it.
var owners = map[string][]string{
	"github.com/alecthomas/kong": {"cmd/livego"},
	// reads the MPEG-TS that our code writes, by code that is not ours
	"github.com/asticode/go-astits":     {"e2e/mediacompare"},
	"github.com/caddyserver/certmagic":  {"internal/ops/acme"},
	"github.com/coreos/go-systemd/v22":  {"internal/ops/systemd"},
	"github.com/danielgtaylor/huma/v2":  {"internal/control/api"},
	"github.com/goccy/go-yaml":          {"internal/ops/config"},
	"github.com/golang-jwt/jwt/v5":      {"internal/control/auth"},
	"github.com/gorilla/websocket":      {"internal/edge/httpflv", "e2e/browser"}, // which drives Firefox
	"github.com/lmittmann/tint":         {"internal/ops/logging"},
	"github.com/redis/go-redis/v9":      {"internal/control/store/redis"},
	"github.com/schollz/progressbar/v3": {"cmd/livego"},
	"go.etcd.io/bbolt":                  {"internal/control/store/bolt"},
	"go.uber.org/zap":                   {"internal/ops/acme"},                            // to silence certmagic's logger
	"golang.org/x/net":                  {"internal/tools/bench", "internal/proto/http2"}, // HPACK and frames
	"golang.org/x/sys": {"internal/tools/bench", "internal/deliver/fanout", "internal/proto/http1",
		"internal/ops/ffmpeg", "internal/ops/netx", "internal/ops/peeruser"},
	"golang.org/x/text": {"internal/control/api"},                                     // the language of the login page
	"golang.org/x/time": {"internal/edge/...", "internal/proto/http2", "e2e/browser"}, // a slow connection

	// Metrics and traces.
	"github.com/prometheus/client_golang": {"internal/metrics"},
	"go.opentelemetry.io/otel":            {"internal/ops/tracing"},

	// Tests only.
	"github.com/google/go-cmp": {},
	"go.uber.org/goleak":       {},
	// checks that responses of the API match its description
	"github.com/santhosh-tekuri/jsonschema/v6": {"e2e"},
	"go.opentelemetry.io/proto/otlp":           {},
	"google.golang.org/protobuf":               {},
}

// testOnly lists what tests may import and other code may not.
var testOnly = []string{"github.com/google/go-cmp", "go.uber.org/goleak", "go.opentelemetry.io/proto/otlp",
	"google.golang.org/protobuf", "internal/ops/acme/acmetest",
	"internal/ops/certtest", "internal/control/store/storetest", "e2e/harness", "e2e/sample"}

// TestImports checks the imports of every package against the tables above.
func TestImports(t *testing.T) {
	for _, p := range listPackages(t) {
		allowed, ok := mayImport[p.path]
		if !ok {
			t.Errorf("%s has no entry in mayImport", p.path)
			continue
		}
		for _, imp := range p.Imports {
			if !p.may(imp, allowed) || slices.Contains(testOnly, imp) && !strings.HasPrefix(p.path, "e2e/") {
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

// TestImportTableIsTrue finds entries of mayImport whose package does not exist.
func TestImportTableIsTrue(t *testing.T) {
	have := map[string]bool{}
	for _, p := range listPackages(t) {
		have[p.path] = true
	}
	for path := range mayImport {
		if !have[path] {
			t.Errorf("mayImport has an entry for %s, which does not exist", path)
		}
	}
}

// may reports whether p may import imp outside its tests. The standard library is always allowed.
func (p pkg) may(imp string, allowed []string) bool {
	if ours(imp) {
		return matches(imp, allowed)
	}
	owned, outside := ownersOf(imp)
	return !outside || matches(p.path, owned)
}

// below reports whether a package in allowed may import imp: a test builds its fixtures from such
// parts.
func below(imp string, allowed []string) bool {
	for _, a := range allowed {
		if matches(imp, mayImport[a]) {
			return true
		}
	}
	return false
}

// ownersOf returns the packages that may import the module of the package imp. A module without an
// entry has none.
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

// A pkg is one package of this module. Paths within the module are without the module's name.
type pkg struct {
	path                               string
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

// listPackages lists the packages of this module, with the build constraints of this system.
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

package cmcd

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

// with returns data in which only what change sets is known.
func with(change func(*Data)) *Data {
	d := New()
	change(&d)
	return &d
}

// cases are texts and their data, nil if the syntax is invalid. They seed FuzzParse.
var cases = []struct {
	name, text string
	want       *Data
}{
	{"nothing", "", with(func(*Data) {})},
	{"hls.js, a segment", `bl=21300,br=3200,bs,cid="movie",d=2000,dl=18500,mtp=25400,nor="movie%2F7.m4s",ot=av,` +
		`rtp=15000,sf=h,sid="6e2fb550-c457-11e9-bb97-0800200c9a66",st=l,su,tb=6000`,
		with(func(d *Data) {
			d.Session, d.Starved, d.Startup = "6e2fb550-c457-11e9-bb97-0800200c9a66", true, true
			d.Buffer, d.Bitrate, d.Throughput = 21300, 3200, 25400
		})},
	{"spaces", ` bs , mtp=100 ,  su `, with(func(d *Data) { d.Starved, d.Startup, d.Throughput = true, true, 100 })},
	{"false", "bs=?0,su=?1", with(func(d *Data) { d.Startup = true })},
	{"version 2", `bsa=(3),bsda=(120 45;v),dfa=7,ec=("network" "unplayable"),ltc=830,msd=412,sid="s",v=2`,
		with(func(d *Data) {
			d.Session, d.Stalls, d.StallTime, d.Dropped, d.Latency, d.StartDelay = "s", 3, 165, 7, 830, 412
			d.Errors = []string{"network", "unplayable"}
		})},
	{"lists by type", `bl=(2000;v 1500;a),br=(3000;v 128;a),mtp=(25000)`,
		with(func(d *Data) { d.Buffer, d.Bitrate, d.Throughput = 1500, 3128, 25000 })},
	{"parameters", `bl=700;v;x="a;b",bs;x=1`, nil},
	{"parameters of an item", `bl=700;v; x="a;b";y=?1,su`,
		with(func(d *Data) { d.Buffer, d.Startup = 700, true })},
	{"livego's player", `livego-frames=750,livego-switches=1`,
		with(func(d *Data) { d.Frames, d.Switches = 750, 1 })},
	{"livego's player, after another connection", "livego-before=(3 1500 4 900 1)",
		with(func(d *Data) { d.Before = &Counts{3, 1500, 4, 900, 1} })},
	{"not the totals of before", "livego-before=(3 1500 4 900),livego-before=(1 2 3 4 5 6),livego-before=(1 2 -3 4 5)",
		with(func(*Data) {})},
	{"escapes", `sid="a\"b\\c"`, with(func(d *Data) { d.Session = `a"b\c` })},
	{"comma and bracket in a string", `cid="a,b)=(",bs`, with(func(d *Data) { d.Starved = true })},
	{"twice", "bl=1,bl=2", with(func(d *Data) { d.Buffer = 2 })},
	{"decimals", "pr=1.08,bl=1000.9", with(func(d *Data) { d.Buffer = 1000 })},
	{"of another type", `bl="x",mtp,bs="1",sid=7,ec=5`, with(func(*Data) {})},
	{"negative", "bl=-1", with(func(*Data) {})},
	{"enormous", "bl=99999999999999999999999,bsa=(999999999 999999999)",
		with(func(d *Data) { d.Buffer, d.Stalls = maxNumber, maxNumber })},
	{"not a number", "bl=NaN,br=Inf,mtp=1e999", with(func(*Data) {})},
	{"long session", `sid="` + strings.Repeat("x", maxSession+1) + `",bs`, with(func(d *Data) { d.Starved = true })},
	{"longest session", `sid="` + strings.Repeat("x", maxSession) + `"`,
		with(func(d *Data) { d.Session = strings.Repeat("x", maxSession) })},
	{"many errors", `ec=("1" "2" "3" "4" "5")`, with(func(d *Data) { d.Errors = []string{"1", "2", "3", "4"} })},
	{"empty list", "bsa=()", with(func(*Data) {})},
	{"last comma", "bs,", with(func(d *Data) { d.Starved = true })},
	{"no key", "=1", nil},
	{"no value", "bl=", nil},
	{"no end of a string", `sid="a`, nil},
	{"no end of an escape", `sid="a\`, nil},
	{"invalid escape", `sid="a\n"`, nil},
	{"no end of a list", "bsa=(1 2", nil},
	{"list without spaces", `ec=("a""b")`, nil},
	{"list in a list", "bsa=((1))", nil},
	{"no comma", "bs su", nil},
	{"two commas", "bs,,su", nil},
	{"other bytes", "bs\x00", nil},
	{"too many keys", strings.Repeat("a,", maxItems) + "bs", nil},
	{"too many items", "bsa=(" + strings.Repeat("1 ", maxItems+1) + ")", nil},
	{"too many parameters", "bl=1" + strings.Repeat(";a", maxItems+1), nil},
	{"too long", `cid="` + strings.Repeat("x", maxText) + `"`, nil},
}

// TestParse parses each case in a query, and in a header.
func TestParse(t *testing.T) {
	for _, c := range cases {
		got, ok := ParseQuery("s=1&CMCD=" + url.QueryEscape(c.text) + "&t=2")
		if ok != (c.want != nil) || ok && !reflect.DeepEqual(got, *c.want) {
			t.Errorf("%s: %+v, %v\nwant %+v", c.name, got, ok, c.want)
		}
		r := httptest.NewRequest(http.MethodGet, "/live/movie.m3u8", nil)
		r.Header.Set("CMCD-Session", c.text)
		got, ok = ParseRequest(r)
		if ok != (c.want != nil) || ok && !reflect.DeepEqual(got, *c.want) {
			t.Errorf("%s, in a header: %+v, %v\nwant %+v", c.name, got, ok, c.want)
		}
	}
}

// TestHeaders reads the keys of all four headers.
func TestHeaders(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/live/movie.m3u8", nil)
	r.Header = http.Header{"Cmcd-Object": {"br=3200"}, "Cmcd-Request": {"bl=100,mtp=5000"}, "Cmcd-Session": {`sid="s"`},
		"Cmcd-Status": {"bs"}}
	want := *with(func(d *Data) {
		d.Bitrate, d.Buffer, d.Throughput, d.Session, d.Starved = 3200, 100, 5000, "s", true
	})
	if got, ok := ParseRequest(r); !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, want %+v", got, ok, want)
	}
}

// TestAbsent checks that a request without data has none, and that this costs nothing.
func TestAbsent(t *testing.T) {
	for _, target := range []string{"/", "/?s=abc&_HLS_msn=7", "/?cmcd=bs", "/?XCMCD=bs", "/?CMCD", "/?CMCD=%zz"} {
		r := httptest.NewRequest(http.MethodGet, target, nil)
		if d, ok := ParseRequest(r); ok {
			t.Errorf("%s: %+v", target, d)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/?s=abc&_HLS_msn=7&_HLS_part=2", nil)
	r.Header.Set("User-Agent", "player")
	if n := testing.AllocsPerRun(100, func() { ParseRequest(r) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzParse checks the limits of what is parsed.
func FuzzParse(f *testing.F) {
	for _, c := range cases {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d := New()
		if !d.parse(text) {
			return
		}
		if len(d.Session) > maxSession || len(d.Errors) > maxErrors {
			t.Errorf("session of %d bytes, %d errors", len(d.Session), len(d.Errors))
		}
		for _, n := range []int{d.Buffer, d.Throughput, d.Bitrate, d.Stalls, d.StallTime, d.Dropped, d.Latency,
			d.StartDelay, d.Frames, d.Switches} {
			if n < Unknown || n > maxNumber {
				t.Errorf("number %d", n)
			}
		}
	})
}

package redisurl

import (
	"slices"
	"strings"
	"testing"
)

// addresses are values of redis_addr and the result of each, "" for an error; they seed the fuzz
// target too.
var addresses = []struct {
	text string
	want string // String
	user string
	db   int
	tls  bool
}{
	{"127.0.0.1:6379", "Redis at 127.0.0.1:6379", "", 0, false},
	{"redis", "Redis at redis:6379", "", 0, false},
	{"[::1]:6380", "Redis at [::1]:6380", "", 0, false},
	{"[::1]", "Redis at [::1]:6379", "", 0, false},
	{"redis://h", "Redis at h:6379", "", 0, false},
	{"redis://h/3", "Redis at h:6379", "", 3, false},
	{"redis://u:p@h:1", "Redis at h:1", "u p", 0, false},
	{"redis://:p@h:1", "Redis at h:1", " p", 0, false},
	{"redis://u@h:1", "Redis at h:1", "u fallback", 0, false},
	{"rediss://u:p%40@h:1/2", "Redis at h:1", "u p@", 2, true},
	{"redis-sentinel://a,b:1,c/main", "Redis master main by Sentinel at a:26379, b:1, c:26379", "", 0, false},
	{"redis-sentinel://u:p@a:1/main/4?sentinel_user=x&sentinel_password=y", "Redis master main by Sentinel at a:1", "u p",
		4, false},
	{"rediss-sentinel://a/main", "Redis master main by Sentinel at a:26379", "", 0, true},
	{"redis-cluster://a:1,b:2", "Redis Cluster at a:1, b:2", "", 0, false},
	{"rediss-cluster://u:p@a", "Redis Cluster at a:6379", "u p", 0, true},

	{"", "", "", 0, false},
	{"http://h", "", "", 0, false},
	{"redisx://h", "", "", 0, false},
	{"redis://", "", "", 0, false},
	{"redis://h:x", "", "", 0, false},
	{"redis://h:0", "", "", 0, false},
	{"redis://h:65536", "", "", 0, false},
	{"redis://h/x", "", "", 0, false},
	{"redis://h/-1", "", "", 0, false},
	{"redis://a,b", "", "", 0, false},
	{"redis://u:%zz@h", "", "", 0, false},
	{"redis://h?db=3", "", "", 0, false},
	{"redis-sentinel://h", "", "", 0, false},
	{"redis-sentinel://h/", "", "", 0, false},
	{"redis-cluster://h/3", "", "", 0, false},
	{"redis-cluster://" + strings.Repeat("h,", 100) + "h", "", "", 0, false},
}

func TestParse(t *testing.T) {
	for _, c := range addresses {
		a, err := Parse(c.text, "fallback")
		if (err == nil) != (c.want != "") {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if err != nil {
			continue
		}
		if c.user == "" {
			c.user = " fallback"
		}
		if a.String() != c.want || a.User+" "+a.Password != c.user || a.DB != c.db || a.TLS != c.tls {
			t.Errorf("%s: %s, user %q, database %d, TLS %v", c.text, a, a.User+" "+a.Password, a.DB, a.TLS)
		}
	}
	a, _ := Parse("redis-sentinel://u:p@a:1/main?sentinel_user=x&sentinel_password=y", "")
	if a.SentinelUser != "x" || a.SentinelPassword != "y" {
		t.Errorf("Sentinel user and password %q %q", a.SentinelUser, a.SentinelPassword)
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range addresses {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, s string) {
		const canary = "c4n4ry"
		a, err := Parse(s, canary)
		if err == nil && (len(a.Hosts) == 0 || len(a.Hosts) > maxHosts || slices.Contains(a.Hosts, "")) {
			t.Errorf("%q has the hosts %q", s, a.Hosts)
		}
		if _, err2 := Parse("redis://u:"+canary+"@"+s, ""); err2 != nil && strings.Contains(err2.Error(), canary) {
			t.Errorf("%v contains the password", err2)
		}
		if err == nil && strings.Contains(a.String()+a.GoString(), canary) {
			t.Errorf("%v contains the password", a)
		}
	})
}

package redis

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

const (
	defaultPort         = "6379"
	defaultSentinelPort = "26379"
	// maxHosts bounds the addresses of one Redis: nobody has more Sentinels, and of a Cluster a few nodes tell of the others.
	maxHosts = 32
)

// An Address says which Redis, and how to get into it. ParseAddress makes one.
type Address struct {
	hosts    []string // host:port; of the Sentinels where there is a master, of some nodes where it is a Cluster
	master   string   // its name in Sentinel; "" without
	cluster  bool
	tls      bool
	db       int
	user     string
	password string

	sentinelUser, sentinelPassword string
}

// ParseAddress reads an address in one of these forms, each with one or, behind commas, more hosts where that makes sense:
//
//	host:port
//	redis://[user[:password]@]host[:port][/db]
//	redis-sentinel://[user[:password]@]host[:port],.../master[/db][?sentinel_user=U&sentinel_password=P]
//	redis-cluster://[user[:password]@]host[:port],...
//
// rediss, rediss-sentinel and rediss-cluster are the same over TLS. User and password are percent-encoded where they have
// characters of a URL's own. password is what to log in with when the address has none. No error quotes what may be a secret.
func ParseAddress(text, password string) (Address, error) {
	scheme, rest, isURL := strings.Cut(text, "://")
	if !isURL {
		scheme, rest = "redis", text
	}
	a := Address{password: password}
	base, secure := strings.CutPrefix(scheme, "rediss")
	if !secure {
		base = strings.TrimPrefix(scheme, "redis")
	}
	a.tls = secure
	switch {
	case !strings.HasPrefix(scheme, "redis"):
		return Address{}, errors.New("begins with none of redis, rediss, redis-sentinel, rediss-sentinel, redis-cluster and rediss-cluster")
	case base == "", base == "-sentinel", base == "-cluster":
	default:
		return Address{}, errors.New("begins with none of redis, rediss, redis-sentinel, rediss-sentinel, redis-cluster and rediss-cluster")
	}
	rest, query, _ := strings.Cut(rest, "?")
	if err := a.readQuery(query, base == "-sentinel"); err != nil {
		return Address{}, err
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		if err := a.readUser(rest[:at]); err != nil {
			return Address{}, err
		}
		rest = rest[at+1:]
	}
	hosts, path, _ := strings.Cut(rest, "/")
	port := defaultPort
	switch base {
	case "-sentinel":
		port = defaultSentinelPort
		a.master, path, _ = strings.Cut(path, "/")
		if a.master == "" {
			return Address{}, errors.New("lacks the name of the master: redis-sentinel://host:port/NAME")
		}
	case "-cluster":
		a.cluster = true
		if path != "" && path != "0" {
			return Address{}, errors.New("names a database, and a Cluster has but one")
		}
		path = ""
	}
	if err := a.readHosts(hosts, port, base != ""); err != nil {
		return Address{}, err
	}
	if path != "" {
		n, err := strconv.ParseUint(path, 10, 16)
		if err != nil {
			return Address{}, errors.New("has a database that is no number")
		}
		a.db = int(n)
	}
	return a, nil
}

func (a *Address) readQuery(query string, sentinel bool) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("has a query that is malformed")
	}
	for name, v := range values {
		switch {
		case sentinel && name == "sentinel_user":
			a.sentinelUser = v[0]
		case sentinel && name == "sentinel_password":
			a.sentinelPassword = v[0]
		default:
			return fmt.Errorf("has a parameter that is not known: %.32q", name)
		}
	}
	return nil
}

func (a *Address) readUser(info string) error {
	user, password, has := strings.Cut(info, ":")
	var err error
	if a.user, err = url.PathUnescape(user); err == nil && has {
		a.password, err = url.PathUnescape(password)
	}
	if err != nil {
		return errors.New("has a user or password that is not percent-encoded as it should be")
	}
	return nil
}

func (a *Address) readHosts(list, port string, several bool) error {
	for host := range strings.SplitSeq(list, ",") {
		if len(a.hosts) == maxHosts {
			return fmt.Errorf("has more than %d hosts", maxHosts)
		}
		if _, _, err := net.SplitHostPort(host); err != nil && !strings.Contains(strings.TrimSuffix(host, "]"), "]") {
			host = net.JoinHostPort(strings.Trim(host, "[]"), port)
		}
		name, p, err := net.SplitHostPort(host)
		if n, numErr := strconv.ParseUint(p, 10, 16); err != nil || name == "" || numErr != nil || n == 0 {
			return errors.New("lacks a host, or has a port that is no number from 1 to 65535")
		}
		a.hosts = append(a.hosts, host)
	}
	if !several && len(a.hosts) > 1 {
		return errors.New("has several hosts: say redis-sentinel or redis-cluster")
	}
	return nil
}

// String describes a without its secrets.
func (a Address) String() string {
	kind := "Redis"
	switch {
	case a.cluster:
		kind = "Redis Cluster"
	case a.master != "":
		kind = "Redis master " + a.master + " by Sentinel"
	}
	return kind + " at " + strings.Join(a.hosts, ", ")
}

// GoString keeps secrets out of %#v too.
func (a Address) GoString() string { return a.String() }

// tlsConfig returns how to speak TLS to host:port, nil when a is plain.
func (a Address) tlsConfig(verify bool, base *tls.Config, addr string) *tls.Config {
	if !a.tls {
		return nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if base != nil {
		c = base.Clone()
	}
	c.InsecureSkipVerify = !verify
	c.ServerName, _, _ = net.SplitHostPort(addr)
	return c
}

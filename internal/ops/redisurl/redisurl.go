// Package redisurl reads the address of a Redis: one instance, one behind Sentinel, or a Cluster. It connects to none.
package redisurl

import (
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
	// maxHosts bounds the addresses of one Redis: nobody has more Sentinels, and of a Cluster a few
	// nodes tell of the others.
	maxHosts = 32
)

// An Address says which Redis, and how to get into it. Parse makes one.
type Address struct {
	Hosts    []string // host:port; of the Sentinels where there is a master, of some nodes where it is a Cluster
	Master   string   // its name in Sentinel; "" without
	Cluster  bool
	TLS      bool
	DB       int
	User     string
	Password string

	SentinelUser, SentinelPassword string
}

// Parse reads an address in one of these forms, each with one or, behind commas, more hosts where that makes sense:
//
//	host:port
//	redis://[user[:password]@]host[:port][/db]
//	redis-sentinel://[user[:password]@]host[:port],.../master[/db][?sentinel_user=U&sentinel_password=P]
//	redis-cluster://[user[:password]@]host[:port],...
//
// rediss, rediss-sentinel and rediss-cluster are the same over TLS. User and password are
// percent-encoded where they have characters of a URL's own. password is what to log in with when
// the address has none. No error quotes what may be a secret.
func Parse(text, password string) (Address, error) {
	scheme, rest, isURL := strings.Cut(text, "://")
	if !isURL {
		scheme, rest = "redis", text
	}
	a := Address{Password: password}
	base, secure := strings.CutPrefix(scheme, "rediss")
	if !secure {
		base = strings.TrimPrefix(scheme, "redis")
	}
	a.TLS = secure
	switch {
	case !strings.HasPrefix(scheme, "redis"):
		return Address{}, errors.New("begins with none of redis, rediss, redis-sentinel, rediss-sentinel, redis-cluster " +
			"and rediss-cluster")
	case base == "", base == "-sentinel", base == "-cluster":
	default:
		return Address{}, errors.New("begins with none of redis, rediss, redis-sentinel, rediss-sentinel, redis-cluster " +
			"and rediss-cluster")
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
		a.Master, path, _ = strings.Cut(path, "/")
		if a.Master == "" {
			return Address{}, errors.New("lacks the name of the master: redis-sentinel://host:port/NAME")
		}
	case "-cluster":
		a.Cluster = true
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
		a.DB = int(n)
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
			a.SentinelUser = v[0]
		case sentinel && name == "sentinel_password":
			a.SentinelPassword = v[0]
		default:
			return fmt.Errorf("has a parameter that is not known: %.32q", name)
		}
	}
	return nil
}

func (a *Address) readUser(info string) error {
	user, password, has := strings.Cut(info, ":")
	var err error
	if a.User, err = url.PathUnescape(user); err == nil && has {
		a.Password, err = url.PathUnescape(password)
	}
	if err != nil {
		return errors.New("has a user or password that is not percent-encoded as it should be")
	}
	return nil
}

func (a *Address) readHosts(list, port string, several bool) error {
	for host := range strings.SplitSeq(list, ",") {
		if len(a.Hosts) == maxHosts {
			return fmt.Errorf("has more than %d hosts", maxHosts)
		}
		if _, _, err := net.SplitHostPort(host); err != nil && !strings.Contains(strings.TrimSuffix(host, "]"), "]") {
			host = net.JoinHostPort(strings.Trim(host, "[]"), port)
		}
		name, p, err := net.SplitHostPort(host)
		if n, numErr := strconv.ParseUint(p, 10, 16); err != nil || name == "" || numErr != nil || n == 0 {
			return errors.New("lacks a host, or has a port that is no number from 1 to 65535")
		}
		a.Hosts = append(a.Hosts, host)
	}
	if !several && len(a.Hosts) > 1 {
		return errors.New("has several hosts: say redis-sentinel or redis-cluster")
	}
	return nil
}

// String describes a without its secrets.
func (a Address) String() string {
	kind := "Redis"
	switch {
	case a.Cluster:
		kind = "Redis Cluster"
	case a.Master != "":
		kind = "Redis master " + a.Master + " by Sentinel"
	}
	return kind + " at " + strings.Join(a.Hosts, ", ")
}

// GoString keeps secrets out of %#v too.
func (a Address) GoString() string { return a.String() }

// Package redisurl parses the address of a Redis: a single instance, one behind Sentinel, or a
// Cluster. It opens no connection.
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
	// maxHosts bounds the addresses of one Redis: more Sentinels are not used, and a few nodes of a
	// Cluster report the others.
	maxHosts = 32
)

// An Address says where a Redis is and how to log in. Parse returns one.
type Address struct {
	Hosts    []string // host:port; of the Sentinels with Master, of some nodes with Cluster
	Master   string   // its name in Sentinel; "" without Sentinel
	Cluster  bool
	TLS      bool
	DB       int
	User     string
	Password string

	SentinelUser, SentinelPassword string
}

// Parse parses an address in one of these forms. Sentinel and Cluster accept several hosts,
// separated by commas:
//
//	host:port
//	redis://[user[:password]@]host[:port][/db]
//	redis-sentinel://[user[:password]@]host[:port],.../master[/db][?sentinel_user=U&sentinel_password=P]
//	redis-cluster://[user[:password]@]host[:port],...
//
// rediss, rediss-sentinel and rediss-cluster are the same over TLS. Reserved characters in user and
// password must be percent-encoded. password is used when the address has none. No error quotes a
// secret.
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
		return Address{}, errScheme()
	case base == "", base == "-sentinel", base == "-cluster":
	default:
		return Address{}, errScheme()
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
			return Address{}, errors.New("names a database, but a Cluster has only one")
		}
		path = ""
	}
	if err := a.readHosts(hosts, port, base != ""); err != nil {
		return Address{}, err
	}
	if path != "" {
		n, err := strconv.ParseUint(path, 10, 16)
		if err != nil {
			return Address{}, errors.New("has an invalid database: not a number")
		}
		a.DB = int(n)
	}
	return a, nil
}

func errScheme() error {
	return errors.New("has an unknown scheme: use redis, rediss, redis-sentinel, rediss-sentinel, redis-cluster or " +
		"rediss-cluster")
}

func (a *Address) readQuery(query string, sentinel bool) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("has an invalid query")
	}
	for name, v := range values {
		switch {
		case sentinel && name == "sentinel_user":
			a.SentinelUser = v[0]
		case sentinel && name == "sentinel_password":
			a.SentinelPassword = v[0]
		default:
			return fmt.Errorf("has an unknown parameter: %.32q", name)
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
		return errors.New("has a user or password with invalid percent-encoding")
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
			return errors.New("lacks a host, or has an invalid port: must be from 1 to 65535")
		}
		a.Hosts = append(a.Hosts, host)
	}
	if !several && len(a.Hosts) > 1 {
		return errors.New("has several hosts: use redis-sentinel or redis-cluster")
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

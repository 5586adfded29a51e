package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"livego/internal/live"
	"livego/internal/redisurl"
)

// Validate reports whether a server can be started with c: addresses, certificate files that are needed, and what this
// version cannot do. The error has a line for each mistake. Load has done it already.
func (c Config) Validate() error {
	var errs []error
	for _, p := range c.problems() {
		errs = append(errs, errors.New(p.key+": "+p.text))
	}
	return errors.Join(errs...)
}

type problem struct{ key, text string }

func (c Config) problems() []problem {
	var all []problem
	add := func(key, format string, args ...any) { all = append(all, problem{key, fmt.Sprintf(format, args...)}) }

	const later = "not in this version"
	if c.FLVArchive {
		add("flv_archive", later)
	}
	if c.RedisAddr != "" {
		if _, err := redisurl.Parse(c.RedisAddr, c.RedisPwd); err != nil {
			add("redis_addr", "%v", err)
		}
	} else if c.RedisPwd != "" {
		add("redis_pwd", "there is no redis_addr")
	}
	listeners := c.listeners()
	for i, l := range listeners {
		if err := checkAddr(l.addr); err != nil {
			add(l.key, "%v", err)
			continue
		}
		for _, other := range listeners[:i] {
			if collide(l.addr, other.addr) {
				add(l.key, "%s is taken by %s (%s)", l.addr, other.key, other.addr)
				break
			}
		}
	}
	if c.EnableRTMPS || c.EnableHTTPS || c.UseHLSHTTPS {
		if _, err := tls.LoadX509KeyPair(c.RTMPSCert, c.RTMPSKey); err != nil {
			add("rtmps_cert", "the certificate for TLS: %v", err)
		}
	}
	if len(c.Apps) == 0 {
		add("server", "there is no app")
	}
	for _, a := range c.Apps {
		if err := live.CheckApp(a.Name); err != nil {
			add("server", "%v", err)
		}
	}
	return all
}

type listener struct{ key, addr string }

// listeners returns those that are switched on.
func (c Config) listeners() []listener {
	ls := []listener{
		{"rtmp_addr", c.RTMPAddr}, {"httpflv_addr", c.HTTPFLVAddr}, {"hls_addr", c.HLSAddr}, {"api_addr", c.APIAddr},
	}
	if c.EnableRTMPS {
		ls = append(ls, listener{"rtmps_addr", c.RTMPSAddr})
	}
	if c.EnableHTTPS {
		ls = append(ls, listener{"https_addr", c.HTTPSAddr})
	}
	return ls
}

func checkAddr(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is no address: it must be host:port or :port", addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q has no port between 0 and 65535", addr)
	}
	return nil
}

// collide reports whether two listeners cannot both have their address. Port 0 is whatever is free.
func collide(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, err := net.SplitHostPort(b)
	return err == nil && portA == portB && portA != "0" && (hostA == hostB || anyHost(hostA) || anyHost(hostB))
}

func anyHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

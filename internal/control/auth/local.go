package auth

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"livego/internal/ops/netx"
	"livego/internal/ops/peeruser"
)

// rightsWithoutCredential returns the rights of r rightsWithoutCredential a credential, and why
// they are not all, in a sentence, where it is not plain.
func (d *AdminAuth) rightsWithoutCredential(r *http.Request, need Access) (Rights, string) {
	addr := rateLimitAddr(r.RemoteAddr)
	local := addr.IsLoopback()
	if !local && !d.inAllowedNetwork(r) {
		return 0, ""
	}
	if need.Credential {
		return 0, "It is required from this machine too"
	}
	if len(d.secret) > 0 {
		return 0, ""
	}
	if sign := proxyEvidence(r); sign != "" {
		return 0, sign
	}
	if !d.ownHost(r) && (local || !isIPLiteral(hostOf(r))) {
		return 0, "Without one, the operator's interface does not answer to this host name: add it to api_hosts"
	}
	if !need.Monitoring { // a service of this machine may use an address of api_allow too
		if why := d.systemAccount(r); why != "" {
			return 0, why
		}
	}
	if !browserReportsOrigin(r) && (local || fromBrowser(r)) {
		return Read, "Without one, only reading is allowed by this host name over HTTP, where browsers do not say " +
			"which site's page sent a request: use localhost or HTTPS"
	}
	return Admin, ""
}

// inAllowedNetwork reports whether r comes from a network of api_allow.
func (d *AdminAuth) inAllowedNetwork(r *http.Request) bool {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	addr := ap.Addr().Unmap().WithZone("")
	return err == nil && slices.ContainsFunc(d.allow, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// isIPLiteral reports whether a host is an address: no name can be pointed elsewhere to become one.
func isIPLiteral(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// fromBrowser reports whether a browser has sent r: all of them call themselves so, and no page can
// change it in a request to another site without a preflight.
func fromBrowser(r *http.Request) bool { return strings.HasPrefix(r.UserAgent(), "Mozilla/") }

// proxyEvidence returns what shows that a proxy has passed r on, in a sentence; "" for nothing.
// What such headers claim is never believed, only that they are there.
func proxyEvidence(r *http.Request) string {
	if netx.FromProxyProtocol(r) { // which may be any address, and one of api_allow
		return "A proxy passed the connection on"
	}
	if r.ProtoMajor == 1 && r.ProtoMinor == 0 {
		return "A request by HTTP/1.0 counts as passed on by a proxy: use HTTP/1.1"
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if isProxyHeader(name) {
			return fmt.Sprintf("The header %.40s shows that a proxy passed the request on", name)
		}
	}
	return ""
}

// isProxyHeader reports whether proxies add a header of this canonical name, and programs and browsers do not.
func isProxyHeader(name string) bool {
	for _, prefix := range []string{"X-Forwarded-", "X-Real-", "Cf-", "X-Original-", "X-Envoy-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return name == "Forwarded" || name == "X-Forwarded" || name == "Via" || name == "Cdn-Loop" || name == "Client-Ip" ||
		strings.HasSuffix(name, "-Client-Ip")
}

// systemAccount returns why the connection of r does not count as one of a person on this machine:
// it belongs to a system account, which may be a proxy for anybody. It returns "" for a person, and
// where the system does not tell.
func (d *AdminAuth) systemAccount(r *http.Request) string {
	uid, err := d.peerUser(r.Context())
	switch {
	case errors.Is(err, peeruser.ErrClosed):
		return "The connection was closed by the other end, so that its user is not known"
	case err != nil || !peeruser.IsSystem(uid, d.systemMax) || slices.Contains(d.allowUsers, uid):
		return ""
	}
	id := strconv.FormatUint(uint64(uid), 10)
	name := id
	if u, err := user.LookupId(id); err == nil {
		name = u.Username
	}
	return fmt.Sprintf("The connection belongs to the system account %s, which may be a proxy for anybody; "+
		"api_allow_users: [%s] trusts it", name, name)
}

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

// rightsWithoutCredential returns the rights of r without a credential and, when they are limited
// for a reason that the client cannot see, that reason as a sentence.
func (a *AdminAuth) rightsWithoutCredential(r *http.Request, need Access) (Rights, string) {
	addr := rateLimitAddr(r.RemoteAddr)
	local := addr.IsLoopback()
	if !local && !a.inAllowedNetwork(r) {
		return 0, ""
	}
	if need.Credential {
		return 0, "It is required from this machine too"
	}
	if a.opt.JWTSecret != "" && !(need.Monitoring && local) {
		return 0, ""
	}
	if sign := proxyEvidence(r); sign != "" {
		return 0, sign
	}
	if !a.ownHost(r) && (local || !isIPLiteral(hostOf(r))) {
		return 0, "Without a credential, requests to this host name are refused: add it to api_hosts"
	}
	if !need.Monitoring { // a service of this machine may also use an address of api_allow
		if why := a.systemAccount(r); why != "" {
			return 0, why
		}
	}
	if !browserReportsOrigin(r) && (local || fromBrowser(r)) {
		return Read, "Without a credential, only reading is allowed on this host name over HTTP, where browsers do " +
			"not report " +
			"which site's page sent a request: use localhost or HTTPS"
	}
	return Admin, ""
}

// inAllowedNetwork reports whether r comes from a network of api_allow.
func (a *AdminAuth) inAllowedNetwork(r *http.Request) bool {
	addr := netx.ClientAddr(r)
	return slices.ContainsFunc(a.opt.Allow, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// isIPLiteral reports whether host is an address: DNS cannot point it elsewhere.
func isIPLiteral(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// fromBrowser reports whether a browser has sent r. All browsers identify as Mozilla, and no page
// can change that in a cross-site request without a preflight.
func fromBrowser(r *http.Request) bool { return strings.HasPrefix(r.UserAgent(), "Mozilla/") }

// proxyEvidence returns, as a sentence, what shows that a proxy has forwarded r; "" for nothing.
// The values of such headers are never trusted, only their presence.
func proxyEvidence(r *http.Request) string {
	if netx.FromProxyProtocol(r) { // the claimed address may be any, also one of api_allow
		return "The connection comes from a proxy"
	}
	if r.ProtoMajor == 1 && r.ProtoMinor == 0 {
		return "An HTTP/1.0 request counts as forwarded by a proxy: use HTTP/1.1"
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if isProxyHeader(name) {
			return fmt.Sprintf("The header %.40s shows that a proxy forwarded the request", name)
		}
	}
	return ""
}

// isProxyHeader reports whether proxies add a header of this canonical name, and programs and
// browsers do not.
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
// it belongs to a system account, which may be a proxy for other clients. It returns "" for a
// person, and when the system does not report the user.
func (a *AdminAuth) systemAccount(r *http.Request) string {
	uid, err := a.opt.PeerUser(r.Context())
	switch {
	case errors.Is(err, peeruser.ErrClosed):
		return "The client closed the connection, so its user is unknown"
	case err != nil || !peeruser.IsSystem(uid, a.systemMax) || slices.Contains(a.opt.AllowUsers, uid):
		return ""
	}
	id := strconv.FormatUint(uint64(uid), 10)
	name := id
	if u, err := user.LookupId(id); err == nil {
		name = u.Username
	}
	return fmt.Sprintf("The connection belongs to the system account %s, which may be a proxy for other clients: "+
		"to trust it, set api_allow_users: [%s]", name, name)
}

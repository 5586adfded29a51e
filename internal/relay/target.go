package relay

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"livego/internal/domain"
	"livego/internal/proto/rtmp"
)

const (
	maxURL          = 2048 // bytes
	maxReason       = 200  // bytes of an error in the relay's status
	minSecretLength = 4    // characters; shorter strings occur in ordinary text
	redactedPart    = "***"
)

// A target is the remote URL of a relay.
type target struct {
	u        *url.URL
	trusted  bool         // from the settings
	rtmp     rtmp.Address // zero for HTTP
	invalid  error        // why the URL of an earlier run cannot be used any more; nil otherwise
	redacted string       // the URL without parts that may be secret
	secrets  []string     // the parts that may be secret, longest first
}

// parseTarget parses the URL of a relay. Errors have kind Invalid and contain nothing of the URL.
// A trusted URL, from the settings, may have a user and a password, and any port.
func parseTarget(direction, text string, trusted bool) (*target, error) {
	if len(text) > maxURL {
		return nil, domain.Errorf(domain.Invalid, "the URL is longer than %d characters", maxURL)
	}
	u, err := url.Parse(text)
	if err != nil || strings.ContainsAny(u.Hostname(), "[]") {
		return nil, domain.Errorf(domain.Invalid, "the URL is malformed")
	}
	t := &target{u: u, trusted: trusted}
	if err := t.check(direction, text); err != nil {
		return nil, err
	}
	t.redacted, t.secrets = redactURL(u), t.findSecrets()
	return t, nil
}

func (t *target) check(direction, text string) error {
	u := t.u
	isHTTP := u.Scheme == "http" || u.Scheme == "https"
	switch {
	case u.Scheme != "rtmp" && u.Scheme != "rtmps" && (direction == domain.Push || !isHTTP):
		return domain.Errorf(domain.Invalid, "%s", map[string]string{
			domain.Push: "a push URL must have the form rtmp://host/app/name or rtmps://host/app/name",
			domain.Pull: "a pull URL must have the form rtmp://host/app/name or, for HTTP-FLV, " +
				"http://host/app/name.flv",
		}[direction])
	case strings.Contains(text, "#"):
		return domain.Errorf(domain.Invalid, "the URL has a fragment: write # as %%23")
	case strings.ContainsFunc(u.Path+u.RawQuery+u.Host, unicode.IsControl):
		return domain.Errorf(domain.Invalid, "the URL has a control character")
	case isHTTP && (strings.HasSuffix(u.Path, ".m3u8") || strings.HasSuffix(u.Path, ".m3u")):
		return domain.Errorf(domain.Invalid, "HLS cannot be pulled: use the RTMP or HTTP-FLV URL of the stream")
	}
	if !isHTTP {
		var err error
		if t.rtmp, err = rtmp.ParseAddress(u); err != nil {
			return domain.Errorf(domain.Invalid, "%w", err)
		}
	}
	return checkAuthority(u, t.trusted)
}

// address returns the host:port to connect to.
func (t *target) address() string {
	if t.rtmp.Host != "" {
		return t.rtmp.Host
	}
	port := t.u.Port()
	switch {
	case port != "":
	case t.u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(t.u.Hostname(), port)
}

// staticTarget returns the target for a room below base, a URL of the settings.
func staticTarget(base, room string) (*target, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, "the URL is malformed")
	}
	return parseTarget(domain.Push, u.JoinPath(room).String(), true)
}

// checkAuthority checks user, host and port of a URL.
func checkAuthority(u *url.URL, trusted bool) error {
	host := u.Hostname()
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case host == "":
		return domain.Errorf(domain.Invalid, "the URL has no host")
	case u.User != nil && !trusted:
		return domain.Errorf(domain.Invalid,
			"a user or password is allowed in static_push only: elsewhere it could be logged in transit")
	case isNumericHost(host):
		return domain.Errorf(domain.Invalid, "the host is a number but not an IP address")
	case u.Port() == "" && !strings.HasSuffix(u.Host, ":"):
		return nil
	case err != nil || port == 0:
		return domain.Errorf(domain.Invalid, "the port must be between 1 and 65535")
	case port < 1024 && port != 80 && port != 443 && !trusted:
		return domain.Errorf(domain.Invalid, "the port must be 80, 443 or at least 1024")
	}
	return nil
}

// isNumericHost reports whether some resolvers would parse a host as a number, such as 2130706433
// or 0x7f.1, and net/netip would not.
func isNumericHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	last := host[strings.LastIndex(strings.TrimSuffix(host, "."), ".")+1:]
	last = strings.TrimSuffix(last, ".")
	_, err := strconv.ParseUint(last, 0, 64)
	return err == nil || last != "" && strings.Trim(last, "0123456789") == ""
}

// redactURL returns u up to the app: many services have the stream key after it.
func redactURL(u *url.URL) string {
	s := u.Scheme + "://" + u.Host + "/"
	if app, _, more := strings.Cut(strings.TrimPrefix(u.EscapedPath(), "/"), "/"); more {
		s += app + "/"
	}
	return s + redactedPart
}

// findSecrets returns the parts of the URL that are redacted.
func (t *target) findSecrets() []string {
	u := t.u
	name, _, _ := strings.Cut(t.rtmp.Name, "?")
	list := append([]string{u.RawQuery, t.rtmp.Name, name},
		append(queryValues(t.rtmp.App), queryValues(t.rtmp.Name)...)...)
	for _, path := range []string{u.Path, u.EscapedPath()} { // servers may repeat either form
		parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
		list = append(list, parts[min(1, len(parts)-1):]...)
	}
	for _, values := range u.Query() {
		list = append(list, values...)
	}
	if u.User != nil {
		password, _ := u.User.Password()
		list = append(list, u.User.Username(), password, u.User.String())
	}
	list = slices.DeleteFunc(list, func(s string) bool { return len(s) < minSecretLength })
	slices.SortFunc(list, func(a, b string) int { return len(b) - len(a) })
	return list
}

// queryValues returns the values of the query after an app or a name, raw and unescaped.
func queryValues(part string) (values []string) {
	_, query, _ := strings.Cut(part, "?")
	for arg := range strings.SplitSeq(query, "&") {
		_, value, _ := strings.Cut(arg, "=")
		values = append(values, value)
		if plain, err := url.QueryUnescape(value); err == nil {
			values = append(values, plain)
		}
	}
	return values
}

// redactError returns err as one line of text without the secrets of the URL, which other servers
// may repeat.
func (t *target) redactError(err error) string {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	text := err.Error()
	for _, s := range t.secrets {
		text = strings.ReplaceAll(text, s, redactedPart)
		text = strings.ReplaceAll(text, url.QueryEscape(s), redactedPart)
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	return domain.Shorten(text, maxReason)
}

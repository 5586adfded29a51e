package relay

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"

	"livego/internal/proto/rtmp"
)

// adobeCredentials returns the query that authenticates user after the server has rejected a
// connection with rejection. It implements the scheme "adobe" of Flash Media Server, which encoders
// support. The first query has the user name, the second the response to the server's challenge.
// ok is false if the server does not ask for this.
func adobeCredentials(user *url.Userinfo, rejection error) (query string, ok bool) {
	status, refused := errors.AsType[*rtmp.StatusError](rejection)
	if user == nil || !refused || !strings.Contains(status.Description, "authmod=adobe") {
		return "", false
	}
	query = "?authmod=adobe&user=" + url.QueryEscape(user.Username())
	_, asked, again := strings.Cut(status.Description, "?reason=needauth&")
	if !again {
		return query, strings.Contains(status.Description, "code=403 need auth")
	}
	args := map[string]string{}
	for arg := range strings.SplitSeq(asked, "&") { // values are plain Base64, with + and =
		name, value, _ := strings.Cut(strings.TrimSpace(arg), "=")
		args[name] = value
	}
	password, _ := user.Password()
	var nonce [4]byte
	rand.Read(nonce[:])
	ours := hex.EncodeToString(nonce[:])
	theirs := args["challenge"]
	if opaque := args["opaque"]; opaque != "" {
		theirs = opaque
	}
	response := md5Base64(md5Base64(user.Username()+args["salt"]+password) + theirs + ours)
	query += "&challenge=" + ours + "&response=" + response
	if opaque := args["opaque"]; opaque != "" {
		query += "&opaque=" + opaque
	}
	return query, true
}

// md5Base64 returns the MD5 of s in Base64, as the scheme defines.
func md5Base64(s string) string {
	sum := md5.Sum([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

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

// adobeCredentials returns what has to stand behind the app so that the other end lets user in,
// after it has refused a connection with said: the scheme "adobe" of Flash Media Server, which
// encoders know. The first time it is the name, the second the answer to what the other end asks
// then. False where it asks for nothing, or for something else.
func adobeCredentials(user *url.Userinfo, said error) (query string, ok bool) {
	status, refused := errors.AsType[*rtmp.StatusError](said)
	if user == nil || !refused || !strings.Contains(status.Description, "authmod=adobe") {
		return "", false
	}
	query = "?authmod=adobe&user=" + url.QueryEscape(user.Username())
	_, asked, again := strings.Cut(status.Description, "?reason=needauth&")
	if !again {
		return query, strings.Contains(status.Description, "code=403 need auth")
	}
	args := map[string]string{}
	for arg := range strings.SplitSeq(asked, "&") { // values are Base64 as it is, with + and =
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

// md5Base64 returns the MD5 of s in Base64, which is the scheme's.
func md5Base64(s string) string {
	sum := md5.Sum([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

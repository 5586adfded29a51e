package relay

import (
	"context"
	"errors"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"livego/internal/proto/rtmp"
)

func TestAdobeCredentials(t *testing.T) {
	const first, second = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ",
		"[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&user=me&salt="
	me := url.UserPassword("me", "s3cret")
	for _, tt := range []struct {
		name   string
		user   *url.Userinfo
		reject error
		want   string // "" for none; ~ stands for 8 digits and ^ for 24 characters of Base64
	}{
		{"server asks for the user", me, &rtmp.StatusError{Description: first}, "?authmod=adobe&user=me"},
		{"server sends a challenge", me, &rtmp.StatusError{Description: second + "a+b=&challenge=c+d==&opaque=e/f="},
			"?authmod=adobe&user=me&challenge=~&response=^&opaque=e/f="},
		{"without opaque", me, &rtmp.StatusError{Description: second + "a+b=&challenge=c+d=="},
			"?authmod=adobe&user=me&challenge=~&response=^"},
		{"wrong password", me, &rtmp.StatusError{Description: "[ AccessManager.Reject ] : [ authmod=adobe ] : " +
			"?reason=authfailed&opaque=x"}, ""},
		{"another scheme", me, &rtmp.StatusError{Description: "[ AccessManager.Reject ] : [ code=403 need auth; " +
			"authmod=llnw ] : "}, ""},
		{"connection rejected", me, &rtmp.StatusError{Code: "NetConnection.Connect.Rejected"}, ""},
		{"other error", me, errors.New(first), ""},
		{"no user", nil, &rtmp.StatusError{Description: first}, ""},
	} {
		got, ok := adobeCredentials(tt.user, tt.reject)
		pattern := strings.NewReplacer("~", "[0-9a-f]{8}", "\\^", "[A-Za-z0-9+/]{22}==").Replace(regexp.QuoteMeta(tt.want))
		if ok != (tt.want != "") || ok && !regexp.MustCompile("^"+pattern+"$").MatchString(got) ||
			strings.Contains(got, "s3cret") {
			t.Errorf("%s: %q, %v, want %q", tt.name, got, ok, tt.want)
		}
	}
}

// TestAdobeAuthentication pushes to a server that asks for user and password, and computes the
// expected response.
func TestAdobeAuthentication(t *testing.T) {
	const opaque = "opaq3="
	var asked atomic.Int32
	got := make(chan url.Values, 1)
	s := serveWith(t, rtmp.Options{CheckApp: func(string) error {
		switch asked.Add(1) {
		case 1:
			return errors.New("[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ")
		case 2:
			return errors.New("[ AccessManager.Reject ] : [ authmod=adobe ] : " +
				"?reason=needauth&user=me&salt=s+lt=&challenge=ch+ll=&opaque=" + opaque)
		}
		return nil
	}}, func(_ context.Context, _ *rtmp.ServerConn, req *rtmp.Request) {
		args, _ := url.ParseQuery(req.Query)
		got <- args
	})
	hub, m := newManager(t, func(o *Options) {
		o.Static = map[string][]string{"live": {"rtmp://me:pass@" + s.Addr().String() + "/app"}}
	})
	defer runStatic(m)()
	p := publishAudio(t, hub)
	p.Write(audioFrame(0))
	select {
	case args := <-got:
		response := strings.ReplaceAll(args.Get("response"), " ", "+") // query parsing turned + into a space
		if want := md5Base64(md5Base64("mes+lt=pass") + opaque + args.Get("challenge")); response != want ||
			args.Get("user") != "me" || args.Get("opaque") != opaque {
			t.Errorf("answers %v, want the response %s", args, want)
		}
	case <-time.After(testTimeout):
		t.Errorf("nothing was published: %+v", m.List())
	}
	m.Close()
}

package api

import (
	"errors"
	"html/template"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"

	"golang.org/x/text/language"

	"livego/internal/control/auth"
	"livego/internal/domain"
)

// showsLogin reports whether the response to r, which was refused with err, is the login form: for
// a browser that loads a page without a credential, which it cannot send in a header.
func (s *server) showsLogin(r *http.Request, err error) bool {
	return errors.Is(err, auth.ErrCredential) && r.Method == http.MethodGet && isLoginTarget(r.URL.Path) &&
		strings.Contains(r.Header.Get("Accept"), "text/html")
}

// isLoginTarget reports whether a browser may be redirected to p after login.
func isLoginTarget(p string) bool {
	if p != "/" && path.Clean(p) != strings.TrimSuffix(p, "/") || strings.ContainsAny(p, "\\\r\n") {
		return false
	}
	return p == "/" || strings.HasPrefix(p, "/statics/") || strings.HasPrefix(p, "/debug/pprof/")
}

// loginData is the data of the login template.
type loginData struct {
	pageData
	Text  loginText
	Root  string // relative path from the page to /, which also works below a proxy's path prefix
	Next  string // path to redirect to after login
	Hint  string // why a credential is needed, in English, if that is not obvious
	Wrong bool   // the credential of the last attempt was invalid
	Error string // another reason why the last attempt failed, in English
	Plain bool   // the token would be sent over the network in plain text
}

// Page returns the relative path to the page that needs the credential.
func (d loginData) Page() string { return d.Root + strings.TrimPrefix(d.Next, "/") }

// loginText is the text of the login form in one language.
type loginText struct {
	Language                    string
	LogIn, Credential, Wrong    string
	PlainHTTP, LanguageSwitcher string
	Help                        template.HTML // where an operator finds a credential
}

func englishLogin() loginText {
	return loginText{
		Language: "en", LogIn: "Log in", Credential: "Admin token or JWT", LanguageSwitcher: "Language",
		Wrong:     "Invalid credential: neither the admin token nor a valid JWT",
		PlainHTTP: "This page was loaded over plain HTTP: others on the network can read what you enter.",
		Help: "The admin token is in the file <code>admin.token</code> of livego's data directory on the server, unless " +
			"the setting <code>admin_token</code> is set. <code>livego token manage</code> makes a JWT.",
	}
}

func chineseLogin() loginText {
	return loginText{
		Language: "zh-CN", LogIn: "登录", Credential: "管理令牌或 JWT", LanguageSwitcher: "语言",
		Wrong:     "凭据无效：既不是管理令牌，也不是有效的 JWT",
		PlainHTTP: "此页面通过未加密的 HTTP 打开，网络中的其他人可以看到你输入的内容。",
		Help: "管理令牌保存在服务器上 livego 数据目录的 <code>admin.token</code> 文件中；如果配置了 " +
			"<code>admin_token</code>，则以该设置为准。JWT 用 <code>livego token manage</code> 生成。",
	}
}

// languageCookie is the cookie of the language that a person has chosen here or in the console: en or zh.
const languageCookie = "livego_language"

// loginTextOf returns the text in the language of lang=L in the query, which the browser keeps as its choice, of that
// choice, or of the browser, in this order.
func loginTextOf(w http.ResponseWriter, r *http.Request) loginText {
	chosen := r.URL.Query().Get("lang")
	if chosen == "en" || chosen == "zh" {
		http.SetCookie(w, &http.Cookie{
			Name: languageCookie, Value: chosen, Path: "/", MaxAge: 365 * 24 * 3600, SameSite: http.SameSiteStrictMode,
		})
	} else if c, err := r.Cookie(languageCookie); err == nil {
		chosen = c.Value
	}
	known := language.NewMatcher([]language.Tag{language.English, language.SimplifiedChinese, language.TraditionalChinese})
	if _, i := language.MatchStrings(known, chosen, r.Header.Get("Accept-Language")); i > 0 {
		return chineseLogin()
	}
	return englishLogin()
}

// writeLogin writes the login form.
func (s *server) writeLogin(w http.ResponseWriter, r *http.Request, d loginData) {
	ip, _ := netip.ParseAddr(hostname(r.Host))
	d.Text = loginTextOf(w, r)
	d.pageData = pageData{CSS: s.page.css, Icon: s.page.icon, Version: s.Version}
	d.Root = "./" + strings.Repeat("../", strings.Count(r.URL.Path, "/")-1)
	d.Plain = scheme(r) == "http" && hostname(r.Host) != "localhost" && !ip.IsLoopback()
	s.writePage(w, r, s.page.login, http.StatusForbidden, d)
}

// serveLogin opens a session for the credential in a form, and redirects to the page that showed
// the form.
func (s *server) serveLogin(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead { // a page that is reloaded after a failure
		redirect(w, "/")
		return
	}
	args, err := s.form(w, r)
	if err != nil {
		writeError(w, r, err)
		return
	}
	next := args.Get("next")
	if !isLoginTarget(next) {
		next = "/"
	}
	session, err := s.Auth().Login(r, strings.TrimSpace(args.Get("credential")))
	if err != nil {
		s.logRefusal(r, err)
		d := loginData{Next: next, Wrong: errors.Is(err, auth.ErrInvalidCredential)}
		if !d.Wrong {
			d.Error = domain.Reason(err)
		}
		s.writeLogin(w, r, d)
		return
	}
	s.Log.Info("operator logged in", "role", session.Rights.String(), "remote", r.RemoteAddr)
	s.setCookie(w, r, session.ID, time.Until(session.Expires))
	redirect(w, next)
}

// redirect redirects a browser from /login or /logout to a path of this server. The location is
// relative, because a proxy may serve this below a path prefix.
func redirect(w http.ResponseWriter, path string) {
	w.Header().Set("Location", "."+(&url.URL{Path: path}).EscapedPath())
	w.WriteHeader(http.StatusSeeOther)
}

// serveLogout ends the session of the request.
func (s *server) serveLogout(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		redirect(w, "/")
		return
	}
	args, err := s.form(w, r)
	if err == nil {
		err = s.Auth().Logout(r, args.Get("csrf_token"))
	}
	if err != nil {
		writeError(w, r, err)
		return
	}
	s.setCookie(w, r, "", -time.Second)
	redirect(w, "/")
}

// form returns the fields of a form sent by POST.
func (s *server) form(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "GET, HEAD, POST")
		return nil, errMethod
	}
	if r.URL.RawQuery != "" { // credentials do not belong in URLs
		return nil, domain.Errorf(domain.Invalid, "form fields must be in the body")
	}
	if err := limitBody(w, r); err != nil {
		return nil, err
	}
	args, err := arguments(r)
	if err != nil {
		return nil, err
	}
	for name := range args {
		if _, _, err := argument(args, name); err != nil {
			return nil, domain.Errorf(domain.Invalid, "duplicate form field")
		}
	}
	return args, nil
}

// setCookie sets the session cookie for a duration, or deletes it if keep is negative.
func (s *server) setCookie(w http.ResponseWriter, r *http.Request, value string, keep time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: auth.SessionCookie(r), Value: value, Path: "/", MaxAge: int(keep.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
		// A browser sends the origin of a form with the scheme that it used to reach the proxy.
		Secure: scheme(r) == "https" || strings.HasPrefix(r.Header.Get("Origin"), "https://"),
	})
}

// scheme returns the scheme of the browser's request. It trusts X-Forwarded-Proto of any client,
// because links and cookies affect only that client.
func scheme(r *http.Request) string {
	if r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		return "https"
	}
	return "http"
}

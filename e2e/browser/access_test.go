package browser

import (
	"os"
	"strings"
	"testing"

	"livego/e2e/harness"
)

// TestConsoleAccess logs in to the console by the admin token, by the JWT of a reader, and by one that expires. Pages
// of other ports of the same host, to which the browser sends the cookie of the console too, can neither frame it, nor
// read from it, nor change anything.
func TestConsoleAccess(t *testing.T) {
	needConsole(t)
	t.Parallel()
	const secret = "a secret that signs the JWTs of a test"
	s := harness.Start(t, harness.Options{NoRace: true, Flags: []string{"--jwt.secret=" + secret}})
	token := adminToken(t, s)
	var result struct{}
	runScript(t, 3*patience, &result, "access.mjs", s.API("/"), token, secret,
		os.Getenv("TEST_KEEP"))
	if log := s.Stdout() + s.Stderr(); strings.Contains(log, token) {
		t.Error("the token is in the log")
	}
}

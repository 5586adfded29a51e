package browser

import (
	"strings"
	"testing"

	"livego/e2e/harness"
)

// TestConsoleReconnects kills the server while the console is open, and starts it again on the same ports: the console
// says that it has lost the connection, keeps what it shows, and then shows what is new.
func TestConsoleReconnects(t *testing.T) {
	needBrowser(t)
	needWeb(t)
	t.Parallel()
	s := harness.Start(t, harness.Options{NoRace: true})
	s.Key("before")
	p := harness.StartProgram(t, "node", "reconnect.mjs", s.API("/"))
	p.AwaitStderr(patience, func(out string) bool { return strings.Contains(out, "shown\n") })
	s.Kill()
	p.AwaitStderr(patience, func(out string) bool { return strings.Contains(out, "lost\n") })
	next := harness.Start(t, harness.Options{NoRace: true, DataDir: s.DataDir, NoWait: true,
		Flags: []string{"--api_addr=" + s.Addr("api_addr")}})
	next.SetAddr("api_addr", s.Addr("api_addr"))
	next.AwaitReady()
	next.Key("after")
	p.WaitOK(patience)
}

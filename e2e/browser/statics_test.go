package browser

import (
	"os"
	"path/filepath"
	"testing"

	"livego/e2e/harness"
)

// TestStaticsSandbox opens a page below /statics/ that loads files in each way that pages do. All
// of them load, and the page cannot use the operator's HTTP.
func TestStaticsSandbox(t *testing.T) {
	needBrowser(t)
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"page.html": `<!doctype html>
			<link rel="stylesheet" href="style.css">
			<script>window.found = {}</script>
			<script src="classic.js"></script>
			<script type="module" src="module.js"></script>
			<body><p id="styled">x</p><p><a href="/">What is live</a></p>`,
		"style.css":  `#styled { width: 123px }`,
		"classic.js": `found.classic = true`,
		"part.js":    `export default true`,
		"data.json":  `{"value": 7}`,
		"module.js": `
			import part from './part.js'
			found.module = part
			const ask = (path, options) => fetch(path, options).then((r) => r.status, () => 'refused')
			found.data = (await (await fetch('data.json')).json()).value
			found.stat = await ask('/stat/livestat')
			found.get = await ask('/control/get?room=stolen')
			found.post = await ask('/control/get?room=stolen', { method: 'POST' })
			found.blind = await ask('/control/get?room=stolen', { mode: 'no-cors' })
			found.keys = await ask('/api/v1/keys')
			found.page = await ask('/')
			found.styled = getComputedStyle(document.getElementById('styled')).width
			found.origin = window.origin
			found.done = true`,
	} {
		path := filepath.Join(dir, "statics", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := harness.Start(t, harness.Options{NoRace: true, Dir: dir})
	var found map[string]any
	runScript(t, patience, &found, "statics.mjs", s.API("/statics/page.html"))
	for what, want := range map[string]any{
		"classic": true, "module": true, "data": 7.0, "stat": "refused", "styled": "123px", "origin": "null",
		// an opaque response
		"get": "refused", "post": "refused", "keys": "refused", "page": "refused", "blind": 0.0,
	} {
		if found[what] != want {
			t.Errorf("%s: %v, want %v", what, found[what], want)
		}
	}
	if e := s.Call("/control/delete?room=stolen"); e.Status != 404 {
		t.Error("the page created a room")
	}
}

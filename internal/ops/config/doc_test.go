package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/settings.md and docs/livego.example.yaml anew")

// TestSettingsDoc checks that the documents made from the table are up to date. Run it with -update to write them.
func TestSettingsDoc(t *testing.T) {
	for name, want := range map[string]string{"settings.md": settingsDoc(), "livego.example.yaml": exampleFile()} {
		path := filepath.Join("..", "..", "..", "docs", name)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is out of date (%v): go test ./internal/ops/config -run TestSettingsDoc -update", path, err)
		}
	}
}

// TestExample checks that the example is a good file as it is, and with every setting in it switched on.
func TestExample(t *testing.T) {
	all := exampleFile()
	for _, f := range fields() {
		if f.Default != "" {
			all = strings.Replace(all, "# "+name(f)+": ", name(f)+": ", 1)
		}
	}
	for _, block := range []string{"acme", "jwt", "token", "hook"} {
		all = strings.Replace(all, "# "+block+":", block+":", 1)
	}
	for _, text := range []string{exampleFile(), all} {
		c, _, err := Load(Sources{Flags: map[string]string{"config_file": writeSettings(t, text)}})
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		want := Default()
		want.ConfigFile = c.ConfigFile
		if c.String() != want.String() {
			t.Errorf("the example says\n%v\nthe defaults are\n%v", c, want)
		}
	}
}

// name returns a field's key within its block.
func name(f field) string { return f.Key[strings.LastIndexByte(f.Key, '.')+1:] }

func settingsDoc() string {
	var b strings.Builder
	b.WriteString(`# Settings

livego starts without any. A setting can be given, the first wins, as

1. a flag: ` + "`livego --rtmp_addr :1940`" + `;
2. an environment variable, ` + "`LIVEGO_`" + ` and the key in capitals, a dot as an underscore: ` + "`LIVEGO_RTMP_ADDR=:1940`, `LIVEGO_JWT_SECRET=…`" + `;
3. a line of the file ` + "`livego.yaml`" + ` (or the one that ` + "`config_file`" + ` names): ` + "`rtmp_addr: :1940`" + `. A dot in a key makes a block, as in
   the [example](livego.example.yaml), which has every setting with its default.

Durations are written ` + "`10s`, `500ms`, `2m`" + `; a plain number is seconds. Sizes are ` + "`8MiB`" + `; a plain number is bytes. Lists are
YAML lists in the file, and separated by commas elsewhere. An unknown key, a value of the wrong type and an address that is none stop
the start with the place of the mistake: ` + "`livego check-config`" + ` tells without starting.
`)
	b.WriteString(secretsDoc())
	group := ""
	for _, f := range fields() {
		if f.Group != group {
			group = f.Group
			fmt.Fprintf(&b, "\n## %s\n\n", group)
			b.WriteString("| key | default | what it does |\n|---|---|---|\n")
		}
		def := ""
		if f.Default != "" {
			def = "`" + f.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s%s |\n", f.Key, def, f.Help, limits(f))
	}
	b.WriteString(`
## Apps

` + "`server`" + ` is a list, in the file only: the first parts of the addresses of streams. Without it there is one app, ` + "`live`" + `. A switch that an
entry does not name is true.

| key | default | what it does |
|---|---|---|
| ` + "`appname` | | The name, as in `rtmp://host/appname/…`. Required. |\n" +
		"| `live` | `true` | Publish and play. |\n" +
		"| `hls` | `true` | Viewers by HLS; without it they get 404. |\n" +
		"| `flv` | `true` | Viewers by HTTP-FLV; without it they get 404. |\n" +
		"| `api` | `true` | Relays of this app by the operator's HTTP; without it 403. |\n" +
		"| `static_push` | | A list of URLs, `rtmp://host/app` or rtmps: each stream of the app is pushed to each, with a " +
		"slash and the room behind it. |\n")
	return b.String()
}

// secretsDoc tells how to keep secrets out of the list of processes and out of the file.
func secretsDoc() string {
	var keys []string
	for _, f := range fields() {
		if f.secret != "" {
			keys = append(keys, "`"+f.Key+"`")
		}
	}
	return `
## Secrets

Every user of a machine can read the flags of its processes, so livego warns about a secret in a flag. Keep a secret in
a file instead. There are two ways to name it:

- An environment variable with ` + "`_FILE`" + ` behind the name: ` + "`LIVEGO_JWT_SECRET_FILE=/run/secrets/jwt`" + `, as Docker and
  Kubernetes mount secrets.
- A systemd credential with the name of the setting: ` + "`LoadCredential=jwt.secret:/etc/livego/jwt`" + ` in the unit. livego
  finds it in ` + "`$CREDENTIALS_DIRECTORY`" + `.

The file holds one line. A line end behind it does not count. Both ways count as environment variables: a flag overrides
them, and they override ` + "`livego.yaml`" + `. The settings that can come from a file are
` + strings.Join(keys, ", ") + `.
`
}

// limits says in a sentence what a setting may be.
func limits(f field) string {
	switch {
	case f.oneof != nil:
		return " One of `" + strings.Join(f.oneof, "`, `") + "`."
	case f.min != "" && f.max != "":
		return fmt.Sprintf(" `%s` to `%s`.", f.min, f.max)
	case f.max != "":
		return fmt.Sprintf(" At most `%s`.", f.max)
	case f.min != "" && f.min != "0":
		return fmt.Sprintf(" At least `%s`.", f.min)
	}
	return ""
}

func exampleFile() string {
	var b strings.Builder
	b.WriteString("# Settings of livego with their defaults: copy this file to livego.yaml and take the # off what you " +
		"change.\n")
	group, block := "", ""
	for _, f := range fields() {
		if f.Key == "config_file" {
			continue
		}
		if f.Group != group {
			group = f.Group
			fmt.Fprintf(&b, "\n# --- %s ---\n", group)
		}
		parent, _, _ := strings.Cut(f.Key, ".")
		indent := ""
		if parent != f.Key {
			indent = "  "
			if parent != block {
				fmt.Fprintf(&b, "\n# %s:", parent)
			}
			block = parent
		}
		fmt.Fprintf(&b, "\n%s# %s\n%s# %s: %s\n", indent, f.Help, indent, name(f), exampleValue(f))
	}
	b.WriteString("\n# --- Apps ---\n\n# The first parts of the addresses of streams.\nserver:\n- appname: live\n  " +
		"live: true\n  hls: true\n  flv: true\n  api: true\n  # static_push: [\"rtmp://example.org/live\"]\n")
	return b.String()
}

func exampleValue(f field) string {
	switch {
	case f.Values == "a list":
		return "[]"
	case f.Default == "" || strings.HasPrefix(f.Default, ":"):
		return fmt.Sprintf("%q", f.Default)
	}
	return f.Default
}

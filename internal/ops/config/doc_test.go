package config

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

var update = flag.Bool("update", false, "write docs/settings.md and docs/livego.example.yaml")

// TestSettingsDoc checks that the generated documents are up to date. Run it with -update to write
// them.
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

// TestSettingsChinese checks that the console has a Chinese text for each group of settings and for each help text as
// it is now: the English text is the key.
func TestSettingsChinese(t *testing.T) {
	const path = "../../../web/src/console/text/settings.zh.json"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var chinese map[string]string
	if err := json.Unmarshal(data, &chinese); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	used := map[string]bool{}
	for _, s := range Settings() {
		for _, text := range []string{s.Group, s.Help} {
			used[text] = true
			if _, ok := chinese[text]; !ok {
				t.Errorf("%s: write a Chinese text for %q, which is new or has changed: %q", path, s.Key, text)
			}
		}
	}
	for english, text := range chinese {
		if !used[english] {
			t.Errorf("%s: no setting has the text %q: delete it", path, english)
		}
		isHan := func(r rune) bool { return unicode.Is(unicode.Han, r) }
		if text != english && !strings.ContainsFunc(text, isHan) {
			t.Errorf("%s: %q is not Chinese", path, text)
		}
	}
}

// TestExample checks that the example file is valid, as it is and with every setting uncommented.
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
		c, _, err := loadConfig(Sources{Flags: map[string]string{"config_file": writeSettings(t, text)}})
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

// name returns the key of a field within its block.
func name(f field) string { return f.Key[strings.LastIndexByte(f.Key, '.')+1:] }

func settingsDoc() string {
	var b strings.Builder
	b.WriteString(markdown(`# Settings

This page lists every setting of livego with its default. All settings are optional. livego reads them from four
sources; the first that has a setting wins:

1. A flag: ''livego --rtmp_addr :1940''.
2. An environment variable, which is ''LIVEGO_'' and the key in capitals, with an underscore for each dot:
   ''LIVEGO_RTMP_ADDR=:1940'', ''LIVEGO_JWT_SECRET=…''.
3. A change through the API, which is stored in ''data_dir'': see [operating](operating.md#settings-through-the-api).
4. A line of the file ''livego.yaml'', or of the file that ''config_file'' names: ''rtmp_addr: :1940''. A dot in a key
   stands for a block, as in the [example](livego.example.yaml), which has every setting with its default.

A duration is written as ''10s'', ''500ms'' or ''2m''; a plain number is seconds. A size is written as ''8MiB''; a plain
number is bytes. A list is a YAML list in the file, and separated by commas elsewhere. An unknown key, a value of the
wrong type or an invalid address stops the start with an error that names its place. ''livego check-config'' checks the
settings without starting the server.

A deprecated name of a setting still works in flags, variables and the file, and livego logs ''setting is deprecated''
at the start. It is an error to set both names.
`))
	b.WriteString(secretsDoc())
	b.WriteString(reloadDoc())
	group := ""
	for _, f := range fields() {
		if f.Group != group {
			group = f.Group
			fmt.Fprintf(&b, "\n## %s\n\n", group)
			b.WriteString("| key | default | reload | description |\n|---|---|---|---|\n")
		}
		def := ""
		if f.Default != "" {
			def = "`" + f.Default + "`"
		}
		old := ""
		if f.Old != "" {
			old = " Deprecated name: `" + f.Old + "`."
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s%s%s |\n", f.Key, def, f.Reload, f.Help, limits(f), old)
	}
	b.WriteString(markdown(`
## Apps

''server'' is a list of apps, in the file only. An app is the first part of a stream's address. Without the list there
is one app, ''live''. A changed list takes effect when the settings are reloaded.

| key | default | description |
|---|---|---|
| ''appname'' | | The name of the app, as in ''rtmp://host/appname/…''. Required. |
| ''live'' | ''true'' | Accept publishers and viewers. |
| ''hls'' | ''true'' | Serve viewers by HLS. If false, they get 404. |
| ''flv'' | ''true'' | Serve viewers by HTTP-FLV. If false, they get 404. |
| ''api'' | ''true'' | Allow relays of this app by the operator's HTTP. If false, it returns 403. |
| ''static_push'' | | A list of URLs, ''rtmp://host/app'' or ''rtmps://host/app''. ` +
		`Each stream of the app is pushed to each URL, followed by a slash and the room. |
`))
	return b.String()
}

// secretsDoc returns the section on secrets in files.
func secretsDoc() string {
	var keys []string
	for _, f := range fields() {
		if f.secret != "" {
			keys = append(keys, "`"+f.Key+"`")
		}
	}
	return markdown(`
## Secrets

Every user of a machine can read the flags of its processes, so livego warns about a secret in a flag. Keep a secret in
a file instead. There are two ways to name the file:

- An environment variable with ''_FILE'' after its name: ''LIVEGO_JWT_SECRET_FILE=/run/secrets/jwt'', as Docker and
  Kubernetes mount secrets.
- A systemd credential with the name of the setting: ''LoadCredential=jwt.secret:/etc/livego/jwt'' in the unit. livego
  finds it in ''$CREDENTIALS_DIRECTORY''.

The file has one line, with or without a line break at its end. Both ways count as environment variables: a flag takes
precedence over them, and they take precedence over ''livego.yaml''. These settings can be read from a file:
` + strings.Join(keys, ", ") + `.
`)
}

// reloadDoc returns the section on changes in a running server.
func reloadDoc() string {
	var keys []string
	for _, f := range fields() {
		if f.Writer == WriterOperate {
			keys = append(keys, "`"+f.Key+"`")
		}
	}
	return markdown(`
## Changes in a running server

A running server loads its settings again by ''SIGHUP'', ''POST /api/v1/config/reload'' or a changed file:
[operating](operating.md#reload) says how. The column "reload" says when a changed value takes effect:

| reload | takes effect |
|---|---|
| ''live'' | At once. |
| ''new connections'' | For connections that are opened later. |
| ''new streams'' | For streams that start later, and those whose encoder comes back after their end. |
| ''restart'' | After a restart of the server. Until then the old value stays, and the answer and the log name it. |

Through the API, the role ''operate'' may change these settings: ` + strings.Join(keys, ", ") + `.

All others need the role ''admin''. ''config_file'' and ''data_dir'' cannot be changed through the API.
`)
}

// markdown returns text with a backtick, which a raw string cannot contain, for each ”.
func markdown(text string) string { return strings.ReplaceAll(text, "''", "`") }

// limits returns a sentence with the allowed values of a setting.
func limits(f field) string {
	switch {
	case f.OneOf != nil:
		return " One of `" + strings.Join(f.OneOf, "`, `") + "`."
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
	case f.Values == "a list" && f.Default == "":
		return "[]"
	case f.Values == "a list":
		return fmt.Sprintf("[%q]", f.Default)
	case f.Default == "" || strings.HasPrefix(f.Default, ":"):
		return fmt.Sprintf("%q", f.Default)
	}
	return f.Default
}

//go:build linux

// Package deploy tests the packages and the image, as far as they can be tested without a Docker
// engine: scripts/check runs it with the tools that build them.
package deploy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
)

const root = "../.."

// TestMain builds livego.
func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// tool returns the path of a tool of tools/go.mod, or skips the test.
func tool(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("DEPLOY_TOOLS")
	if dir == "" {
		t.Skip("MISSING TOOLS: DEPLOY_TOOLS is not set; this test checks NOTHING here: scripts/check sets it")
	}
	return filepath.Join(dir, name)
}

// run runs a command in the root of the repository and returns its output.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	return runIn(t, root, env, name, args...)
}

// runIn runs a command in a directory and returns its output.
func runIn(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out, &errs)
	}
	return string(out)
}

// copySources copies what the repository has, without what is built and installed in it, to a new directory.
func copySources(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	run(t, nil, "sh", "-c", `git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$0"`, dir)
	return dir
}

// buildPackage builds a package of a version with the settings file in config, and returns its path.
func buildPackage(t *testing.T, packager, version, config string) string {
	t.Helper()
	nfpm, dir := tool(t, "nfpm"), t.TempDir()
	stage := filepath.Join(dir, "stage")
	if err := os.MkdirAll(filepath.Join(stage, "completion"), 0o755); err != nil {
		t.Fatal(err)
	}
	livego, err := filepath.Abs(harness.Binary(t, true))
	if err != nil {
		t.Fatal(err)
	}
	run(t, nil, "cp", livego, stage+"/livego")
	for _, shell := range []string{"bash", "zsh", "fish"} {
		write(t, filepath.Join(stage, "completion", "livego."+shell), run(t, nil, livego, "completion", shell))
	}
	write(t, filepath.Join(stage, "livego.1"), run(t, nil, livego, "man"))
	run(t, nil, "gzip", "-n", filepath.Join(stage, "livego.1"))
	description := read(t, "deploy/nfpm.yaml")
	if config != "" {
		write(t, filepath.Join(dir, "livego.yaml"), config)
		description = strings.ReplaceAll(description, "src: deploy/livego.yaml", "src: "+dir+"/livego.yaml")
	}
	write(t, filepath.Join(dir, "nfpm.yaml"), description)
	file := filepath.Join(dir, "package."+packager)
	run(t, []string{"STAGE=" + stage, "GOARCH=" + runtime.GOARCH, "VERSION=" + version}, nfpm, "package",
		"-f", filepath.Join(dir, "nfpm.yaml"), "-p", packager, "-t", file)
	return file
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestDebianPackage boots systemd on a copy of this machine, and installs, upgrades, removes and
// purges the package there: see testdata/steps.sh. It runs the commands of docs/install.md too.
func TestDebianPackage(t *testing.T) {
	t.Parallel()
	harness.NeedRights(t, "unshare", "--mount", "--net", "true")
	harness.Need(t, "ffmpeg", "systemctl", "systemd-analyze", "dpkg", "setpriv", "curl", "man")
	old := buildPackage(t, "deb", "1.0.0", "")
	next := buildPackage(t, "deb", "1.0.1", read(t, "deploy/livego.yaml")+"# new version\n")
	dir := t.TempDir()
	for name, from := range map[string]string{"old.deb": old, "new.deb": next, "steps.sh": "testdata/steps.sh"} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(text))
	}
	if _, err := os.Stat(filepath.Join(root, "web/dist/files/console.html")); err == nil || os.Getenv("CI") == "true" {
		write(t, filepath.Join(dir, "player"), "")
	}
	commands := regexp.MustCompile("(?ms)^<!-- test: package -->\n```sh\n(.*?)^```").
		FindAllStringSubmatch(read(t, "docs/install.md"), -1)
	if len(commands) < 5 {
		t.Fatalf("%d commands in docs/install.md", len(commands))
	}
	var install strings.Builder
	for _, c := range commands {
		install.WriteString(strings.ReplaceAll(c[1], "amd64", "*"))
	}
	write(t, filepath.Join(dir, "install.sh"), install.String())
	out, err := exec.CommandContext(t.Context(), "testdata/machine.sh", dir).CombinedOutput()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		t.Errorf("%v\n%s%s", err, out, log[max(0, len(log)-8<<10):])
	}
}

// TestRPMPackage installs the package into an empty directory and removes it again, without its
// scripts, which must be valid.
func TestRPMPackage(t *testing.T) {
	t.Parallel()
	file := buildPackage(t, "rpm", "1.0.0", "")
	harness.Need(t, "rpm")
	dir := t.TempDir()
	rpm := func(args ...string) string {
		return run(t, nil, "rpm", append([]string{"--root", dir}, args...)...)
	}
	harness.NeedRights(t, "true")
	rpm("-i", "--nodeps", "--noscripts", file)
	for _, name := range []string{"usr/bin/livego", "etc/livego/livego.yaml", "usr/lib/systemd/system/livego.service",
		"usr/lib/systemd/system/livego.socket", "usr/share/man/man1/livego.1.gz", "usr/share/zsh/site-functions/_livego",
		"usr/share/livego/prometheus/livego.rules.yml", "usr/share/livego/grafana/livego.json"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if got := rpm("-q", "--configfiles", "livego"); got != "/etc/livego/livego.yaml\n" {
		t.Errorf("configuration files: %s", got)
	}
	rpm("-e", "--nodeps", "--noscripts", "livego")
	if _, err := os.Stat(filepath.Join(dir, "usr/bin/livego")); err == nil {
		t.Error("the binary is still there after the removal")
	}
	for _, script := range []string{"pre", "post", "preun", "postun"} {
		run(t, nil, "sh", "-n", "deploy/rpm/"+script)
	}
}

// An instruction is a line of the Dockerfile, as dockerlint prints it.
type instruction struct {
	Stage, Name, From string
	Args              []string
	Shell             bool
}

// instructions returns the Dockerfile, which must have no problems.
func instructions(t *testing.T) (list []instruction) {
	t.Helper()
	for line := range strings.Lines(run(t, nil, tool(t, "dockerlint"), "deploy/Dockerfile")) {
		var i instruction
		if err := json.Unmarshal([]byte(line), &i); err != nil {
			t.Fatal(err)
		}
		list = append(list, i)
	}
	return list
}

// TestImage builds the stages of the Dockerfile by hand: it runs the commands of the first stages, copies
// the result into an empty directory, and runs the entry point and the health check there as the user
// of the image with a read-only file system, in a network of its own.
func TestImage(t *testing.T) {
	t.Parallel()
	harness.NeedRights(t, "unshare", "--mount", "--net", "true")
	harness.Need(t, "ip", "curl", "npm")
	src := copySources(t)
	out := filepath.Join(t.TempDir(), "out")
	var env []string
	var entry, health []string
	var user, data string
	for _, i := range instructions(t) {
		switch {
		case i.Name == "RUN" && (i.Stage == "build" || i.Stage == "web"):
			if !i.Shell || len(i.Args) != 1 {
				t.Fatalf("%+v: this test runs shell commands only", i)
			}
			command := strings.ReplaceAll(i.Args[0], "/out/", out+"/")
			runIn(t, src, []string{"GOFLAGS=-buildvcs=false"}, "sh", "-c", command)
		case i.Name == "ENV":
			for pair := range slices.Chunk(i.Args, 2) {
				env = append(env, pair[0]+"="+pair[1])
			}
		case i.Name == "COPY" && i.Stage == "build" && i.From != "": // from src to src
			if i.From != "web" || !slices.Equal(i.Args, []string{"/src/web/dist/files", "web/dist/files"}) {
				t.Fatalf("%+v: this test builds the player where the program is built", i)
			}
		case i.Name == "COPY" && i.Stage != "build" && i.Stage != "web":
			if i.From != "build" || !slices.Equal(i.Args, []string{"/out/", "/"}) {
				t.Fatalf("%+v: this test copies one directory", i)
			}
		case i.Name == "USER":
			user = i.Args[0]
		case i.Name == "VOLUME":
			data = i.Args[0]
		case i.Name == "HEALTHCHECK":
			health = i.Args[1:] // after CMD
		case i.Name == "ENTRYPOINT":
			entry = i.Args
		}
	}
	uid, _, _ := strings.Cut(user, ":")
	if uid == "" || uid == "0" {
		t.Fatalf("the image runs as user %q", user)
	}
	command := func(args []string) string {
		return "env -i " + strings.Join(env, " ") + " /usr/sbin/chroot --userspec=" + user + " " + out + " " +
			strings.Join(args, " ")
	}
	script := `set -e
		ip link set lo up
		mount --bind "` + out + `" "` + out + `"
		mount --bind "` + out + data + `" "` + out + data + `"
		mount -o remount,bind,ro "` + out + `"
		` + command(entry) + ` & server=$!
		for try in $(seq 100); do
			` + command(health) + ` && break
			[ $try != 100 ]
			sleep 0.1
		done
		[ "$(stat -c %u /proc/$server)" = ` + uid + ` ]
		[ "$(curl -s -o /dev/null -w '%{http_code}' http://localhost:7002/live/movie.m3u8)" = 404 ]
		curl -s http://localhost:7001/live/movie | grep -q /.livego/watch.js
		curl -sf -o /dev/null http://localhost:7001/.livego/player.js
		curl -s http://localhost:8090/ | grep -q /.livego/console.js
		kill $server
		wait $server
		! ` + command(health)
	log := run(t, nil, "unshare", "--mount", "--net", "sh", "-c", script)
	if !strings.HasSuffix(log, "ready\n") {
		t.Errorf("the health check prints %q", log)
	}
	if _, err := os.Stat(filepath.Join(out, data, "livego.db")); err != nil {
		t.Errorf("the data directory of the image: %v", err)
	}
}

// TestCompose checks the compose file as docker compose does, that its secrets are required, and that
// every port that it publishes to other machines is meant to be.
func TestCompose(t *testing.T) {
	t.Parallel()
	lint := tool(t, "dockerlint")
	if out, err := exec.Command(lint, root+"/deploy/compose.yaml").CombinedOutput(); err == nil ||
		!strings.Contains(string(out), "LIVEGO_ADMIN_TOKEN") {
		t.Errorf("without secrets: %v, %s", err, out)
	}
	text := run(t, []string{"LIVEGO_ADMIN_TOKEN=0123456789abcdef", "GRAFANA_PASSWORD=x"}, lint, "deploy/compose.yaml")
	var project struct {
		Services map[string]struct {
			Ports []struct {
				HostIP    string `json:"host_ip"`
				Published string
			}
			Environment map[string]string
		}
	}
	if err := json.NewDecoder(bufio.NewReader(strings.NewReader(text))).Decode(&project); err != nil {
		t.Fatal(err)
	}
	var public []string
	for _, s := range project.Services {
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				public = append(public, p.Published)
			}
		}
	}
	if slices.Sort(public); !slices.Equal(public, []string{"1935", "7001", "7002"}) {
		t.Errorf("ports that are open to other machines: %q", public)
	}
	var env []string
	for key, value := range project.Services["livego"].Environment {
		env = append(env, key+"="+value)
	}
	p := harness.Livego(t, t.TempDir(), env, "check-config")
	if p.WaitOK(10 * time.Second); strings.Contains(p.Stderr(), "warning") {
		t.Errorf("the settings of the container: %s", p.Stderr())
	}
}

// TestReleaseNeedsNode starts a release on a machine without Node: it fails before anything is built.
func TestReleaseNeedsNode(t *testing.T) {
	t.Parallel()
	src := copySources(t)
	runIn(t, src, nil, "git", "init", "-q")
	runIn(t, src, nil, "git", "-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "-q", "--allow-empty",
		"-m", "x")
	cmd := exec.CommandContext(t.Context(), "scripts/release")
	cmd.Dir, cmd.Env = src, append(os.Environ(), "PATH="+harness.PathWithout(t, "npm", "node"))
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Node is not installed") ||
		!strings.Contains(string(out), "FAIL  player and console") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(src, "dist")); err == nil {
		t.Error("a release was built")
	}
}

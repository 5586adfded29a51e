// Dockerlint checks a Dockerfile by the rules of docker build --check, and a compose file by those of
// docker compose config, without a Docker engine and without a registry. It prints what is wrong; or
// else the instructions of the Dockerfile as JSON, one a line, for a test that runs them by hand, and
// the project of the compose file.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/opencontainers/go-digest"
)

// An Instruction is a line of a stage.
type Instruction struct {
	Stage string   `json:"stage"`          // its name, or its image if it has none
	Name  string   `json:"name"`           // in lower case
	Args  []string `json:"args,omitempty"` // of RUN, ENTRYPOINT and HEALTHCHECK the command; of ENV key, value
	From  string   `json:"from,omitempty"` // of COPY: the stage
	Shell bool     `json:"shell,omitempty"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dockerlint:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: dockerlint FILE")
	}
	if strings.HasSuffix(args[0], ".yaml") {
		return checkCompose(args[0])
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	source := llb.NewSourceMap(nil, args[0], "Dockerfile", text)
	source.Definition = new(llb.Definition)
	found, err := dockerfile2llb.DockerfileLint(context.Background(), text,
		dockerfile2llb.ConvertOpt{MetaResolver: anyImage{}, SourceMap: source})
	if err != nil {
		return err
	}
	if found.Error != nil {
		return fmt.Errorf("%s: %s", args[0], found.Error.Message)
	}
	for _, w := range found.Warnings {
		line := int32(0)
		if len(w.Location.Ranges) > 0 {
			line = w.Location.Ranges[0].Start.Line
		}
		fmt.Fprintf(os.Stderr, "%s:%d: %s: %s\n", args[0], line, w.RuleName, w.Detail)
	}
	if n := len(found.Warnings); n > 0 {
		return fmt.Errorf("%s: %d problems", args[0], n)
	}
	return print(text)
}

// checkCompose prints the project of a compose file as JSON. Each bind mount must exist.
func checkCompose(name string) error {
	ctx := context.Background()
	options, err := cli.NewProjectOptions([]string{name}, cli.WithOsEnv)
	if err != nil {
		return err
	}
	project, err := options.LoadProject(ctx)
	if err != nil {
		return err
	}
	for service, s := range project.Services {
		for _, v := range s.Volumes {
			if _, err := os.Stat(v.Source); v.Type == "bind" && err != nil {
				return fmt.Errorf("%s: service %s: %w", name, service, err)
			}
		}
	}
	text, err := project.MarshalJSON()
	if err == nil {
		_, err = fmt.Printf("%s\n", text)
	}
	return err
}

// print prints the instructions.
func print(text []byte) error {
	file, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return err
	}
	stages, _, err := instructions.Parse(file.AST, nil)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for _, s := range stages {
		stage := s.Name
		if stage == "" {
			stage = s.BaseName
		}
		for _, c := range s.Commands {
			i := Instruction{Stage: stage, Name: c.Name()}
			switch c := c.(type) {
			case *instructions.RunCommand:
				i.Args, i.Shell = c.CmdLine, c.PrependShell
			case *instructions.EntrypointCommand:
				i.Args, i.Shell = c.CmdLine, c.PrependShell
			case *instructions.HealthCheckCommand:
				i.Args = c.Health.Test
			case *instructions.CopyCommand:
				i.Args, i.From = append(c.SourcePaths, c.DestPath), c.From
			case *instructions.EnvCommand:
				for _, e := range c.Env {
					i.Args = append(i.Args, e.Key, e.Value)
				}
			case *instructions.ArgCommand:
				for _, a := range c.Args {
					i.Args = append(i.Args, a.Key, a.ValueString())
				}
			case *instructions.WorkdirCommand:
				i.Args = []string{c.Path}
			case *instructions.UserCommand:
				i.Args = []string{c.User}
			case *instructions.ExposeCommand:
				i.Args = c.Ports
			case *instructions.VolumeCommand:
				i.Args = c.Volumes
			}
			if err := out.Encode(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// anyImage is a registry in which every image exists.
type anyImage struct{}

// ResolveImageConfig implements llb.ImageMetaResolver.
func (anyImage) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte,
	error) {
	config := fmt.Sprintf(`{"os":"linux","architecture":%q,"config":{}}`, runtime.GOARCH)
	return ref, digest.FromString(ref), []byte(config), nil
}

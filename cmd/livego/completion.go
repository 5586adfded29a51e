package main

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"livego/internal/ops/config"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is shown by livego completion --help.
func (completionCmd) Help() string {
	return `Packages install the scripts. Otherwise, load one in the shell's startup file:

  bash: source <(livego completion bash)
  zsh:  source <(livego completion zsh)     # after compinit
  fish: livego completion fish | source`
}

// Run prints the script, which asks completeCmd.
func (c completionCmd) Run(e *env) error {
	script, err := completionScripts.ReadFile("completion/livego." + c.Shell)
	if err == nil {
		_, err = e.stdout.Write(script)
	}
	return err
}

//go:embed completion
var completionScripts embed.FS

// completeCmd completes a command line for the scripts of completionCmd.
type completeCmd struct {
	Words []string `arg:"" optional:"" help:"The words of the command line up to the cursor."`
}

// Run prints each completion of the last word: a tab separates its description.
func (c completeCmd) Run(e *env) error {
	for _, found := range complete(e.model, c.Words) {
		if _, err := fmt.Fprintf(e.stdout, "%s\t%s\n", found.value, found.help); err != nil {
			return err
		}
	}
	return nil
}

type completion struct{ value, help string }

// complete returns what the last of words can be. None means a file name, or anything else that only
// the user knows.
func complete(app *kong.Application, words []string) []completion {
	words = slices.Clone(words)
	if len(words) == 0 {
		words = []string{""}
	}
	// bash passes --flag=value as three words, and --flag= as two
	if last := len(words) - 1; words[last] == "=" {
		words[last] = ""
	}
	words = slices.DeleteFunc(words, func(w string) bool { return w == "=" })
	node := app.Node
	var awaiting *kong.Flag // the flag whose value comes next
	for _, w := range words[:len(words)-1] {
		switch name, hasValue := strings.CutPrefix(w, "--"); {
		case awaiting != nil:
			awaiting = nil
		case hasValue:
			if f := findFlag(node, name); f != nil && !f.IsBool() {
				awaiting = f
			}
		default:
			if child := findCommand(node, w); child != nil {
				node = child
			}
		}
	}
	word := words[len(words)-1]
	var found []completion
	name, _, inFlag := strings.Cut(word, "=")
	switch {
	case awaiting != nil:
		found = valuesOf(awaiting.Value, "")
	case inFlag:
		if f := findFlag(node, strings.TrimPrefix(name, "--")); f != nil {
			found = valuesOf(f.Value, name+"=")
		}
	case strings.HasPrefix(word, "-"):
		found = flagsOf(node)
	default:
		for _, child := range node.Children {
			if !child.Hidden {
				found = append(found, completion{child.Name, summary(child.Help)})
			}
		}
		for _, p := range node.Positional {
			found = append(found, valuesOf(p, "")...)
		}
	}
	return slices.DeleteFunc(found, func(c completion) bool { return !strings.HasPrefix(c.value, word) })
}

func findCommand(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name {
			return child
		}
	}
	return nil
}

// findFlag returns the flag of a command or of those above it.
func findFlag(node *kong.Node, name string) *kong.Flag {
	for _, group := range node.AllFlags(false) {
		for _, f := range group {
			if f.Name == strings.ReplaceAll(name, "-", "_") || f.Name == name {
				return f
			}
		}
	}
	return nil
}

// flagsOf returns the flags that the help of a command lists.
func flagsOf(node *kong.Node) (found []completion) {
	settings := node.Parent == nil || node.Name == "serve" || node.Name == "check-config"
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			if settings || !isSetting(f.Name) {
				found = append(found, completion{"--" + f.Name, summary(f.Help)})
			}
		}
	}
	return found
}

// valuesOf returns the values of a flag or an argument, if there is a list of them.
func valuesOf(v *kong.Value, prefix string) (found []completion) {
	values := settingValues(v.Name)
	if v.Enum != "" {
		values = v.EnumSlice()
	}
	for _, value := range values {
		found = append(found, completion{prefix + value, ""})
	}
	return found
}

func isSetting(name string) bool {
	return slices.ContainsFunc(config.Settings(), func(s config.Setting) bool { return s.Key == name })
}

// settingValues returns the values of a setting, if there is a list of them.
func settingValues(key string) []string {
	for _, s := range config.Settings() {
		if s.Key == key {
			return s.OneOf
		}
	}
	return nil
}

// summary returns the first sentence of a help text.
func summary(help string) string {
	first, _, _ := strings.Cut(help, ". ")
	return strings.TrimSuffix(first, ".")
}

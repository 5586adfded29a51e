package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"livego/internal/app"
	"livego/internal/ops/config"
)

type manCmd struct{}

// Run prints the manual page livego(1), for man(7).
func (manCmd) Run(e *env) error {
	var p manPage
	p.line(`.TH LIVEGO 1 "" "livego %s" "User Commands"`, app.Version())
	p.section("NAME", "livego - a live streaming server")
	p.line(".SH SYNOPSIS\n.B livego\n[\\fIcommand\\fR] [\\fIflags\\fR]")
	p.section("DESCRIPTION", quickStart)
	p.line(".SH COMMANDS")
	for _, command := range e.model.Leaves(true) {
		p.command(command)
	}
	p.line(".SH SETTINGS")
	p.text("Each setting is a flag, an environment variable or a line of the settings file. A flag has precedence " +
		"over the environment, and the environment over the file.")
	group := ""
	for _, s := range config.Settings() {
		if s.Group != group {
			group = s.Group
			p.line(".SS %s", escapeRoff(group))
		}
		p.setting(s)
	}
	p.line(".SH SIGNALS\n.TP\n.B SIGTERM\\fR, \\fBSIGINT\nA graceful shutdown. A second signal stops the server at once.")
	p.line(".SH EXIT STATUS\n.TP\n.B 0\nThe server was stopped, or the command succeeded.\n.TP\n.B 1\nThe server or the " +
		"command failed.\n.TP\n.B 2\nThe arguments or the settings are invalid.")
	_, err := e.stdout.Write([]byte(p.String()))
	return err
}

// A manPage is a text for man(7).
type manPage struct{ strings.Builder }

func (p *manPage) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// text adds paragraphs. Indented lines stay as they are.
func (p *manPage) text(text string) {
	literal := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if indented := strings.HasPrefix(line, " "); indented != literal && line != "" {
			literal = indented
			p.line("%s", map[bool]string{true: ".PP\n.nf", false: ".fi"}[indented])
		}
		if line == "" {
			line = ".PP"
		} else {
			line = escapeRoff(line)
		}
		p.line("%s", line)
	}
	if literal {
		p.line(".fi")
	}
}

func (p *manPage) section(title, text string) {
	p.line(".SH %s", title)
	p.text(text)
}

// command adds a command with its own flags.
func (p *manPage) command(c *kong.Node) {
	p.line(".SS %s", escapeRoff(strings.TrimSuffix(c.Summary(), " [flags]")))
	p.text(c.Help)
	if c.Detail != "" {
		p.line(".PP")
		p.text(c.Detail)
	}
	for _, f := range c.Flags {
		if f.Hidden {
			continue
		}
		p.line(".TP\n.B %s", escapeRoff(f.String()))
		p.text(f.Help)
	}
}

func (p *manPage) setting(s config.Setting) {
	p.line(".TP\n.B \\-\\-%s\\fR, \\fB%s", escapeRoff(s.Key), escapeRoff(s.Env))
	text := s.Help
	if s.Default != "" {
		text += " Default: " + s.Default + "."
	}
	if s.OneOf != nil {
		text += " Values: " + strings.Join(s.OneOf, ", ") + "."
	}
	p.text(text)
}

// escapeRoff returns text without characters that roff(7) interprets.
func escapeRoff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v3"

	"presence/cmd/internal/shell"
)

// completionScripts are the scripts that completion prints, with @PROGRAM@ for the path of
// this program. The library's own scripts would run the line that is being completed.
//
//go:embed completion
var completionScripts embed.FS

var completionShells = []string{"bash", "zsh", "fish"}

func (a *app) completion() *cli.Command {
	c := &cli.Command{
		Name:     "completion",
		Category: admins,
		Usage:    "print a completion script for bash, zsh or fish",
		Description: `It completes commands, flags and values: statuses, availabilities,
platforms, nats contexts and files. Nothing of the line is run for that, and
no server is asked. bash needs no other package for it.

Examples:
  presencectl completion fish > ~/.config/fish/completions/presencectl.fish
  source <(presencectl completion bash)
  source <(presencectl completion zsh)                    after compinit`,
		Action: func(ctx context.Context, cmd *cli.Command) error {
			return usageError(ctx, cmd, errors.New("name a shell: bash, zsh or fish"), true)
		},
	}
	for _, name := range completionShells {
		c.Commands = append(c.Commands, &cli.Command{
			Name: name, Usage: "print the script for " + name, ArgValidator: noArguments,
			Description: "Examples:\n  presencectl completion " + name,
			Action:      notJSON(func(_ context.Context, cmd *cli.Command) error { return printCompletion(cmd, name) }),
		})
	}
	return c
}

func printCompletion(cmd *cli.Command, name string) error {
	script, err := completionScripts.ReadFile("completion/presencectl." + name)
	if err != nil {
		return &failure{err}
	}
	program, err := os.Executable()
	if err != nil {
		program = "presencectl"
	}
	if _, err := cmd.Root().Writer.Write(bytes.ReplaceAll(script, []byte("@PROGRAM@"), []byte(shellQuoted(program, name)))); err != nil {
		return &failure{fmt.Errorf("writing the script: %w", err)}
	}
	return nil
}

// shellQuoted quotes a text for the shell of that name.
func shellQuoted(s, name string) string {
	if name == "fish" { // it escapes quotes and backslashes within quotes
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
	}
	return shell.Word(s)
}

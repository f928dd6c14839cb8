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

// completionCommand gives the library's command our scripts.
func completionCommand(c *cli.Command) {
	c.Hidden = false
	c.Usage = "print a completion script for bash, zsh or fish"
	c.Description = `It completes commands and flags. Nothing of the line is run for that.

Examples:
  source <(presencectl completion bash)
  source <(presencectl completion zsh)                    after compinit
  presencectl completion fish > ~/.config/fish/completions/presencectl.fish`
	c.Commands = nil
	for _, name := range completionShells {
		c.Commands = append(c.Commands, &cli.Command{
			Name: name, Usage: "print the script for " + name, ArgValidator: noArguments,
			Description: "Examples:\n  presencectl completion " + name,
			Action:      notJSON(func(_ context.Context, cmd *cli.Command) error { return printCompletion(cmd, name) }),
		})
	}
	c.Action = func(ctx context.Context, cmd *cli.Command) error {
		return usageError(ctx, cmd, errors.New("name a shell: bash, zsh or fish"), true)
	}
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

// complete suggests commands and flags, without the backquotes that mark the
// placeholders in the texts of flags.
func complete(ctx context.Context, cmd *cli.Command) {
	root, out := cmd.Root(), cmd.Root().Writer
	var b bytes.Buffer
	root.Writer = &b
	cli.DefaultCompleteWithFlags(ctx, cmd)
	root.Writer = out
	_, _ = out.Write(bytes.ReplaceAll(b.Bytes(), []byte("`"), nil))
}

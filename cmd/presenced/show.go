package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/urfave/cli/v3"
)

// commandConfig is the command that shows the configuration.
const commandConfig = "config"

// configCommand shows what is in force, and where it comes from. complete checks the configuration.
func configCommand(c *config, complete func(*cli.Command) error) *cli.Command {
	return &cli.Command{
		Name:            commandConfig,
		Usage:           "show all options, and where each value comes from",
		UsageText:       "presenced [options] config [--json]",
		Description:     "It shows what presenced would start with, by the same command line,\nenvironment and --env-file. Passwords in URLs are hidden.",
		HideHelpCommand: true,
		Flags:           []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as a list in JSON", Destination: &c.json}},
		OnUsageError:    func(_ context.Context, _ *cli.Command, err error, _ bool) error { return err },
		Action: func(_ context.Context, cmd *cli.Command) error {
			c.command = commandConfig
			return complete(cmd)
		},
	}
}

// showConfig writes all options, as a table or as JSON.
func showConfig(c config, stdout io.Writer) error {
	if c.json {
		type shown struct {
			Name   string `json:"name"`
			Value  string `json:"value"`
			Source string `json:"source"`
		}
		list := make([]shown, len(c.options))
		for i, o := range c.options {
			list[i] = shown{o.name, o.value, o.source}
		}
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		return e.Encode(list)
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tVALUE\tSOURCE")
	for _, o := range c.options {
		value := o.value
		if value == "" {
			value = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", o.name, value, o.source)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, x := range c.unheeded {
		fmt.Fprintln(stdout, "without effect: "+x)
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v3"

	"presence/cmd/internal/datadir"
	"presence/cmd/internal/layout"
	"presence/cmd/internal/natsurl"
	"presence/cmd/internal/semver"
	"presence/pkg/service/verify"
)

const (
	// readerKey is the file in presenced's data directory with a key to the journal, if
	// the NATS server is inside presenced.
	readerKey = "journal-reader.nk"
	// quietFor is how long it works before it says what it is doing.
	quietFor = 2 * time.Second
)

func (a *app) verify() *cli.Command {
	return &cli.Command{
		Name:     "verify",
		Category: operators,
		Usage:    "check every instance, the snapshots and the answers against the journal",
		Description: `Reads the snapshots and the journal itself, applies them, and compares the
result with the digests in the journal, with the state of every running
instance, and with the answers about a sample of users. It changes nothing,
and may run while the service works. If anything differs the exit code is 1,
and it says which instance, at which journal position, which users, and how.

It has to read the journal, which no client can. If the NATS server is inside
presenced, run it on the same machine as the same user: the key is in
presenced's data directory (--data). For a NATS server of yours give the
journal's account as presenced has it: --journal-creds, --journal-nkey or
--journal-url.

Examples:
  presencectl verify
  presencectl verify --data /var/lib/presenced --json | jq .differences
  presencectl verify --context operator --journal-creds journal.creds`,
		ArgValidator: noArguments,
		Flags: append(journalFlags(),
			&cli.Uint64SliceFlag{Name: "skip", Usage: "leave out the journal entry at `POSITION`, as presenced --skip does"},
			&cli.IntFlag{Name: "sample", Usage: "check the answers about this `NUMBER` of users, 0 for none", Value: verify.DefaultSample},
		),
		Action: a.connected(runVerify),
	}
}

// journalFlags say how to get into the journal's account.
func journalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "data", Usage: "data `DIRECTORY` of presenced (default: the same as presenced's)"},
		&cli.StringFlag{Name: "journal-creds", Usage: "credentials `FILE` of the journal's account"},
		&cli.StringFlag{Name: "journal-nkey", Usage: "nkey seed `FILE` of the journal's account"},
		&cli.StringFlag{Name: "journal-url", Usage: "`URLS` for the journal's account, with its user and password", HideDefault: true},
		&cli.BoolFlag{Name: "single-account", Usage: "the journal is in the clients' account"},
	}
}

func runVerify(ctx context.Context, cmd *cli.Command, c *conn) error {
	journal, err := c.dialJournal(cmd)
	if err != nil {
		return &failure{err}
	}
	if journal != c.nc {
		defer journal.Close()
	}
	sample := int(cmd.Int("sample"))
	if sample <= 0 {
		sample = -1
	}
	begun := time.Now()
	report, err := verify.Run(ctx, verify.Config{
		Clients: c.nc, Journal: journal, Prefix: c.prefix, Skip: cmd.Uint64Slice("skip"), Sample: sample, Timeout: c.timeout,
		Progress: func(what string) {
			if time.Since(begun) > quietFor {
				c.say("%s", what)
			}
		},
	})
	if err != nil {
		return err
	}
	if c.json {
		err = writeJSON(c.stdout, report)
	} else {
		err = writeReport(c.stdout, report)
	}
	if err == nil && !report.OK() {
		err = errTold
	}
	return err
}

// dialJournal connects to the journal's account.
func (c *conn) dialJournal(cmd *cli.Command, more ...nats.Option) (*nats.Conn, error) {
	if cmd.Bool("single-account") {
		return c.nc, nil
	}
	list, err := natsurl.Parse(c.urls)
	if err != nil {
		return nil, err
	}
	urls := natsurl.WithoutUsers(list) // the key to the journal is another user's
	opts := append(c.optionsOf(cmd, "presencectl "+cmd.Name), more...)
	by := "the credentials of --journal-url"
	switch creds, given := cmd.String("journal-creds"), cmd.String("journal-url"); {
	case creds != "":
		opts, by = append(opts, nats.UserCredentials(creds)), creds
	case given != "":
		if _, err := natsurl.Parse(given); err != nil {
			return nil, err
		}
		urls = given
	default:
		key, err := keyFile(cmd)
		if err != nil {
			return nil, err
		}
		opt, err := nats.NkeyOptionFromSeed(key)
		if err != nil {
			return nil, fmt.Errorf("reading the key to the journal from %s: %s", key, plain(err))
		}
		opts, by = append(opts, opt), key
	}
	nc, err := nats.Connect(urls, opts...)
	if errors.Is(err, nats.ErrAuthorization) {
		return nil, fmt.Errorf("the NATS server at %s refuses %s: does it belong to another presenced?", c.server, by)
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to the journal's account: %s", plain(err))
	}
	return nc, nil
}

// optionsOf are the options for a connection by other credentials than the command's own. The
// certificates are those of the flags.
func (c *conn) optionsOf(cmd *cli.Command, name string) []nats.Option {
	opts := []nats.Option{nats.Name(name), nats.Timeout(c.timeout)}
	if f := cmd.String("tlscert"); f != "" {
		opts = append(opts, nats.ClientCert(f, cmd.String("tlskey")))
	}
	if f := cmd.String("tlsca"); f != "" {
		opts = append(opts, nats.RootCAs(f))
	}
	return opts
}

// keyFile returns the file with the key to the journal.
func keyFile(cmd *cli.Command) (string, error) {
	if key := cmd.String("journal-nkey"); key != "" {
		return key, nil
	}
	dir := cmd.String("data")
	if dir == "" {
		var err error
		if dir, err = datadir.Default(); err != nil {
			return "", err
		}
	}
	key := filepath.Join(dir, readerKey)
	_, err := os.Stat(key)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("there is no key to the journal at %s: give --data if presenced runs on this machine with its NATS server inside, else --journal-creds, --journal-nkey, --journal-url or --single-account", key)
	case errors.Is(err, os.ErrPermission):
		return "", fmt.Errorf("the key to the journal at %s may not be read: run this as presenced's user", key)
	}
	return key, err
}

// writeReport writes a report for people.
func writeReport(w io.Writer, r *verify.Report) error {
	rows := [][]string{
		{"journal", fmt.Sprintf("applied from position %d to %d, %d digests in it compared (epoch %s)", r.From, r.To, r.Digests, r.Epoch)},
		{"snapshots", list(r.Snapshots)},
		{"users", fmt.Sprintf("%d, %d answers compared", r.Users, r.Answers)},
	}
	for _, i := range r.Instances {
		verdict := "the same"
		if !i.Same {
			verdict = "DIFFERENT"
		}
		rows = append(rows, []string{"instance", fmt.Sprintf("%s, version %s, at position %d: %s", instanceName(i.Writer), i.Version, i.Position, verdict)})
	}
	if err := writePage(w, facts(rows)); err != nil {
		return err
	}
	for _, n := range append(r.Notes, otherVersion(r)...) {
		fmt.Fprintln(w, layout.Wrap("note: "+n, "", "      "))
	}
	if r.OK() {
		_, err := fmt.Fprintln(w, "Everything is as the journal says.")
		return err
	}
	fmt.Fprintf(w, "\nNot as the journal says, %d:\n", len(r.Differences))
	for _, d := range r.Differences {
		writeDifference(w, &d)
	}
	return nil
}

// otherVersion warns of differences that may come from another version.
func otherVersion(r *verify.Report) (notes []string) {
	own := semver.Of(versionText())
	for _, i := range r.Instances {
		if !i.Same && i.Version != own {
			notes = append(notes, fmt.Sprintf("instance %s has version %s and this presencectl %s: their digests may differ although their states are the same. Ask again with a presencectl of that version", instanceName(i.Writer), i.Version, own))
		}
	}
	return notes
}

func writeDifference(w io.Writer, d *verify.Difference) {
	fmt.Fprintf(w, "- %s", printable(d.What))
	if d.Instance != "" {
		fmt.Fprintf(w, ", instance %s", instanceName(d.Instance))
	}
	if d.Position != 0 {
		fmt.Fprintf(w, ", as of position %d", d.Position)
	}
	fmt.Fprintln(w)
	for _, f := range d.Fields {
		fmt.Fprintf(w, "    %s is %s, by the journal %s\n", printable(f.Name), orNone(printable(f.Have)), orNone(printable(f.Journal)))
	}
}

func list(positions []uint64) string {
	switch len(positions) {
	case 0:
		return none
	case 1:
		return fmt.Sprintf("of position %d", positions[0])
	}
	return "of positions " + strings.Trim(fmt.Sprint(positions), "[]")
}

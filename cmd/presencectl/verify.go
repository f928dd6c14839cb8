package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v3"

	"presence/cmd/internal/layout"
	"presence/cmd/internal/semver"
	"presence/pkg/service/verify"
)

const (
	// readerKey is the file in presenced's data directory by which the journal
	// can be read, where the NATS server is inside presenced.
	readerKey = "journal-reader.nk"
	// quietFor is how long nothing is said of what is being done.
	quietFor = 2 * time.Second
)

func (a *app) verify() *cli.Command {
	return &cli.Command{
		Name:     "verify",
		Category: operators,
		Usage:    "check every instance, the snapshots and the answers against the journal",
		Description: `Reads the snapshots and the journal itself, applies them, and compares what
comes out with the digests in the journal, with what every running instance
holds, and with the answers about a sample of users. It changes nothing and
may be run while the service is at work. The exit code is 1 where anything is
off; then it says which instance, as of which journal position, which users,
and how they differ.

It has to read the journal, which no client can. Where the NATS server is
inside presenced, run it on the same machine as the same user: the key is in
presenced's data directory (--data). For a NATS server of yours give the
account of the journal as to presenced: --journal-creds, --journal-nkey, or
--journal-url.

Examples:
  presencectl verify
  presencectl verify --data /var/lib/presenced --json | jq .differences
  presencectl verify --server nats://10.0.0.5 --creds operator.creds --journal-creds journal.creds`,
		ArgValidator: noArguments,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data", Usage: "data `DIRECTORY` of presenced (default: that of presenced)"},
			&cli.StringFlag{Name: "journal-creds", Usage: "credentials `FILE` of the journal's account"},
			&cli.StringFlag{Name: "journal-nkey", Usage: "nkey seed `FILE` of the journal's account"},
			&cli.StringFlag{Name: "journal-url", Usage: "`URLS` for the journal's account, where its user and password are in the URL", HideDefault: true},
			&cli.BoolFlag{Name: "single-account", Usage: "the journal is in the clients' account"},
			&cli.Uint64SliceFlag{Name: "skip", Usage: "pass over the journal entry at `POSITION`, as every instance was told to"},
			&cli.IntFlag{Name: "sample", Usage: "check the answers about this `NUMBER` of users, 0 for none", Value: verify.DefaultSample},
		},
		Action: a.connected(runVerify),
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
func (c *conn) dialJournal(cmd *cli.Command) (*nats.Conn, error) {
	if cmd.Bool("single-account") {
		return c.nc, nil
	}
	urls, err := withoutUser(c.urls)
	if err != nil {
		return nil, err
	}
	opts := []nats.Option{nats.Name("presencectl verify"), nats.Timeout(c.timeout)}
	if f := cmd.String("tlscert"); f != "" {
		opts = append(opts, nats.ClientCert(f, cmd.String("tlskey")))
	}
	if f := cmd.String("tlsca"); f != "" {
		opts = append(opts, nats.RootCAs(f))
	}
	by := "the credentials of --journal-url"
	switch creds, given := cmd.String("journal-creds"), cmd.String("journal-url"); {
	case creds != "":
		opts, by = append(opts, nats.UserCredentials(creds)), creds
	case given != "":
		if _, err := hostsOf(given); err != nil {
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
		return nil, fmt.Errorf("the NATS server at %s refuses %s: is it of another presenced?", c.server, by)
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to the journal's account: %s", plain(err))
	}
	return nc, nil
}

// keyFile returns the file with the key to the journal.
func keyFile(cmd *cli.Command) (string, error) {
	if key := cmd.String("journal-nkey"); key != "" {
		return key, nil
	}
	dir, err := cmd.String("data"), error(nil)
	if dir == "" {
		if dir, err = defaultData(); err != nil {
			return "", err
		}
	}
	key := filepath.Join(dir, readerKey)
	_, err = os.Stat(key)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("there is no key to the journal at %s: give --data where presenced with its NATS server runs on this machine, else --journal-creds, --journal-nkey, --journal-url or --single-account", key)
	case errors.Is(err, os.ErrPermission):
		return "", fmt.Errorf("the key to the journal at %s may not be read: run this as presenced's user", key)
	}
	return key, err
}

// defaultData is where presenced keeps its data by default.
func defaultData() (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", errors.New("there is no home directory to look for presenced's data in: give --data")
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "presenced"), nil
}

// withoutUser returns a list of URLs without users and passwords: the key to the
// journal is another one's.
func withoutUser(urls string) (string, error) {
	var all []string
	for s := range strings.SplitSeq(urls, ",") {
		if s = strings.TrimSpace(s); !strings.Contains(s, "://") {
			s = "nats://" + s
		}
		u, err := url.Parse(s)
		if err != nil {
			return "", errors.New("the URL of the NATS server is not valid")
		}
		u.User = nil
		all = append(all, u.String())
	}
	return strings.Join(all, ","), nil
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

// otherVersion warns where what differs may be the versions.
func otherVersion(r *verify.Report) (notes []string) {
	own := semver.Of(versionText())
	for _, i := range r.Instances {
		if !i.Same && i.Version != own {
			notes = append(notes, fmt.Sprintf("instance %s has version %s and this presencectl %s: they may hold the same and write it down differently. Only presencectl of the same version tells", instanceName(i.Writer), i.Version, own))
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

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"presence/cmd/internal/backupfile"
	"presence/pkg/broker"
	"presence/pkg/service/backup"

	"github.com/nats-io/nats.go"
)

// quietFor is how long a command works before it says what it is doing.
const quietFor = 2 * time.Second

// runBackup backs up what a presenced that is stopped has stored.
func runBackup(ctx context.Context, cfg config, stdout, stderr io.Writer) error {
	if cfg.natsConfig == "" && !cfg.external() {
		if _, err := os.Stat(filepath.Join(cfg.data, "jetstream")); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is no journal in %s: give the --data of presenced", cfg.data)
		}
	}
	nats, err := enterStore(cfg, stderr)
	if errors.Is(err, broker.ErrInUse) {
		return fmt.Errorf("%w: while it runs use presencectl backup", err)
	}
	if err != nil {
		return err
	}
	defer nats.close()
	begun := time.Now()
	info, size, err := backupfile.Take(ctx, cfg.file, cfg.force, stdout, backup.Source{
		Journal: nats.journal, By: "presenced " + versionText(), Stream: journalStream, Skip: cfg.settings.Skip, Progress: say(stderr, begun),
	})
	if err != nil {
		return nats.refusedOr(err)
	}
	took := time.Since(begun).Round(10 * time.Millisecond)
	if cfg.file == backupfile.Stream {
		fmt.Fprintf(stderr, "presenced: wrote %d users as of journal position %d, %d bytes, in %v; not read back: presencectl backup --check does that\n", info.Users, info.Position, size, took)
		return nil
	}
	_, err = fmt.Fprintf(stdout, "%swrote     %s, %d bytes, in %v, and read it back\n", backupfile.Describe(info), cfg.file, size, took)
	return err
}

// runRestore makes a journal of a backup.
func runRestore(ctx context.Context, cfg config, stdin io.Reader, stdout, stderr io.Writer) error {
	if cfg.file != backupfile.Stream { // before a data directory is made
		f, err := backupfile.Open(cfg.file, stdin)
		if err != nil {
			return err
		}
		f.Close()
	}
	cfg.sync = syncInterval // it is made durable in the end
	nats, err := enterStore(cfg, stderr)
	if errors.Is(err, broker.ErrInUse) {
		return fmt.Errorf("%w: stop it, and restore into an empty directory", err)
	}
	if err != nil {
		return err
	}
	defer nats.close()
	begun := time.Now()
	info, err := backupfile.Restore(ctx, cfg.file, stdin, backup.Target{
		Journal: nats.journal, Stream: journalStream, Replicas: cfg.settings.Replicas, Progress: say(stderr, begun),
	})
	switch {
	case errors.Is(err, backup.ErrNotEmpty) && nats.broker != nil:
		return fmt.Errorf("%w: nothing was changed; move %s away, and restore into an empty directory", err, nats.broker.DataDir())
	case errors.Is(err, backup.ErrNotEmpty):
		return fmt.Errorf("%w: nothing was changed; with every presenced stopped remove the streams PRESENCE_JOURNAL, OBJ_PRESENCE_SNAPSHOTS and KV_PRESENCE_CONTACTS", err)
	case err != nil:
		return nats.refusedOr(err)
	}
	if nats.broker != nil {
		if err := makeDurable(nats); err != nil {
			return fmt.Errorf("what was restored may not survive a power loss: %w", err)
		}
	}
	_, err = fmt.Fprintf(stdout, "%srestored  in %v: start presenced now\n", backupfile.Describe(info), time.Since(begun).Round(10*time.Millisecond))
	return err
}

// makeDurable stops the server inside, and has the disk keep what it wrote.
func makeDurable(nats *connections) error {
	dir := nats.broker.DataDir()
	if err := os.Remove(nats.headFile()); err != nil && !errors.Is(err, fs.ErrNotExist) { // it is of another journal
		return err
	}
	nats.close()
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
}

// enterStore enters the journal's account alone. A server inside takes no clients.
func enterStore(cfg config, stderr io.Writer) (c *connections, err error) {
	log := cfg.logger(stderr, max(cfg.level, slog.LevelWarn))
	c = &connections{links: newLinks()}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if cfg.external() {
		if c.url, err = withoutUser(cfg.natsURL); err != nil {
			return c, usageError{err}
		}
		opts, err := tlsOptions(cfg)
		if err != nil {
			return c, err
		}
		return c, c.openJournal(cfg, log, opts...)
	}
	if c.broker, err = startPrivate(cfg, log); err != nil {
		return c, err
	}
	c.url = c.broker.ClientURL()
	if cfg.creds != "" { // the file has an operator
		return c, c.openJournal(cfg, log, c.broker.InProcess())
	}
	l := c.links.add(journalName, log)
	if c.journal, err = c.broker.Connect(broker.Journal, l.options()...); err == nil {
		c.links.made(l, c.journal)
	}
	return c, err
}

func startPrivate(cfg config, log *slog.Logger) (*broker.Broker, error) {
	if cfg.natsConfig == "" {
		return broker.Start(broker.Config{Private: true, DataDir: cfg.data, SyncAlways: cfg.sync == syncAlways, Prefix: cfg.settings.Prefix, Logger: log})
	}
	return broker.StartFile(broker.FileConfig{
		Private:        true,
		Path:           cfg.natsConfig,
		ClientsAccount: cfg.clientsAccount,
		JournalAccount: cfg.journalAccount,
		SingleAccount:  cfg.singleAccount,
		Insecure:       cfg.insecure,
		Credentials:    cfg.creds != "",
		Replicas:       cfg.settings.Replicas,
		Prefix:         cfg.settings.Prefix,
		Logger:         log,
	})
}

// refusedOr returns what the server has refused, if it has: then the question itself timed out.
func (c *connections) refusedOr(err error) error {
	if refused := c.journal.LastError(); errors.Is(refused, nats.ErrPermissionViolation) {
		return fmt.Errorf("the journal's credentials are not enough: %w: give those that presenced has", refused)
	}
	return c.withoutJetStream(err)
}

// say returns a function that says what is done next, once it has taken a while.
func say(stderr io.Writer, begun time.Time) func(string) {
	return func(what string) {
		if time.Since(begun) > quietFor {
			fmt.Fprintf(stderr, "presenced: %s\n", what)
		}
	}
}

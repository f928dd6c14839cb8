// Command presenced is the presence service: a NATS micro service that knows who is online,
// and the texts and availability that users have set.
//
//	presenced                                     # with a NATS server inside, on 127.0.0.1:4222
//	presenced --data /var/lib/presenced --log-format json
//	presenced --nats-config cluster.conf --replicas 3
//	presenced --nats-url nats://10.0.0.5 --creds app.creds --journal-creds journal.creds
//	presenced backup FILE --data /var/lib/presenced   # of a stopped one
//	presenced restore FILE --data /var/lib/presenced
//
// Every flag has an environment variable, PRESENCED_ and its name; --help shows
// them. When it serves, it says on stdout where, and tells systemd (Type=notify);
// the log is on stderr.
//
// SIGTERM and SIGINT end it gracefully: it takes no more requests, answers and
// announces what it accepted, closes its connections, stops its NATS server. A
// second signal ends it at once, which loses no acknowledged change. SIGHUP makes it
// read its files again, see live.
//
// Exit codes: 0 ended by a signal, 1 could not start or had to stop, 2 wrong
// usage or a configuration file that cannot be used. Errors are one line on stderr:
// with --log-format json a line of the log, unless the command line itself is wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"presence/pkg/broker"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // after the first signal, another has its usual effect
	err := run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr)
	os.Exit(report(err, os.Stderr))
}

// run does what the arguments say until ctx is done.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	cfg, err := parse(ctx, args, stdout, stderr)
	if err != nil {
		return usageError{err}
	}
	if cfg == nil { // --help and --version have been answered
		return nil
	}
	switch {
	case cfg.command == commandConfig:
		return showConfig(*cfg, stdout)
	case cfg.command == commandBackup:
		err = runBackup(ctx, *cfg, stdout, stderr)
	case cfg.command == commandRestore:
		err = runRestore(ctx, *cfg, stdin, stdout, stderr)
	case cfg.check:
		return checkStart(ctx, *cfg, stdout)
	default:
		err = serve(ctx, newLive(args, *cfg), stdout, stderr)
	}
	if err != nil && cfg.logFormat == formatJSON {
		return &loggedError{err, cfg.logger(stderr, cfg.level)}
	}
	return err
}

// loggedError is an error that is reported as a line of the log.
type loggedError struct {
	error
	log *slog.Logger
}

func (e *loggedError) Unwrap() error { return e.error }

// usageError is an error about how presenced was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// report prints an error and returns the exit code.
func report(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	code, see := 1, ""
	if errors.Is(err, errCheckFailed) { // the lines have been printed
		return 1
	}
	if _, ok := errors.AsType[*broker.ConfigError](err); ok { // --help does not help there
		code = 2
	} else if _, ok := errors.AsType[usageError](err); ok {
		code, see = 2, " (see presenced --help)"
	}
	if l, ok := errors.AsType[*loggedError](err); ok {
		l.log.Error("presenced ends", "err", err, "code", code)
		return code
	}
	fmt.Fprintf(stderr, "presenced: %v%s\n", err, see)
	return code
}

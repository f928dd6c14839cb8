// Command presencectl speaks to the presence service as a user's device does: it
// logs users in and out, sets their texts, availability and contacts; as watchers
// do: it shows, watches and awaits statuses; and as an operator does: it lists and
// counts users, explains a status, kicks and erases.
//
//	presencectl login alice                     # holds a session until ^C
//	presencectl set alice "in a meeting" --expires 1h
//	presencectl get alice bob
//	presencectl availability alice busy --expires 1h
//	presencectl watch alice bob --json
//	presencectl await alice --timeout 1m
//	presencectl explain alice
//	presencectl verify                          # is every instance as the journal says?
//
// Results go to stdout, as tables or with --json as the JSON of the protocol;
// everything else goes to stderr. It exits with 0 when all was done, 1 when
// something was refused or failed, 2 when it was used wrongly.
//
// Whom NATS lets speak for a user is a matter of NATS permissions (PROTOCOL 9):
// the connection is made as the nats CLI makes it, with the same flags,
// environment and contexts.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"presence/cmd/internal/semver"
	"sync"
	"syscall"
)

// version is set by the linker: -ldflags "-X main.version=1.2.3".
var version string

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second ^C ends the process at once
	os.Exit(run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run does what the arguments say until ctx ends, and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: &lockedWriter{w: stdout}, stderr: &lockedWriter{w: stderr}}
	root := a.root()
	if len(args) > 1 && args[1] == completeWord {
		complete(a.stdout, root, args[2:])
		return exitDone
	}
	root.Reader, root.Writer, root.ErrWriter = stdin, a.stdout, a.stderr

	err := root.Run(ctx, args)
	if err == nil {
		return exitDone
	}
	// A failure came after the command line was understood. All other errors are
	// about the command line.
	f, ok := errors.AsType[*failure](err)
	switch {
	case !ok:
		a.say("%v", err)
		return exitUsage
	case f != errTold:
		a.say("%v", f)
	}
	return exitFailed
}

// app has the input and the outputs of a command. Both writers are safe for concurrent
// use: the client's callbacks write too.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

// say writes a message for people, in one line.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.stderr, "presencectl: "+format+"\n", args...)
}

// lockedWriter lets several goroutines write whole lines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func versionText() string { return semver.Text(version) }

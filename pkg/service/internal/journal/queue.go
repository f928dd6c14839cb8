package journal

import (
	"slices"

	"presence/pkg/internal/entry"
)

const (
	// maxReports bounds the commands that nobody waits for, see Journal.Report.
	maxReports = 1 << 16
	// renewalBytes is what a renewal takes in an entry, at most.
	renewalBytes = 5
)

// Queue is what waits for an instance's next entry. It has the rules by which commands are packed.
// The Journal bounds its commands and barriers by Config.MaxWaiting. maxReports bounds its reports.
// There are at most as many renewals as leases. The zero value is empty. It is not safe for
// concurrent use.
type Queue[W any] struct {
	// Bytes is with about how many bytes an entry is filled; 0: MaxBytes. One large command may
	// make the entry larger by half.
	Bytes int

	commands []entry.Command
	callers  []W // of the commands
	reports  []entry.Command
	renewed  []uint32            // leases to be renewed, each once, the oldest first
	waits    map[uint32]struct{} // the leases of renewed
	renewing []Renewing[W]
	barriers []W
	tick     bool

	room int // for so many commands memory is made at once: a little more than the last entry had
}

// mostRoom bounds Queue.room, and so what an idle instance holds after a large entry.
const mostRoom = 256

// Command adds a command with its caller.
func (q *Queue[W]) Command(c entry.Command, caller W) {
	if q.commands == nil {
		q.commands, q.callers = make([]entry.Command, 0, q.room), make([]W, 0, q.room)
	}
	q.commands = append(q.commands, c)
	q.callers = append(q.callers, caller)
}

// Report adds a command that nobody waits for. It returns ErrFull if maxReports of them wait.
func (q *Queue[W]) Report(c entry.Command) error {
	if len(q.reports) >= maxReports {
		return ErrFull
	}
	q.reports = append(q.reports, c)
	return nil
}

// Renew adds a renewal of a lease. answer says whether the caller wants an answer.
func (q *Queue[W]) Renew(number uint32, caller W, answer bool) {
	if q.waits == nil {
		q.waits = make(map[uint32]struct{})
	}
	if _, waits := q.waits[number]; !waits {
		q.waits[number] = struct{}{}
		q.renewed = append(q.renewed, number)
	}
	if answer {
		q.renewing = append(q.renewing, Renewing[W]{Number: number, Caller: caller})
	}
}

// Barrier adds a caller who waits for the next entry, even an empty one.
func (q *Queue[W]) Barrier(caller W) { q.barriers = append(q.barriers, caller) }

// Tick has an entry appended, even an empty one.
func (q *Queue[W]) Tick() { q.tick = true }

// Empty reports whether there is nothing to make an entry of.
func (q *Queue[W]) Empty() bool {
	return len(q.commands) == 0 && len(q.reports) == 0 && len(q.renewed) == 0 && len(q.barriers) == 0 && !q.tick
}

// Take moves what fits into one entry out of the queue. It returns nil if the queue is empty.
// However many commands wait, renewals may take half of an entry and reports a quarter: a flood of
// changes must not let a lease run out. In the entry, commands come before reports. So a login
// takes effect before the report that its connection was closed, if the login came first.
func (q *Queue[W]) Take() (*entry.Entry, *Callers[W]) {
	if q.Empty() {
		return nil, nil
	}
	e, callers := &entry.Entry{}, &Callers[W]{}
	most := q.Bytes
	if most == 0 {
		most = MaxBytes
	}
	room, bytes := entry.MaxCommands, most
	q.takeRenewals(e, callers, min(room/2, most/2/renewalBytes))
	room -= len(e.Renewed)
	bytes -= renewalBytes * len(e.Renewed)

	forReports, ofReports := room/2, bytes/2
	reports := fits(q.reports, &forReports, &ofReports, most)
	room -= reports
	bytes -= bytes/2 - ofReports
	left := bytes
	commands := fits(q.commands, &room, &left, most)
	callers.bytes = bytes - left
	e.Commands, q.commands = cut(q.commands, commands)
	callers.Commands, q.callers = cut(q.callers, commands)
	q.room = min(commands+commands/4, mostRoom)
	var head []entry.Command
	head, q.reports = cut(q.reports, reports)
	e.Commands = append(e.Commands, head...)

	callers.Barriers, q.barriers = q.barriers, nil
	q.tick = false
	return e, callers
}

// TakeLate moves callers out of the queue, from the oldest on, for as long as late says that they
// have waited for too long. Their commands are dropped. Their renewals stay, and are done without
// an answer.
func (q *Queue[W]) TakeLate(late func(W) bool) *Callers[W] {
	n, bytes := 0, 0
	for n < len(q.callers) && late(q.callers[n]) {
		bytes += q.commands[n].Size()
		n++
	}
	callers := &Callers[W]{bytes: bytes}
	if n > 0 {
		_, q.commands = cut(q.commands, n)
		callers.Commands, q.callers = cut(q.callers, n)
	}
	for n = 0; n < len(q.renewing) && late(q.renewing[n].Caller); n++ {
	}
	if n > 0 {
		callers.Renewals, q.renewing = cut(q.renewing, n)
	}
	for n = 0; n < len(q.barriers) && late(q.barriers[n]); n++ {
	}
	if n > 0 {
		callers.Barriers, q.barriers = cut(q.barriers, n)
	}
	return callers
}

// PutBack puts the reports and renewals of an entry that did not take effect into the queue again.
// They may take effect late, and twice, but they must not be lost. callers are the entry's.
func (q *Queue[W]) PutBack(e *entry.Entry, callers *Callers[W]) {
	if reports := e.Commands[len(callers.Commands):]; len(q.reports)+len(reports) <= maxReports {
		q.reports = slices.Concat(reports, q.reports)
	}
	for _, number := range e.Renewed {
		var none W
		q.Renew(number, none, false)
	}
}

// takeRenewals moves the oldest renewals, at most limit of them.
func (q *Queue[W]) takeRenewals(e *entry.Entry, callers *Callers[W], limit int) {
	if len(q.renewed) <= limit {
		e.Renewed, q.renewed = q.renewed, nil
		clear(q.waits)
		callers.Renewals, q.renewing = q.renewing, nil
		return
	}
	e.Renewed, q.renewed = cut(q.renewed, limit)
	for _, number := range e.Renewed {
		delete(q.waits, number)
	}
	var kept []Renewing[W]
	for _, r := range q.renewing {
		if _, waits := q.waits[r.Number]; waits {
			kept = append(kept, r)
		} else {
			callers.Renewals = append(callers.Renewals, r)
		}
	}
	q.renewing = kept
}

// fits returns how many of the commands fit, and subtracts them from room and bytes. most is with
// how many bytes an entry is filled. If more than half of them are free, the first command fits
// always, however large it is.
func fits(commands []entry.Command, room, bytes *int, most int) int {
	n := 0
	for n < len(commands) && *room > 0 {
		size := commands[n].Size()
		if size > *bytes && !(n == 0 && *bytes > most/2) {
			break
		}
		*bytes -= size
		*room--
		n++
	}
	return n
}

// cut returns the first n elements of s and the rest. Only the rest may be appended to. They share
// their array, which append replaces now and then. To copy the rest each time would cost more the
// more waits.
func cut[T any](s []T, n int) (head, rest []T) {
	if n == len(s) {
		return s[:n:n], nil
	}
	return s[:n:n], s[n:]
}

package journal

import (
	"errors"
	"slices"
	"time"

	"presence/pkg/internal/entry"
)

// maxReports bounds the commands that nobody waits for, see Journal.Report.
const maxReports = 1 << 16

// Queue is what waits for a writer's next entry: the rules by which commands are
// packed. Its commands and barriers are bounded by Config.MaxWaiting, which the Journal
// sees to, its reports by maxReports, its renewals by the number of leases. The
// zero value is empty. It is not safe for concurrent use.
type Queue[W any] struct {
	// Bytes is about how many an entry is filled with; 0: MaxBytes. One command may make it
	// half as large again.
	Bytes int

	commands []entry.Command
	callers  []W // of the commands
	reports  []entry.Command
	renewed  []uint32            // in the order of their coming, each once
	waits    map[uint32]struct{} // the same
	renewing []Renewing[W]
	barriers []W
	tick     bool
}

// Command adds a command with its caller.
func (q *Queue[W]) Command(c entry.Command, caller W) {
	q.commands = append(q.commands, c)
	q.callers = append(q.callers, caller)
}

// Report adds a command that nobody waits for. It returns ErrFull where too many
// of them wait.
func (q *Queue[W]) Report(c entry.Command) error {
	if len(q.reports) >= maxReports {
		return ErrFull
	}
	q.reports = append(q.reports, c)
	return nil
}

// Renew adds a renewal of a lease, whose caller wants an answer or not.
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

// Barrier has a caller go with the next entry, be it an empty one.
func (q *Queue[W]) Barrier(caller W) { q.barriers = append(q.barriers, caller) }

// Tick has an entry appended, be it an empty one.
func (q *Queue[W]) Tick() { q.tick = true }

// Empty reports whether there is nothing to make an entry of.
func (q *Queue[W]) Empty() bool {
	return len(q.commands) == 0 && len(q.reports) == 0 && len(q.renewed) == 0 && len(q.barriers) == 0 && !q.tick
}

// Take moves what fits into one entry out of the queue, and returns nil where
// nothing is in it. However many commands wait, half of an entry is there for
// renewals and a quarter for reports, if they need it: a flood of changes must
// not make anybody's lease run out. In the entry commands come before reports: a
// login that was submitted before its connection's end was reported takes effect
// before it.
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
	var head []entry.Command
	head, q.reports = cut(q.reports, reports)
	e.Commands = append(e.Commands, head...)

	callers.Barriers, q.barriers = q.barriers, nil
	q.tick = false
	return e, callers
}

// TakeLate moves the callers out of the queue who have waited too long, as late
// says of them: from the first on, as far as it does. Their commands go with them;
// renewals stay, and are done without an answer.
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

// PutBack has the reports and renewals of an entry that did not take effect
// appended with the next one: they may take effect late, and twice, but they
// must not be lost. callers are the entry's.
func (q *Queue[W]) PutBack(e *entry.Entry, callers *Callers[W]) {
	if reports := e.Commands[len(callers.Commands):]; len(q.reports)+len(reports) <= maxReports {
		q.reports = slices.Concat(reports, q.reports)
	}
	for _, number := range e.Renewed {
		var none W
		q.Renew(number, none, false)
	}
}

// renewalBytes is what a renewal takes in an entry, at most.
const renewalBytes = 5

// takeRenewals moves at most limit renewals, the oldest.
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

// fits returns how many of the commands fit, and takes them off the room. One
// always does where half of the entry is empty, however large it is: most is what an
// entry is filled with.
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

// cut returns the first n of s and the rest. To the rest can be appended and not
// to the first. They share their array, which append replaces now and then: a copy
// of the rest each time would cost more the more waits.
func cut[T any](s []T, n int) (head, rest []T) {
	if n == len(s) {
		return s[:n:n], nil
	}
	return s[:n:n], s[n:]
}

// oldest returns when the request arrived that has waited longest: now, where there
// is none, or nobody tells.
func (c *Callers[W]) oldest(arrived func(W) time.Time) time.Time {
	first := time.Now()
	if arrived == nil {
		return first
	}
	note := func(caller W) {
		if at := arrived(caller); at.Before(first) {
			first = at
		}
	}
	for _, w := range c.Commands {
		note(w)
	}
	for _, r := range c.Renewals {
		note(r.Caller)
	}
	for _, w := range c.Barriers {
		note(w)
	}
	return first
}

// Fail calls failed with the callers, and with why their entry is not applied with them. Where
// that is ErrRejected, the entry's renewals are put back into the queue. So their callers must
// not be told that nothing was done: they get ErrRenewalPending.
func (c *Callers[W]) Fail(err error, failed func(callers []W, err error)) {
	told := func(callers []W, err error) {
		if len(callers) > 0 {
			failed(callers, err)
		}
	}
	if !errors.Is(err, ErrRejected) {
		told(c.all(), err)
		return
	}
	told((&Callers[W]{Commands: c.Commands, Barriers: c.Barriers}).all(), err)
	told((&Callers[W]{Renewals: c.Renewals}).all(), ErrRenewalPending)
}

func (c *Callers[W]) all() []W {
	all := append(append([]W(nil), c.Commands...), c.Barriers...)
	for _, r := range c.Renewals {
		all = append(all, r.Caller)
	}
	return all
}

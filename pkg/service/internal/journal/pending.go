package journal

import "presence/pkg/service/internal/entry"

// maxReports bounds the commands that nobody waits for, see Journal.Report.
const maxReports = 1 << 16

// pending is what waits for the next entry. Its commands and callers are
// bounded by MaxWaiting, its reports by maxReports, its renewals by the number
// of leases. Guarded by Journal.mu.
type pending[W any] struct {
	commands []entry.Command
	callers  []W // of the commands
	reports  []entry.Command
	renewed  map[uint32]struct{}
	renewing []Renewing[W]
	barriers []W
	tick     bool
}

func (p *pending[W]) command(c entry.Command, caller W) {
	p.commands = append(p.commands, c)
	p.callers = append(p.callers, caller)
}

func (p *pending[W]) renew(number uint32, caller W, answer bool) {
	if p.renewed == nil {
		p.renewed = make(map[uint32]struct{})
	}
	p.renewed[number] = struct{}{}
	if answer {
		p.renewing = append(p.renewing, Renewing[W]{Number: number, Caller: caller})
	}
}

func (p *pending[W]) empty() bool {
	return len(p.commands) == 0 && len(p.reports) == 0 && len(p.renewed) == 0 && len(p.barriers) == 0 && !p.tick
}

// take moves what fits into one entry out of what is pending, and returns nil
// callers where nothing is. However many commands wait, half of an entry is
// there for renewals and a quarter for reports, if they need it: a flood of
// changes must not make anybody's lease run out. In the entry commands come
// before reports: a login that was submitted before its connection's end was
// reported takes effect before it.
func (j *Journal[W]) take() (*entry.Entry, *Callers[W]) {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := &j.pending
	if p.empty() {
		return nil, nil
	}
	e, callers := &entry.Entry{}, &Callers[W]{}
	room, bytes := entry.MaxCommands, MaxBytes
	j.takeRenewals(e, callers, room/2)
	room -= len(e.Renewed)
	bytes -= renewalBytes * len(e.Renewed)

	forReports := room / 2
	reports := fits(p.reports, &forReports, &bytes)
	room -= reports
	commands := fits(p.commands, &room, &bytes)
	e.Commands, p.commands = cut(p.commands, commands)
	callers.Commands, p.callers = cut(p.callers, commands)
	var head []entry.Command
	head, p.reports = cut(p.reports, reports)
	e.Commands = append(e.Commands, head...)

	callers.Barriers, p.barriers = p.barriers, nil
	p.tick = false
	if !p.empty() {
		j.poke()
	}
	return e, callers
}

// renewalBytes is what a renewal takes in an entry, at most.
const renewalBytes = 5

// takeRenewals moves at most limit renewals. It needs mu.
func (j *Journal[W]) takeRenewals(e *entry.Entry, callers *Callers[W], limit int) {
	p := &j.pending
	if len(p.renewed) <= limit {
		for number := range p.renewed {
			e.Renewed = append(e.Renewed, number)
		}
		clear(p.renewed)
		callers.Renewals, p.renewing = p.renewing, nil
		return
	}
	for number := range p.renewed {
		if len(e.Renewed) == limit {
			break
		}
		e.Renewed = append(e.Renewed, number)
		delete(p.renewed, number)
	}
	var kept []Renewing[W]
	for _, r := range p.renewing {
		if _, waits := p.renewed[r.Number]; waits {
			kept = append(kept, r)
		} else {
			callers.Renewals = append(callers.Renewals, r)
		}
	}
	p.renewing = kept
}

// fits returns how many of the commands fit, and takes them off the room. One
// always does where half of the entry is empty, however large it is: an entry
// may be half as large again as MaxBytes.
func fits(commands []entry.Command, room, bytes *int) int {
	n := 0
	for n < len(commands) && *room > 0 {
		size := commands[n].Size()
		if size > *bytes && !(n == 0 && *bytes > MaxBytes/2) {
			break
		}
		*bytes -= size
		*room--
		n++
	}
	return n
}

// cut returns the first n of s and a rest that does not share their array, so
// that what is in flight is not held by what comes after it.
func cut[T any](s []T, n int) (head, rest []T) {
	if n == len(s) {
		return s[:n:n], nil
	}
	return s[:n:n], append(rest, s[n:]...)
}

func (c *Callers[W]) all() []W {
	all := append(append([]W(nil), c.Commands...), c.Barriers...)
	for _, r := range c.Renewals {
		all = append(all, r.Caller)
	}
	return all
}

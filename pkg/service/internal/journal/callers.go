package journal

import (
	"errors"
	"time"
)

// Callers are those who wait for an entry.
type Callers[W any] struct {
	Commands []W           // one for each of the entry's commands
	Renewals []Renewing[W] // those who want an answer
	Barriers []W           // those who only want the entry applied

	bytes int // of the commands
}

// Renewing is a caller who renewed a lease by its number.
type Renewing[W any] struct {
	Number uint32
	Caller W
}

// Fail calls failed with the callers, and with why their entry is not applied with them. Where
// that is ErrRejected, the entry's renewals are put back into the queue. So their callers must
// not be told that nothing was done: they get ErrRenewalPending.
func (c *Callers[W]) Fail(err error, failed func(callers []W, err error)) {
	tell := func(callers []W, err error) {
		if len(callers) > 0 {
			failed(callers, err)
		}
	}
	if !errors.Is(err, ErrRejected) {
		tell(c.all(), err)
		return
	}
	tell((&Callers[W]{Commands: c.Commands, Barriers: c.Barriers}).all(), err)
	tell((&Callers[W]{Renewals: c.Renewals}).all(), ErrRenewalPending)
}

// oldest returns when the oldest request arrived. It returns now if nobody waits, or if there is
// no arrived.
func (c *Callers[W]) oldest(arrived func(W) time.Time) time.Time {
	first := time.Now()
	if arrived == nil {
		return first
	}
	c.each(func(caller W) {
		if at := arrived(caller); at.Before(first) {
			first = at
		}
	})
	return first
}

func (c *Callers[W]) each(yield func(W)) {
	for _, caller := range c.Commands {
		yield(caller)
	}
	for _, caller := range c.Barriers {
		yield(caller)
	}
	for _, r := range c.Renewals {
		yield(r.Caller)
	}
}

func (c *Callers[W]) all() (all []W) {
	c.each(func(caller W) { all = append(all, caller) })
	return all
}

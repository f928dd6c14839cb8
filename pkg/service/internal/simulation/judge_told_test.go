package simulation

import (
	"errors"
	"reflect"
	"slices"

	"presence/pkg/internal/entry"
	"presence/pkg/protocol"
)

// finished checks what somebody outside was told (G1, G2, G3, G7).
func (j *judge) finished(r *request, a *reply) {
	if r.inside {
		return
	}
	w := j.w
	if a.err != nil {
		if j.quiet && !(r.overtakes && errors.Is(a.err, protocol.ErrOutOfOrder)) {
			w.violated("G7", "%s failed: %v", r.what, a.err)
		}
		w.say("%s: %v", r.what, a.err)
		return
	}
	if r.get == nil {
		j.acknowledged(r, a)
		return
	}
	if r.fresh && a.revision < r.floor {
		w.violated("G2", "a fresh read of %s is as of %s, after %s was acknowledged", r.from.instance, showRevision(a.revision), showRevision(r.floor))
	}
	if a.revision < r.minRevision {
		w.violated("G2", "a read of %s is as of %s, less than %s", r.from.instance, showRevision(a.revision), showRevision(r.minRevision))
	}
	for i := range a.statuses {
		if want := j.at(r.get[i], a.revision/entry.IndexSpan); !same(&a.statuses[i], want) {
			w.violated("G3", "a read of %s at %s: got %+v, want %+v", r.from.instance, showRevision(a.revision), a.statuses[i], *want)
		}
	}
}

// acknowledged checks that a change is in the journal, at its revision (G1).
func (j *judge) acknowledged(r *request, a *reply) {
	w := j.w
	position, index := a.revision/entry.IndexSpan, int(a.revision%entry.IndexSpan)
	w.say("%s {%s} is acknowledged: %s", r.what, show(&r.command), showRevision(a.revision))
	if position == 0 && r.from != nil && r.from.damaged { // it passed over the command
		return
	}
	if position == 0 || position > uint64(len(j.entries)) {
		w.violated("G1", "%s is acknowledged as %s, beyond the journal", r.what, showRevision(a.revision))
	}
	j.acknowledgedUpTo = max(j.acknowledgedUpTo, a.revision)
	if index == entry.IndexSpan-1 {
		return // a renewal by number
	}
	e := j.entries[position-1]
	if i := index - 1 - len(e.Renewed); i < 0 || i >= len(e.Commands) || j.outcomes[position-1].Fenced || !reflect.DeepEqual(e.Commands[i], r.command) {
		w.violated("G1", "%s {%s} is acknowledged as %s, where it is not", r.what, show(&r.command), showRevision(a.revision))
	}
}

// announces checks an event (G3, G7).
func (j *judge) announces(p *process, e *protocol.Event, corrupt bool) {
	w := j.w
	w.say("%s announces %s %v %q, revision %s", p.instance, e.UserID, e.StatusType, e.CustomStatus, showRevision(e.Revision))
	if j.quiet {
		w.violated("G7", "%s announces %s, revision %s", p.instance, e.UserID, showRevision(e.Revision))
	}
	if corrupt {
		return
	}
	v, erased := j.users[e.UserID].versions, j.users[e.UserID].erased
	for i := len(v) - 1; i > 0; i-- {
		if v[i].status.Revision != e.Revision {
			continue
		}
		before := i - 1
		for before > 0 && v[before].position == v[i].position {
			before--
		}
		// One entry can do two things to a user, and forget one first.
		within := e.PreviousRevision/entry.IndexSpan == v[i].position && e.PreviousRevision < e.Revision
		forgotten := e.PreviousRevision == 0 && (w.plan.ends || w.plan.retention < protocol.DefaultRetention)
		if !same(&v[i].status, &e.Status) || e.PreviousRevision != v[before].status.Revision && !within && !forgotten {
			w.violated("G3", "an event is %+v, want %+v after %s", *e, v[i].status, showRevision(v[before].status.Revision))
		}
		return
	}
	if e.Cause == protocol.CauseErased && e.StatusType == protocol.Unlogined && e.CustomStatus == "" && slices.Contains(erased, e.Revision) {
		return // of one who looked like nobody before
	}
	w.violated("G3", "an event of %s has revision %s, which it never had", e.UserID, showRevision(e.Revision))
}

// heard notes an event that everybody could hear.
func (j *judge) heard(e *protocol.Event) {
	u := j.users[e.UserID]
	u.heard = max(u.heard, e.Revision)
}

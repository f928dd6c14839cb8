package client

import (
	"context"
	"fmt"
	"slices"

	"presence/pkg/protocol"
)

// Quorum says how many of several users must have a status.
type Quorum int

const (
	// Any: one of them.
	Any Quorum = iota
	// All: all of them at the same time.
	All
)

// Await waits until any or all of users have a statusType, and returns the
// statuses of all of them at that moment, in the order given, a repeated ID once.
// It watches them as SubscribeUserStatus does, so while it is connected it misses no
// status, however short. While the client is blind it waits. It ends with ctx, and
// leaves nothing watched. Callbacks do not hear of users who are only awaited.
func (c *Client) Await(ctx context.Context, userIDs []string, q Quorum, statusType protocol.StatusType) ([]protocol.Status, error) {
	valid, refused := checkIDs(userIDs)
	for _, f := range failuresOf(userIDs, refused, nil) {
		return nil, fmt.Errorf("awaiting %q: %w", f.UserID, f.Err())
	}
	if len(valid) == 0 || statusType < protocol.Online || statusType > protocol.Unlogined {
		return nil, protocol.ErrInvalidRequest.Withf("there are %d users to wait for the status %v", len(valid), statusType)
	}
	w := c.watch
	a := &await{ids: valid, quorum: q, want: statusType, has: map[string]struct{}{}, done: make(chan []protocol.Status, 1)}
	w.addAwait(a)
	defer w.removeAwait(a)
	joined, pages, err := w.enlist(ctx, valid, awaited)
	if err != nil {
		return nil, fmt.Errorf("awaiting %v: %w", statusType, err)
	}
	defer w.leave(joined, awaited)
	w.apply(pages)
	w.beginAwait(a)
	select {
	case list := <-a.done:
		return list, nil
	case <-c.link.closed:
		return nil, c.link.final
	case <-ctx.Done():
		return nil, fmt.Errorf("awaiting %v: %w", statusType, ctx.Err())
	}
}

// await is a call of Await under way. The watch's mu guards it.
type await struct {
	ids    []string
	quorum Quorum
	want   protocol.StatusType
	has    map[string]struct{}    // the users who are known to have it
	begun  bool                   // all have been fetched once
	done   chan []protocol.Status // holds one
}

func (w *watch) addAwait(a *await) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range a.ids {
		w.awaits[id] = append(w.awaits[id], a)
	}
}

func (w *watch) removeAwait(a *await) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range a.ids {
		w.awaits[id] = slices.DeleteFunc(w.awaits[id], func(b *await) bool { return a == b })
		if len(w.awaits[id]) == 0 {
			delete(w.awaits, id)
		}
	}
}

// beginAwait checks an await for the first time, after all its users were fetched.
func (w *watch) beginAwait(a *await) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a.begun = true
	for _, id := range a.ids {
		w.noteAwait(a, id)
	}
	w.endAwait(a)
}

// checkAwaits checks the awaits of a user who has changed. It needs mu.
func (w *watch) checkAwaits(id string) {
	for _, a := range w.awaits[id] {
		w.noteAwait(a, id)
		w.endAwait(a)
	}
}

// checkAllAwaits checks all awaits, because the client is live again. It needs mu.
func (w *watch) checkAllAwaits() {
	for _, list := range w.awaits {
		for _, a := range list {
			w.endAwait(a)
		}
	}
}

// noteAwait notes whether a user has the wanted status. It needs mu.
func (w *watch) noteAwait(a *await, id string) {
	if u := w.users[id]; u != nil && u.fetched && u.status.StatusType == a.want {
		a.has[id] = struct{}{}
	} else {
		delete(a.has, id)
	}
}

// endAwait answers if enough users have the status. It needs mu.
func (w *watch) endAwait(a *await) {
	enough := 1
	if a.quorum == All {
		enough = len(a.ids)
	}
	if !a.begun || !w.state.Live || len(a.has) < enough {
		return
	}
	list := make([]protocol.Status, len(a.ids))
	for i, id := range a.ids {
		list[i] = protocol.Status{UserID: id, StatusType: protocol.Unknown}
		if u := w.users[id]; u != nil && u.fetched {
			list[i] = u.status
		}
	}
	select {
	case a.done <- list:
	default: // it was answered already
	}
}

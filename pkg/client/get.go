package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"presence/pkg/protocol"
)

// GetResult has the statuses of the users that were asked for. Every user is in exactly
// one list, once, in the order asked.
type GetResult struct {
	SuccessUserList []protocol.Status
	FailureUserList []protocol.UserFailure
	// Revision: the result includes every change of Epoch up to it. After several
	// requests it is the lowest of theirs.
	Revision uint64
	Epoch    string
	// AsOf is the journal's time at Revision.
	AsOf protocol.Time
	// Stale says that an instance that answered is cut off from the journal
	// (PROTOCOL 8, G12).
	Stale bool
}

// GetUserStatus asks for any number of users, in pages of protocol.MaxUsersPerGet. The
// result includes all changes that were made through this Client before. IDs that are not
// valid are among its failures.
func (c *Client) GetUserStatus(ctx context.Context, userIDs []string, opts ...GetOption) (GetResult, error) {
	var q query
	for _, o := range opts {
		o(&q)
	}
	valid, refused := checkIDs(userIDs)
	pages, err := c.fetch(ctx, valid, q)
	if err != nil {
		return GetResult{}, err
	}
	var r GetResult
	for i, p := range pages {
		if i == 0 || p.Revision < r.Revision {
			r.Revision, r.Epoch, r.AsOf = p.Revision, p.Epoch, p.AsOf
		}
		r.SuccessUserList = append(r.SuccessUserList, p.SuccessUserList...)
		r.Stale = r.Stale || p.Stale
	}
	r.FailureUserList = failuresOf(userIDs, refused, pages)
	return r, nil
}

// query says how statuses are asked for.
type query struct {
	fresh, detail bool
	// current refuses stale answers.
	current bool
	// patience bounds each page; 0: only the context does.
	patience time.Duration
	// back is closed if the journal turns out to have gone back. fetchOnce sets it.
	back <-chan struct{}
}

var errEpochChanged = errors.New("the journal was replaced meanwhile")

// fetch asks for users in pages that are all of one epoch. Their IDs must be valid and not
// repeated.
func (c *Client) fetch(ctx context.Context, ids []string, q query) (pages []protocol.GetReply, err error) {
	for range 3 { // a journal is not replaced every moment
		if pages, err = c.fetchOnce(ctx, ids, q); !errors.Is(err, errEpochChanged) {
			break
		}
	}
	return pages, err
}

// fetchOnce asks for page after page. Only the first is fresh, which costs a journal entry.
// The others wait for its revision, so they too include all that was acknowledged before.
func (c *Client) fetchOnce(ctx context.Context, ids []string, q query) ([]protocol.GetReply, error) {
	var pages []protocol.GetReply
	req := protocol.GetRequest{Detail: q.detail, Fresh: q.fresh}
	q.back = c.own.seen.back() // before the revision that is waited for is read
	if !q.fresh {              // a fresh answer includes all that was done before anyway
		req.Epoch, req.MinRevision = c.own.newest()
	}
	for chunk := range slices.Chunk(ids, protocol.MaxUsersPerGet) {
		req.UserIDList = chunk
		replies, err := c.page(ctx, req, q)
		if err != nil {
			return nil, err
		}
		pages = append(pages, replies...)
		first := pages[0]
		for _, r := range replies {
			if r.Epoch != first.Epoch {
				return nil, fmt.Errorf("asking for statuses: %w", errEpochChanged)
			}
		}
		if req.Fresh {
			req.Fresh, req.Epoch, req.MinRevision = false, first.Epoch, first.Revision
		}
	}
	return pages, nil
}

// page asks for one page. If the reply would be too large it asks in two halves: many
// users have long texts, or the broker has a stricter limit.
func (c *Client) page(ctx context.Context, req protocol.GetRequest, q query) ([]protocol.GetReply, error) {
	reply, err := c.pageWhole(ctx, req, q)
	if err == nil {
		return []protocol.GetReply{reply}, nil
	}
	n := len(req.UserIDList)
	if n == 1 || !errors.Is(err, protocol.ErrRequestTooLarge) {
		return nil, err
	}
	var replies []protocol.GetReply
	for _, half := range [][]string{req.UserIDList[:n/2], req.UserIDList[n/2:]} {
		req.UserIDList = half
		r, err := c.page(ctx, req, q)
		if err != nil {
			return nil, err
		}
		replies = append(replies, r...)
	}
	return replies, nil
}

func (c *Client) pageWhole(ctx context.Context, req protocol.GetRequest, q query) (protocol.GetReply, error) {
	if q.patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, q.patience)
		defer cancel()
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	if req.MinRevision == 0 {
		return c.pageCurrent(ctx, req, q)
	}
	waiting, done := c.overdue(ctx, q.back)
	defer done()
	reply, err := c.pageCurrent(waiting, req, q)
	if isClosed(q.back) { // that revision may never come
		err = fmt.Errorf("waiting for revision %d: %w", req.MinRevision, errEpochChanged)
	}
	return reply, err
}

// pageCurrent asks until an answer is as new as it must be.
func (c *Client) pageCurrent(ctx context.Context, req protocol.GetRequest, q query) (protocol.GetReply, error) {
	for attempt := 0; ; attempt++ {
		var reply protocol.GetReply
		epoch, seen := c.own.seen.seen()
		err := c.call(ctx, request{subject: c.subjects.Get(), body: req, repeatable: true}, &reply)
		if err != nil {
			return reply, err
		}
		if n := len(reply.SuccessUserList) + len(reply.FailureUserList); n != len(req.UserIDList) {
			return reply, protocol.ErrInternal.Withf("%d users were asked for, %d answered", len(req.UserIDList), n)
		}
		if reply.Stale {
			if !q.current {
				return reply, nil
			}
			err = protocol.ErrUnavailable.With("the instance that answered is cut off from the journal")
		} else if reply.Epoch == req.Epoch && reply.Revision < req.MinRevision {
			err = protocol.ErrUnavailable.Withf("the instance that answered is at revision %d, asked for was %d", reply.Revision, req.MinRevision)
		} else if req.Fresh {
			return reply, c.checkFresh(reply.Epoch, reply.Revision, epoch, seen)
		} else {
			if c.own.seen.note(reply.Epoch, reply.Revision) {
				c.watch.doubt()
			}
			return reply, nil
		}
		// Another instance may have read more of the journal.
		if !sleep(ctx, backoff(attempt, busyWait, busyWaitMax)) {
			return reply, fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
}

// checkIDs returns the valid IDs, each once, and the failures of the others.
func checkIDs(ids []string) (valid []string, refused map[string]protocol.UserFailure) {
	seen := make(map[string]struct{}, len(ids))
	refused = map[string]protocol.UserFailure{}
	for _, id := range ids {
		if _, ok := seen[id]; ok {
			continue
		}
		seen[id] = struct{}{}
		if err := protocol.CheckUserID(id); err != nil {
			refused[id] = protocol.Failure(id, err)
			continue
		}
		valid = append(valid, id)
	}
	return valid, refused
}

// failuresOf returns all failures, those found before asking and those in the replies, in
// the order asked.
func failuresOf(ids []string, refused map[string]protocol.UserFailure, pages []protocol.GetReply) []protocol.UserFailure {
	failed := refused
	for _, p := range pages {
		for _, f := range p.FailureUserList {
			failed[f.UserID] = f
		}
	}
	var list []protocol.UserFailure
	for _, id := range ids {
		if f, ok := failed[id]; ok {
			list = append(list, f)
			delete(failed, id)
		}
	}
	return list
}

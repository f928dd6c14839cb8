package connections

// TakeReports says whether this instance is to take reports of closed connections. While it is not,
// the broker gives them to other instances. If none takes them, they are made up for when one does:
// it compares everything then. TakeReports does not wait, and may be called again and again.
//
// An instance that no request reaches must not take them. Each report appends an entry, and so
// lets lease time pass. If no other instance is reached either, nobody can renew meanwhile.
func (w *Watcher) TakeReports(take bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.standby != take {
		return
	}
	w.standby = !take
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// takeOrLeave makes the subscription for reports, or gives it up, as TakeReports has said last. It
// returns whether reports are taken. Only Run calls it.
func (w *Watcher) takeOrLeave() (take bool) {
	w.mu.Lock()
	standby, left, sub := w.standby, w.left, w.closed.sub
	if standby && !left {
		w.closed.sub, w.closed.refused, w.drops = nil, nil, nil
	}
	w.mu.Unlock()
	switch {
	case left:
	case standby && sub != nil:
		// Not Drain: a reconnect would make a subscription again that is not drained yet.
		_ = sub.Unsubscribe() // it fails if the connection is closed
		w.log.Warn("no requests reach this instance: it leaves reports of closed connections to others")
	case !standby && sub == nil:
		if w.make(&w.closed) == nil { // it fails if the connection is closed
			w.log.Info("requests reach this instance again: it takes reports of closed connections")
		}
	}
	return !standby
}

package client

import "time"

// IsForAnswers reports whether a subject is the one of the subscription for answers.
var IsForAnswers = isForAnswers

// StallMerge keeps the merging of events from going on until release is
// called: the only way to make nats.go drop messages at a chosen moment.
func StallMerge(c *Client) (release func()) {
	c.watch.mu.Lock()
	return c.watch.mu.Unlock
}

// Waiting returns how many changes wait in a gateway's queue.
func Waiting(g *Gateway) int { return g.queue.len() }

// Awaiting returns for how many users something is awaited.
func Awaiting(c *Client) int {
	c.watch.mu.Lock()
	defer c.watch.mu.Unlock()
	return len(c.watch.awaits)
}

// ExpectEventsWithin has a subscription taken for dead sooner where an event is missing.
func ExpectEventsWithin(c *Client, d time.Duration) {
	c.watch.mu.Lock()
	defer c.watch.mu.Unlock()
	c.watch.unheardFor = d
}

// TrustAfter is after how many requests in order a gateway has another one under way.
const TrustAfter = trustAfter

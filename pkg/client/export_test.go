package client

// StallMerge keeps the merging of events from going on until release is
// called: the only way to make nats.go drop messages at a chosen moment.
func StallMerge(c *Client) (release func()) {
	c.watch.mu.Lock()
	return c.watch.mu.Unlock
}

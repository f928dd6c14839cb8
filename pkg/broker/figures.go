package broker

// Figures are what the server counts of its clients.
type Figures struct {
	// Connections are those of clients that are open, presenced's own included.
	Connections int
	// SlowConsumers counts the connections that were too slow to read what they were sent.
	SlowConsumers uint64
}

// Figures returns those of now. It waits for no disk.
func (b *Broker) Figures() Figures {
	return Figures{Connections: b.server.NumClients(), SlowConsumers: uint64(max(b.server.NumSlowConsumers(), 0))}
}

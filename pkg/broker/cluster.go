package broker

// ClusterState is what the server knows of its cluster.
type ClusterState struct {
	// Clustered is false where the server stands alone; the rest is zero then.
	Clustered bool
	// Connected is how many servers are connected, this one included.
	Connected int
	// Size is how many servers JetStream counts, those that are down included.
	// A majority of them is needed.
	Size int
	// Leader is the name of the server that leads JetStream; empty where there
	// is none.
	Leader string
	// Online is how many of Size are up, this one included, as far as this
	// server has heard.
	Online int
}

// Name is the server's.
func (b *Broker) Name() string { return b.server.Name() }

// Cluster returns what the server knows of its cluster now.
func (b *Broker) Cluster() ClusterState {
	if !b.server.JetStreamIsClustered() {
		return ClusterState{}
	}
	state := ClusterState{Clustered: true, Connected: 1 + b.server.NumRemotes(), Online: 1}
	info, err := b.server.Jsz(nil)
	if err != nil || info.Meta == nil {
		return state
	}
	state.Size, state.Leader = info.Meta.Size, info.Meta.Leader
	for _, p := range info.Meta.Replicas {
		if !p.Offline && p.Name != b.Name() {
			state.Online++
		}
	}
	return state
}

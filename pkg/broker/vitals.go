package broker

import (
	"fmt"

	"presence/pkg/protocol"
)

// Vitals tells what an operator wants to know of the server and of the disk of its store. It asks
// the disk, so it may wait for a disk that hangs.
func (b *Broker) Vitals() (protocol.ServerVitals, error) {
	x, err := b.server.Varz(nil)
	if err != nil {
		return protocol.ServerVitals{}, fmt.Errorf("asking the NATS server inside: %w", err)
	}
	v := protocol.ServerVitals{Version: x.Version, PingIntervalSeconds: x.PingInterval.Seconds(), PingMax: x.MaxPingsOut}
	config := b.server.JetStreamConfig()
	if config == nil {
		return v, nil
	}
	v.SyncAlways = config.SyncAlways
	if v.FreeBytes, v.DiskBytes, err = diskSpace(config.StoreDir); err != nil {
		v.FreeBytes, v.DiskBytes = 0, 0 // not every system tells
	}
	return v, nil
}

package main

import (
	"fmt"
	"net"
	"slices"
	"strings"
)

// clusterSize is the number of servers that store each message of R3.
const clusterSize = 3

// startRawCluster starts the reference as a cluster whose stream has a copy on each
// server. Each server has a responder.
func (b *bench) startRawCluster(sync string) (*target, error) {
	ports, err := freePorts(clusterSize)
	if err != nil {
		return nil, err
	}
	servers := make([]*target, clusterSize)
	for i, port := range ports {
		dir, err := b.tempDir("raw")
		if err != nil {
			return nil, err
		}
		servers[i], err = b.startReference(dir, "--sync", sync, "--name", fmt.Sprint("server", i+1),
			"--cluster", port, "--routes", "nats://"+strings.Join(ports, ",nats://"))
		if err != nil {
			return nil, err
		}
	}
	for _, s := range servers {
		s.awaitReference(b)
	}
	t := servers[0]
	t.peers = slices.Clone(servers[1:])
	return t, t.connect()
}

// freePorts returns addresses on loopback that are free at the moment.
func freePorts(n int) (addresses []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at the end, so that all differ
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

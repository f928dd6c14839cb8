package main

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"presence/pkg/service/servicetest"
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

// startOnCluster starts a presenced beside each server of a reference's cluster, with
// three copies of the journal, and connects to the servers.
func (b *bench) startOnCluster(cluster *target) (*target, error) {
	return b.startBeside(append([]*target{cluster}, cluster.peers...), "--replicas", fmt.Sprint(clusterSize))
}

// startBeside starts a presenced for each element of servers, which may come more than once. They
// are instances of one service. It connects to the servers.
func (b *bench) startBeside(servers []*target, args ...string) (*target, error) {
	daemons := make([]*target, len(servers))
	for i, s := range servers {
		d := servicetest.StartProgram(b.program, b.presenced, []string{"PRESENCED_USER_CHANGES=0"},
			append([]string{"--nats-url", s.url, "--single-account", "--gateway-ops", "-1"}, args...)...)
		daemons[i] = &target{Process: &d.Process, url: s.url}
	}
	t := daemons[0]
	t.peers = daemons[1:]
	for _, s := range servers {
		if !slices.Contains(t.brokers, s) {
			t.brokers = append(t.brokers, s)
		}
	}
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

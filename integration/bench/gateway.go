package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/client"
	"presence/pkg/protocol"
)

const (
	// applyGateways apply at the same time, each one request after the other.
	applyGateways = 8
	applyOps      = 500
)

var gatewayMeasure = measure{
	name: "gateway", title: "ops of gateways, many in a request", unit: " ops/s",
	variants: func(ctx context.Context, b *bench, done func(func())) ([]variant, error) {
		one, err := b.sharedGateway(ctx, b.interval, done)
		if err != nil {
			return nil, err
		}
		three, err := b.startBeside(slices.Repeat([]*target{b.refInterval}, clusterSize))
		if err != nil {
			return nil, err
		}
		done(func() { b.close(three) })
		shared, err := b.sharedGateway(ctx, three, done)
		if err != nil {
			return nil, err
		}
		raw := b.changes(b.opts.callers, 1)[rawChange]
		gateways := make([]*gateway, applyGateways)
		for i := range gateways {
			var err error
			if gateways[i], err = openGateway(b.interval.conn(i), fmt.Sprint("bench", i)); err != nil {
				return nil, err
			}
		}
		return []variant{
			raw,
			{
				name: fmt.Sprintf("apply of %d sets, %d gateways", applyOps, applyGateways), goal: "≥ 400,000 ops/s",
				each: applyOps, server: b.interval,
				run: func(ctx context.Context, d time.Duration) (sample, error) {
					return callFor(ctx, applyGateways, d, func(caller, i int) error {
						g := gateways[caller]
						return g.apply(applyOps, func(k int) protocol.Op {
							text := fmt.Sprint("text ", g.seq, " ", i)
							return protocol.Op{Op: protocol.OpKindSet, UserID: fmt.Sprintf("gw-%d-%d", caller, k), CustomStatus: &text}
						})
					})
				},
			},
			one,
			shared,
		}, nil
	},
}

// sharedGateway is the variant of many callers through one client.Gateway.
func (b *bench) sharedGateway(ctx context.Context, t *target, done func(func())) (v variant, err error) {
	c, err := client.New(t.conns[0], client.Options{})
	if err != nil {
		return v, err
	}
	done(func() { _ = c.Close() }) // an error matters to nobody: the server ends too
	g, err := c.OpenGateway(ctx, "shared", client.GatewayOptions{})
	if err != nil {
		return v, err
	}
	instances := "one instance"
	if n := 1 + len(t.peers); n > 1 {
		instances = fmt.Sprint(n, " instances")
	}
	round := 0
	return variant{
		name: fmt.Sprintf("sets by %d callers through one client.Gateway, %s", b.opts.callers, instances), goal: "≥ 4 × raw", server: t,
		run: func(ctx context.Context, d time.Duration) (sample, error) {
			round++
			return callFor(ctx, b.opts.callers, d, func(caller, i int) error {
				return g.SetStatus(ctx, userID(caller), fmt.Sprint("text ", round, " ", i))
			})
		},
	}, nil
}

// gateway makes the requests of one gateway without package client.
type gateway struct {
	nc          *nats.Conn
	id, process string
	seq         uint64
}

// openGateway opens a lease, bound to the connection, with the longest TTL that the
// contract allows.
func openGateway(nc *nats.Conn, id string) (*gateway, error) {
	clientID, err := nc.GetClientID()
	if err != nil {
		return nil, err
	}
	g := &gateway{nc: nc, id: id, process: fmt.Sprint("p", time.Now().UnixNano())}
	return g, g.request(protocol.OpOpen, protocol.OpenRequest{
		Process: g.process, TTLSeconds: int64(protocol.MaxTTL / time.Second),
		Connection: &protocol.Connection{ServerID: nc.ConnectedServerId(), ClientID: clientID},
	})
}

// apply does ops 0 to n-1 as one request.
func (g *gateway) apply(n int, op func(i int) protocol.Op) error {
	g.seq++
	r := protocol.ApplyRequest{Process: g.process, Seq: g.seq, Ops: make([]protocol.Op, n)}
	for i := range r.Ops {
		r.Ops[i] = op(i)
	}
	return g.request(protocol.OpApply, r)
}

func (g *gateway) request(op string, body any) error {
	subject, err := subjects.Gateway(g.id, op)
	if err != nil {
		return err
	}
	return request(g.nc, subject, mustMarshal(body))
}

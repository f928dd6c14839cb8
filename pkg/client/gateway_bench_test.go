package client_test

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"presence/pkg/broker"
	"presence/pkg/client"
	"presence/pkg/service/servicetest"
)

// BenchmarkGateway is 128 callers who set texts, by a gateway and each by a
// request of its own, with the journal on disk as presenced has it by default.
func BenchmarkGateway(b *testing.B) {
	const callers = 128
	kit := servicetest.Start(b, servicetest.WithBroker(func(c *broker.Config) { c.SyncAlways = true }))
	c, _ := dial(b, kit)
	g := openGateway(b, c, "gw1", client.GatewayOptions{})
	run := func(b *testing.B, set func(user, text string) error) {
		var caller atomic.Int64
		b.SetParallelism(callers / runtime.GOMAXPROCS(0))
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			user := fmt.Sprint("user", caller.Add(1))
			for i := 0; pb.Next(); i++ {
				if err := set(user, fmt.Sprint("text ", i)); err != nil {
					b.Error(err)
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	}
	b.Run("gateway", func(b *testing.B) {
		run(b, func(user, text string) error { return g.SetStatus(b.Context(), user, text) })
	})
	b.Run("requests", func(b *testing.B) {
		run(b, func(user, text string) error {
			_, err := c.SetSelfStatus(b.Context(), user, text)
			return err
		})
	})
}

package main

import (
	"slices"
	"strings"
	"testing"
)

// TestProfileParts reads what perf script prints. A sample counts for the innermost part of
// presenced that its stack is in.
func TestProfileParts(t *testing.T) {
	const script = `
           98810 runtime.memmove
          1f427f presence/pkg/protocol.(*Status).appendFields
          1f4e47 presence/pkg/protocol.AppendMarshal
          2aabbc presence/pkg/service.(*call).succeed

           98795 runtime.memmove
          4cf82a github.com/nats-io/nats-server/v2/server.(*client).deliverMsg
          4c1082 github.com/nats-io/nats-server/v2/server.(*client).readLoop

          4cf82a github.com/nats-io/nats-server/v2/server.(*msgBlock).writeMsgRecord
          4c1082 github.com/nats-io/nats-server/v2/server.(*stream).processInboundJetStreamMsg
          4c1082 github.com/nats-io/nats-server/v2/server.(*client).readLoop

           98b00 runtime.memmove
          8d0f59 github.com/nats-io/nats%2ego.(*Conn).publish
          2aabbc presence/pkg/service.(*replies).send

           12345 runtime.scanobject
           12346 runtime.gcAssistAlloc
          1f427f presence/pkg/internal/state.(*State).Apply

        ffffffff finish_task_switch.isra.0
           12347 runtime.findRunnable

        ffffffff finish_task_switch.isra.0
           12347 runtime.schedule
`
	parts, samples := profileParts(strings.NewReader(script))
	want := []profiled{
		{"Go: scheduler, timers, and the rest", 2}, {"Go: garbage collector", 1}, {"NATS client library", 1},
		{"NATS server: JetStream", 1}, {"NATS server: reading, matching, delivery", 1}, {"service: encoding", 1},
	}
	if samples != 7 || !slices.Equal(parts, want) {
		t.Errorf("got %d samples, %v, want 7, %v", samples, parts, want)
	}
}

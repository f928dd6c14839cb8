package main

import (
	"testing"

	"presence/pkg/protocol"
	"presence/pkg/service/servicetest"
)

// TestCanBodies_Again: the bodies can be copied again. To set the text that is set
// already sends no event, so each copy sets another one.
func TestCanBodies_Again(t *testing.T) {
	kit := servicetest.Start(t)
	from := &target{url: kit.URL()}
	if err := from.connect(); err != nil {
		t.Fatal(err)
	}
	defer from.disconnect()
	login := mustMarshal(protocol.LoginRequest{SessionID: "s1", Platform: "web", TTLSeconds: 60})
	if err := request(from.conns[0], userSubject(userID(0), protocol.OpLogin), login); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := canBodies(from); err != nil {
			t.Fatalf("time %d: %v", i+1, err)
		}
	}
}

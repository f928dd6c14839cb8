package simulation

import (
	"testing"
	"time"
)

// TestG02_CommittedLate: a leader of the stream that loses its majority stores changes
// more than ten seconds after they were sent, and none of them after a fresh read that was
// sent ten seconds after it. So does the network with
// what an instance sent that died, and that counts as empty.
func TestG02_CommittedLate(t *testing.T) {
	t.Parallel()
	late := 0
	for seed := uint64(1); seed <= 60; seed++ {
		p := newPlan(seed)
		if p.rolling {
			continue
		}
		p.ends, p.damages, p.gateways = false, false, 0
		p.actions, p.mess = 3*time.Second, 0.3 // entries hang in the network, for minutes
		p.last, p.span = 75*time.Second, 75*time.Second
		// Later an instance dies while its entries hang: nothing of its comes that would make
		// those count as empty.
		p.faults = []fault{{kind: "no majority", at: 15 * time.Second, lasts: 12*time.Second + time.Duration(seed%16)*500*time.Millisecond},
			{kind: "cut from the journal", at: 40 * time.Second, lasts: time.Minute}, {kind: "kill", at: 42 * time.Second, lasts: time.Minute}}
		w, v := play(p, false)
		if v != nil {
			t.Fatal(explain(p, v))
		}
		late += w.judge.late
	}
	if late == 0 {
		t.Error("no change took effect later than ten seconds after it was sent: the leader without a majority stored nothing")
	}
	t.Logf("%d changes took effect more than ten seconds after they were sent", late)
}

package streams

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"presence/pkg/broker"
)

// required is like the journal's requirements, and made is a configuration that meets them.
var (
	required = Requirements{Name: "S", What: "the journal", Subjects: []string{"s.entries"}, Replicas: 1, Message: 1 << 20, DenyDelete: true}
	made     = jetstream.StreamConfig{Name: "S", Subjects: []string{"s.entries"}, Discard: jetstream.DiscardNew, DenyDelete: true}
)

// settings are all settings by which a stream could lose what is stored, or refuse to store it.
// name is JetStream's name. change makes the setting of a right stream wrong.
var settings = []struct {
	name   string
	change func(*jetstream.StreamConfig)
	fixed  bool // the server does not let it be changed
	set    bool // only a stream that is there can be set so
}{
	{name: "persist_mode", fixed: true, change: func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode }},
	{name: "storage", fixed: true, change: func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }},
	{name: "subjects", change: func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "s.other") }},
	{name: "retention", fixed: true, change: func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy }},
	{name: "retention", fixed: true, change: func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }},
	{name: "sealed", fixed: true, set: true, change: func(c *jetstream.StreamConfig) { c.Sealed = true }},
	{name: "max_age", change: func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }},
	{name: "max_msgs_per_subject", change: func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 }},
	{name: "discard", change: func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }},
	{name: "max_msgs", change: func(c *jetstream.StreamConfig) { c.MaxMsgs = 5 }},
	{name: "max_msg_size", change: func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1<<20 - 1 }},
	{name: "no_ack", change: func(c *jetstream.StreamConfig) { c.NoAck = true }},
	{name: "deny_purge", fixed: true, change: func(c *jetstream.StreamConfig) { c.DenyPurge = true }},
	{name: "deny_delete", change: func(c *jetstream.StreamConfig) { c.DenyDelete = false }},
	{name: "allow_rollup_hdrs", change: func(c *jetstream.StreamConfig) { c.AllowRollup = true }},
	{name: "allow_direct", change: func(c *jetstream.StreamConfig) { c.AllowDirect = true }},
	{name: "allow_msg_ttl", fixed: true, change: func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true }},
	{name: "allow_msg_counter", fixed: true, change: func(c *jetstream.StreamConfig) { c.AllowMsgCounter, c.Discard = true, jetstream.DiscardOld }},
	{name: "subject_transform", change: func(c *jetstream.StreamConfig) {
		c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: ">", Destination: "x.>"}
	}},
	{name: "republish", change: func(c *jetstream.StreamConfig) { c.RePublish = &jetstream.RePublish{Source: ">", Destination: "x.>"} }},
	{name: "max_consumers", change: func(c *jetstream.StreamConfig) { c.MaxConsumers = 1 }},
	{name: "consumer_limits", change: func(c *jetstream.StreamConfig) {
		c.ConsumerLimits = jetstream.StreamConsumerLimits{InactiveThreshold: time.Second}
	}},
}

// TestG01_EverySetting: a stream that could lose what was acknowledged is refused, whichever
// setting is wrong. The error says what to do, and that works.
func TestG01_EverySetting(t *testing.T) {
	js := jetStream(t)
	for i, s := range settings {
		// Each has a name of its own: the server removes the files of a deleted stream late.
		right, want := made, required
		right.Name, right.Subjects = fmt.Sprint("S", i), []string{fmt.Sprintf("s%d.entries", i)}
		want.Name, want.Subjects = right.Name, right.Subjects
		have := right
		s.change(&have)
		if s.set {
			have = right
		}
		have.Name = right.Name
		stream, err := js.CreateStream(t.Context(), have)
		if err == nil && s.set {
			s.change(&have)
			stream, err = js.UpdateStream(t.Context(), have)
		}
		if err != nil {
			t.Errorf("%s: making such a stream: %v", s.name, err)
			continue
		}
		err = Check(stream.CachedInfo().Config, want)
		wrong, ok := errors.AsType[*SettingError](err)
		switch {
		case !ok:
			t.Errorf("%s: got %v, want an error", s.name, err)
		case wrong.Setting != s.name:
			t.Errorf("%s: got %v", s.name, err)
		case strings.Contains(wrong.Cure, "in place") != s.fixed || strings.Contains(err.Error(), "\n"):
			t.Errorf("%s: got %v, want one line with a cure that is possible", s.name, err)
		}
		if s.fixed {
			continue
		}
		if _, err := js.UpdateStream(t.Context(), right); err != nil {
			t.Errorf("%s: setting it right: got %v", s.name, err)
		}
	}
}

// TestCheck_Others: settings that no guarantee depends on may be anything. The settings that are
// not in the table above are tested too.
func TestCheck_Others(t *testing.T) {
	js := jetStream(t)
	have := made
	have.Compression, have.MaxBytes, have.Duplicates = jetstream.S2Compression, 1<<30, time.Minute
	have.MaxMsgSize, have.Description, have.Metadata = 1<<20, "ours", map[string]string{"a": "b"}
	stream, err := js.CreateStream(t.Context(), have)
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(stream.CachedInfo().Config, required); err != nil {
		t.Error(err)
	}
	copied := made
	copied.Sources = []*jetstream.StreamSource{{Name: "OTHER"}}
	if err := Check(copied, required); err == nil || !strings.Contains(err.Error(), "has sources [OTHER]") {
		t.Errorf("a stream with sources: got %v", err)
	}
	mirror := jetstream.StreamConfig{Name: "S", Mirror: &jetstream.StreamSource{Name: "OTHER"}}
	if err := Check(mirror, required); err == nil || !strings.Contains(err.Error(), "has mirror OTHER") {
		t.Errorf("a mirror: got %v", err)
	}
	more, fewer := made, required
	more.Replicas, fewer.Replicas = 5, 3
	if err := Check(more, fewer); err != nil {
		t.Errorf("more replicas than asked for: %v", err)
	}
	if err := Check(made, fewer); err == nil || !strings.Contains(err.Error(), "nats stream edit S --replicas=3") {
		t.Errorf("fewer replicas than asked for: got %v", err)
	}
	bucket := Requirements{Name: "S", What: "the contacts", Subjects: []string{"s.entries"}, PerSubject: 1, Rollup: true}
	if err := Check(made, bucket); err == nil || !strings.Contains(err.Error(), "nats stream edit S --max-msgs-per-subject=1 --allow-rollup (wrong as well: allow_rollup_hdrs)") {
		t.Errorf("two wrong settings: got %v", err)
	}
}

func jetStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	b, err := broker.Start(broker.Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Shutdown)
	nc, err := b.Connect(broker.Journal)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

package streams

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Requirements say how a stream must be configured so that nothing is lost that was acknowledged.
// Other settings may be anything: compression, placement, a limit in bytes.
type Requirements struct {
	// Name is the stream's. What says what it holds, as the subject of a sentence: "the journal".
	Name, What string
	// Subjects are the subjects that the stream stores.
	Subjects []string
	// Replicas is how many replicas it must have at least.
	Replicas int
	// Message is the size in bytes of the largest message that it must take, with its headers.
	Message int
	// PerSubject is how many messages of one subject it keeps; 0: all of them.
	PerSubject int64
	// Rollup says whether a message may replace those before it (a roll-up). The stream must
	// allow it exactly then.
	Rollup bool
	// Direct says that direct gets may be allowed. A replica that lags may answer them, so it is
	// false for a stream whose last message matters.
	Direct bool
	// DenyDelete says that it must not be possible to delete single messages.
	DenyDelete bool
}

// SettingError says in one line which setting of a stream is wrong, why that matters, and what to
// do.
type SettingError struct {
	Stream  string
	Setting string // as JetStream calls it in JSON
	Have    any
	Why     string // what would happen
	Cure    string
	Others  []string // further settings that are wrong
}

func (e *SettingError) Error() string {
	others := ""
	if len(e.Others) > 0 {
		others = fmt.Sprintf(" (wrong as well: %s)", strings.Join(e.Others, ", "))
	}
	return fmt.Sprintf("the stream %s has %s %v, and %s: %s%s", e.Stream, e.Setting, e.Have, e.Why, e.Cure, others)
}

// Check returns a *SettingError if a stream's configuration is not as required, else nil. It asks
// nobody.
func Check(have jetstream.StreamConfig, want Requirements) error {
	var wrong []*rule
	for i := range rules {
		if _, bad := rules[i].bad(&have, &want); bad {
			wrong = append(wrong, &rules[i])
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	// A setting that cannot be changed in place comes first: its cure mends all others too.
	slices.SortStableFunc(wrong, func(a, b *rule) int { return cmp.Compare(len(a.flags(&want)), 0) - cmp.Compare(len(b.flags(&want)), 0) })
	first := wrong[0]
	value, _ := first.bad(&have, &want)
	err := &SettingError{Stream: want.Name, Setting: first.setting, Have: value, Why: fmt.Sprintf(first.why, want.What), Cure: cure(wrong, &want)}
	for _, r := range wrong[1:] {
		err.Others = append(err.Others, r.setting)
	}
	return err
}

// Drops reports whether a stream drops messages by itself: by their age or number, or because they
// were read. It asks nobody.
func Drops(have jetstream.StreamConfig) bool {
	oldest := have.Discard == jetstream.DiscardOld && (have.MaxMsgs > 0 || have.MaxBytes > 0)
	return oldest || have.MaxAge > 0 || have.MaxMsgsPerSubject > 0 || have.Retention != jetstream.LimitsPolicy
}

// cure says how to mend all that is wrong. A setting that cannot be changed in place comes first.
func cure(wrong []*rule, want *Requirements) string {
	if wrong[0].edit == nil {
		return fmt.Sprintf("it cannot be changed in place: with every presenced stopped, nats stream rm %[1]s if nothing is in it yet, "+
			"and presenced makes it right; otherwise nats stream backup %[1]s DIR, nats stream rm %[1]s, "+
			"nats stream restore DIR --config FILE with the right setting (docs/restore.md)", want.Name)
	}
	command := "nats stream edit " + want.Name
	for _, r := range wrong {
		command += " " + r.flags(want)
	}
	return command
}

// config is short for the long list below.
type config = jetstream.StreamConfig

// rule is about one setting.
type rule struct {
	setting string
	// bad returns the setting's value and whether it is wrong.
	bad func(have *config, want *Requirements) (any, bool)
	// why says what would happen; %s is Requirements.What.
	why string
	// edit returns the flags of "nats stream edit" that mend it. nil: the server does not let the
	// setting be changed.
	edit func(want *Requirements) string
}

// flag is an edit that is the same for every stream.
func flag(text string) func(*Requirements) string {
	return func(*Requirements) string { return text }
}

func (r *rule) flags(want *Requirements) string {
	if r.edit == nil {
		return ""
	}
	return r.edit(want)
}

// must says that a setting must have one value.
func must[T comparable](value T, get func(*config) T) func(*config, *Requirements) (any, bool) {
	return func(have *config, _ *Requirements) (any, bool) { return get(have), get(have) != value }
}

// absent says that a setting must be zero, or left out.
func absent[T comparable](get func(*config) T) func(*config, *Requirements) (any, bool) {
	var zero T
	return must(zero, get)
}

// rules are all that there are. What loses the most comes first.
var rules = []rule{
	{"persist_mode", absent(func(c *config) jetstream.PersistModeType { return c.PersistMode }),
		"%s would lose what was acknowledged when the server is killed, whatever its sync_interval is", nil},
	{"storage", must(jetstream.FileStorage, func(c *config) jetstream.StorageType { return c.Storage }),
		"%s would be gone when the servers stop", nil},
	{"num_replicas", func(have *config, want *Requirements) (any, bool) {
		return have.Replicas, max(have.Replicas, 1) < want.Replicas
	},
		"%s would not survive the loss of as many servers as --replicas says",
		func(want *Requirements) string { return fmt.Sprintf("--replicas=%d", want.Replicas) }},
	{"subjects", func(have *config, want *Requirements) (any, bool) {
		a, b := slices.Sorted(slices.Values(have.Subjects)), slices.Sorted(slices.Values(want.Subjects))
		return have.Subjects, !slices.Equal(a, b)
	}, "%s would lack what is written, or hold what is not presence's",
		func(want *Requirements) string { return "--subjects='" + strings.Join(want.Subjects, ",") + "'" }},
	{"mirror", absent(func(c *config) string {
		if c.Mirror == nil {
			return ""
		}
		return c.Mirror.Name
	}), "nothing can be written to %s", nil},
	{"sources", func(have *config, _ *Requirements) (any, bool) {
		names := make([]string, 0, len(have.Sources))
		for _, s := range have.Sources {
			names = append(names, s.Name)
		}
		return names, len(names) > 0
	}, "%s would hold what another stream has", nil},
	{"retention", must(jetstream.LimitsPolicy, func(c *config) jetstream.RetentionPolicy { return c.Retention }),
		"%s would lose what was acknowledged as soon as somebody has read it, or nobody reads", nil},
	{"sealed", absent(func(c *config) bool { return c.Sealed }), "nothing can be written to %s", nil},
	{"max_age", absent(func(c *config) time.Duration { return c.MaxAge }), "%s would lose what is older", flag("--max-age=0s")},
	{"max_msgs_per_subject", func(have *config, want *Requirements) (any, bool) {
		return have.MaxMsgsPerSubject, max(have.MaxMsgsPerSubject, 0) != want.PerSubject
	}, "%s would keep more or less than it must", func(want *Requirements) string {
		return fmt.Sprintf("--max-msgs-per-subject=%d", cmp.Or(want.PerSubject, -1))
	}},
	{"discard", must(jetstream.DiscardNew, func(c *config) jetstream.DiscardPolicy { return c.Discard }),
		"%s would lose the oldest when a limit is reached, instead of refusing the newest", flag("--discard=new")},
	{"discard_new_per_subject", absent(func(c *config) bool { return c.DiscardNewPerSubject }),
		"%s could not be written a second time", flag("--no-discard-per-subject")},
	{"max_msgs", func(have *config, _ *Requirements) (any, bool) { return have.MaxMsgs, have.MaxMsgs > 0 },
		"%s would take no more once there are as many", flag("--max-msgs=-1")},
	{"max_msg_size", func(have *config, want *Requirements) (any, bool) {
		return have.MaxMsgSize, have.MaxMsgSize > 0 && int(have.MaxMsgSize) < want.Message
	}, "%s would refuse what is larger, which presenced may write", flag("--max-msg-size=-1")},
	{"no_ack", absent(func(c *config) bool { return c.NoAck }), "nobody would know what %s has stored", flag("--ack")},
	{"deny_purge", absent(func(c *config) bool { return c.DenyPurge }), "%s could not be trimmed, nor anybody's data erased", nil},
	{"deny_delete", func(have *config, want *Requirements) (any, bool) {
		return have.DenyDelete, want.DenyDelete && !have.DenyDelete
	},
		"%s could lose a single message by a command", flag("--deny-delete")},
	{"allow_rollup_hdrs", func(have *config, want *Requirements) (any, bool) {
		return have.AllowRollup, have.AllowRollup != want.Rollup
	},
		"one message must be able to replace others where %s needs that, and nowhere else",
		func(want *Requirements) string {
			if want.Rollup {
				return "--allow-rollup"
			}
			return "--no-allow-rollup"
		}},
	{"allow_direct", func(have *config, want *Requirements) (any, bool) {
		return have.AllowDirect, have.AllowDirect && !want.Direct
	},
		"what is read of %s could be old: a replica that lags answers direct gets", flag("--no-allow-direct")},
	{"allow_msg_ttl", absent(func(c *config) bool { return c.AllowMsgTTL }), "a message could end by itself that %s needs", nil},
	{"subject_delete_marker_ttl", absent(func(c *config) time.Duration { return c.SubjectDeleteMarkerTTL }),
		"the server would write to %s by itself", flag("--subject-del-markers-ttl=0s")},
	{"allow_msg_counter", absent(func(c *config) bool { return c.AllowMsgCounter }), "nothing but numbers can be written to %s", nil},
	{"allow_msg_schedules", absent(func(c *config) bool { return c.AllowMsgSchedules }), "the server could write to %s by itself", nil},
	{"subject_transform", func(have *config, _ *Requirements) (any, bool) {
		if have.SubjectTransform == nil {
			return nil, false
		}
		return have.SubjectTransform.Destination, true
	},
		"what is written to %s would have another subject", flag("--no-transform")},
	{"republish", func(have *config, _ *Requirements) (any, bool) {
		if have.RePublish == nil {
			return nil, false
		}
		return have.RePublish.Destination, true
	},
		"all that is private in %s would be published", flag("--no-republish")},
	{"max_consumers", func(have *config, _ *Requirements) (any, bool) { return have.MaxConsumers, have.MaxConsumers > 0 },
		"not every instance could read %s", flag("--max-consumers=-1")},
	{"consumer_limits", absent(func(c *config) time.Duration { return c.ConsumerLimits.InactiveThreshold }),
		"instances could not read %s in the way they do", flag("--interactive, and take consumer_limits out")},
}

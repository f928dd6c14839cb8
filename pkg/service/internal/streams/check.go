package streams

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Requirements say what a stream must be set to so that nothing is lost that was acknowledged.
// What they do not name may be anything: more replicas, compression, placement, a limit in bytes.
type Requirements struct {
	// Name is the stream's, What is what it holds, as a subject of a sentence: "the journal".
	Name, What string
	// Subjects are all that the stream stores.
	Subjects []string
	// Replicas is how many it must have at least.
	Replicas int
	// Message is the size in bytes of the largest message that it must take, with its headers.
	Message int
	// PerSubject is how many messages of one subject it keeps; 0: all of them.
	PerSubject int64
	// Rollup says that messages must be allowed to replace those before them (roll-ups). Where
	// it is false they must not be.
	Rollup bool
	// Direct says that direct gets may be allowed. A replica that lags answers them, so whoever
	// needs the last message must have them denied.
	Direct bool
	// DenyDelete says that single messages must not be deletable.
	DenyDelete bool
}

// SettingError says which setting of a stream is wrong, why that matters, and the cure, in one
// line.
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

// Check returns a *SettingError where a stream's configuration is not as required, else nil. It
// asks nobody.
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
	// What cannot be changed in place comes first: its cure is that of all.
	slices.SortStableFunc(wrong, func(a, b *rule) int { return cmp.Compare(len(a.flags(&want)), 0) - cmp.Compare(len(b.flags(&want)), 0) })
	first := wrong[0]
	value, _ := first.bad(&have, &want)
	err := &SettingError{Stream: want.Name, Setting: first.setting, Have: value, Why: fmt.Sprintf(first.why, want.What), Cure: cure(wrong, &want)}
	for _, r := range wrong[1:] {
		err.Others = append(err.Others, r.setting)
	}
	return err
}

// Drops reports whether a stream drops messages by itself that nobody has asked it to drop:
// by their age or number, or because they were read. It asks nobody.
func Drops(have jetstream.StreamConfig) bool {
	oldest := have.Discard == jetstream.DiscardOld && (have.MaxMsgs > 0 || have.MaxBytes > 0)
	return oldest || have.MaxAge > 0 || have.MaxMsgsPerSubject > 0 || have.Retention != jetstream.LimitsPolicy
}

// cure mends all that is wrong, of which what cannot be changed in place is the first.
func cure(wrong []*rule, want *Requirements) string {
	if wrong[0].edit == nil {
		return fmt.Sprintf("it cannot be changed in place: with every presenced stopped, nats stream rm %[1]s where nothing is in it yet, "+
			"and presenced makes it right; otherwise nats stream backup %[1]s DIR, nats stream rm %[1]s, "+
			"nats stream restore DIR --config FILE with the right setting (docs/restore.md)", want.Name)
	}
	command := "nats stream edit " + want.Name
	for _, r := range wrong {
		command += " " + r.flags(want)
	}
	return command
}

// rule is about one setting.
type rule struct {
	setting string
	// bad returns the setting's value and whether it is wrong.
	bad func(have *jetstream.StreamConfig, want *Requirements) (any, bool)
	// why is what would happen; %s is Requirements.What.
	why string
	// edit are the flags of "nats stream edit" that mend it; empty where the server does not
	// let it be changed.
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

// unlessZero is a setting that must be 0 or absent.
func unlessZero[T comparable](get func(*jetstream.StreamConfig) T) func(*jetstream.StreamConfig, *Requirements) (any, bool) {
	return func(have *jetstream.StreamConfig, _ *Requirements) (any, bool) {
		var zero T
		return get(have), get(have) != zero
	}
}

// rules are all that there are. What loses the most comes first.
var rules = []rule{
	{
		setting: "persist_mode",
		bad:     unlessZero(func(c *jetstream.StreamConfig) jetstream.PersistModeType { return c.PersistMode }),
		why:     "%s would lose what was acknowledged when the server is killed, whatever its sync_interval is",
	},
	{
		setting: "storage",
		bad: func(have *jetstream.StreamConfig, _ *Requirements) (any, bool) {
			return have.Storage, have.Storage != jetstream.FileStorage
		},
		why: "%s would be gone when the servers stop",
	},
	{
		setting: "num_replicas",
		bad: func(have *jetstream.StreamConfig, want *Requirements) (any, bool) {
			return have.Replicas, max(have.Replicas, 1) < want.Replicas
		},
		why:  "%s would not survive the loss of as many servers as --replicas says",
		edit: func(want *Requirements) string { return fmt.Sprintf("--replicas=%d", want.Replicas) },
	},
	{
		setting: "subjects",
		bad: func(have *jetstream.StreamConfig, want *Requirements) (any, bool) {
			a, b := slices.Sorted(slices.Values(have.Subjects)), slices.Sorted(slices.Values(want.Subjects))
			return have.Subjects, !slices.Equal(a, b)
		},
		why:  "%s would lack what is written, or hold what is not presence's",
		edit: func(want *Requirements) string { return "--subjects='" + strings.Join(want.Subjects, ",") + "'" },
	},
	{
		setting: "mirror",
		bad: func(have *jetstream.StreamConfig, _ *Requirements) (any, bool) {
			if have.Mirror == nil {
				return nil, false
			}
			return have.Mirror.Name, true
		},
		why: "nothing can be written to %s",
	},
	{
		setting: "sources",
		bad: func(have *jetstream.StreamConfig, _ *Requirements) (any, bool) {
			names := make([]string, 0, len(have.Sources))
			for _, s := range have.Sources {
				names = append(names, s.Name)
			}
			return names, len(names) > 0
		},
		why: "%s would hold what another stream has",
	},
	{
		setting: "retention",
		bad: func(have *jetstream.StreamConfig, _ *Requirements) (any, bool) {
			return have.Retention, have.Retention != jetstream.LimitsPolicy
		},
		why: "%s would lose what was acknowledged as soon as somebody has read it, or nobody reads",
	},
	{
		setting: "sealed",
		bad:     unlessZero(func(c *jetstream.StreamConfig) bool { return c.Sealed }),
		why:     "nothing can be written to %s",
	},
	{
		setting: "max_age",
		bad: func(have *jetstream.StreamConfig, _ *Requirements) (any, bool) {
			return have.MaxAge, have.MaxAge != 0
		},
		why:  "%s would lose what is older",
		edit: flag("--max-age=0s"),
	},
	{
		setting: "max_msgs_per_subject",
		bad: func(have *jetstream.StreamConfig, want *Requirements) (any, bool) {
			return have.MaxMsgsPerSubject, max(have.MaxMsgsPerSubject, 0) != want.PerSubject
		},
		why: "%s would keep more or less than what is needed",
		edit: func(want *Requirements) string {
			if want.PerSubject == 0 {
				return "--max-msgs-per-subject=-1"
			}
			return fmt.Sprintf("--max-msgs-per-subject=%d", want.PerSubject)
		},
	},
	{
		setting: "discard",
		bad: func(have *jetstream.StreamConfig, _ *Requirements) (any, bool) {
			return have.Discard, have.Discard != jetstream.DiscardNew
		},
		why:  "%s would lose the oldest when a limit is reached, in the place of refusing the newest",
		edit: flag("--discard=new"),
	},
	{
		setting: "discard_new_per_subject",
		bad:     unlessZero(func(c *jetstream.StreamConfig) bool { return c.DiscardNewPerSubject }),
		why:     "%s could not be written a second time",
		edit:    flag("--no-discard-per-subject"),
	},
	{
		setting: "max_msgs",
		bad: func(have *jetstream.StreamConfig, _ *Requirements) (any, bool) {
			return have.MaxMsgs, have.MaxMsgs > 0
		},
		why:  "%s would take no more once there are as many",
		edit: flag("--max-msgs=-1"),
	},
	{
		setting: "max_msg_size",
		bad: func(have *jetstream.StreamConfig, want *Requirements) (any, bool) {
			return have.MaxMsgSize, have.MaxMsgSize > 0 && int(have.MaxMsgSize) < want.Message
		},
		why:  "%s would refuse what is larger, which presenced may write",
		edit: flag("--max-msg-size=-1"),
	},
	{
		setting: "no_ack",
		bad:     unlessZero(func(c *jetstream.StreamConfig) bool { return c.NoAck }),
		why:     "nobody would know what %s has stored",
		edit:    flag("--ack"),
	},
	{
		setting: "deny_purge",
		bad:     unlessZero(func(c *jetstream.StreamConfig) bool { return c.DenyPurge }),
		why:     "%s could not be trimmed, nor anybody's data erased",
	},
	{
		setting: "deny_delete",
		bad: func(have *jetstream.StreamConfig, want *Requirements) (any, bool) {
			return have.DenyDelete, want.DenyDelete && !have.DenyDelete
		},
		why:  "%s could lose a single message by a command",
		edit: flag("--deny-delete"),
	},
	{
		setting: "allow_rollup_hdrs",
		bad: func(have *jetstream.StreamConfig, want *Requirements) (any, bool) {
			return have.AllowRollup, have.AllowRollup != want.Rollup
		},
		why: "one message must be able to replace others where %s needs that, and nowhere else",
		edit: func(want *Requirements) string {
			if want.Rollup {
				return "--allow-rollup"
			}
			return "--no-allow-rollup"
		},
	},
	{
		setting: "allow_direct",
		bad: func(have *jetstream.StreamConfig, want *Requirements) (any, bool) {
			return have.AllowDirect, have.AllowDirect && !want.Direct
		},
		why:  "what is read of %s could be old: a replica that lags answers direct gets",
		edit: flag("--no-allow-direct"),
	},
	{
		setting: "allow_msg_ttl",
		bad:     unlessZero(func(c *jetstream.StreamConfig) bool { return c.AllowMsgTTL }),
		why:     "a message could end by itself that %s needs",
	},
	{
		setting: "subject_delete_marker_ttl",
		bad: func(have *jetstream.StreamConfig, _ *Requirements) (any, bool) {
			return have.SubjectDeleteMarkerTTL, have.SubjectDeleteMarkerTTL != 0
		},
		why:  "the server would write to %s by itself",
		edit: flag("--subject-del-markers-ttl=0s"),
	},
	{
		setting: "allow_msg_counter",
		bad:     unlessZero(func(c *jetstream.StreamConfig) bool { return c.AllowMsgCounter }),
		why:     "nothing but numbers can be written to %s",
	},
	{
		setting: "allow_msg_schedules",
		bad:     unlessZero(func(c *jetstream.StreamConfig) bool { return c.AllowMsgSchedules }),
		why:     "the server could write to %s by itself",
	},
	{
		setting: "subject_transform",
		bad: func(have *jetstream.StreamConfig, _ *Requirements) (any, bool) {
			if have.SubjectTransform == nil {
				return nil, false
			}
			return have.SubjectTransform.Destination, true
		},
		why:  "what is written to %s would have another subject",
		edit: flag("--no-transform"),
	},
	{
		setting: "republish",
		bad: func(have *jetstream.StreamConfig, _ *Requirements) (any, bool) {
			if have.RePublish == nil {
				return nil, false
			}
			return have.RePublish.Destination, true
		},
		why:  "all that is private in %s would be published",
		edit: flag("--no-republish"),
	},
	{
		setting: "max_consumers",
		bad: func(have *jetstream.StreamConfig, _ *Requirements) (any, bool) {
			return have.MaxConsumers, have.MaxConsumers > 0
		},
		why:  "not every instance could read %s",
		edit: flag("--max-consumers=-1"),
	},
	{
		setting: "consumer_limits",
		bad: func(have *jetstream.StreamConfig, _ *Requirements) (any, bool) {
			return have.ConsumerLimits.InactiveThreshold, have.ConsumerLimits.InactiveThreshold != 0
		},
		why:  "instances could not read %s in the way they do",
		edit: flag("--interactive, and take consumer_limits out"),
	},
}

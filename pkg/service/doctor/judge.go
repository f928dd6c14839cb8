package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"presence/pkg/protocol"
)

// What is too much.
const (
	slowAnswer   = 250 * time.Millisecond
	clockOff     = time.Second
	lowDisk      = 1 << 30
	fullDisk     = 64 << 20 // changes are refused below this
	oldSnapshot  = 20 * time.Hour
	longJournal  = 4 << 16 // entries; a snapshot is taken each 65,536
	longSilence  = time.Minute
	manyOwed     = 100_000
	farBehind    = 100_000 // positions between two instances, asked at about the same time
	owedTooLong  = 2 * time.Minute
	startsWithin = 5 * time.Second // and reads its state
	entryWithin  = 2 * time.Second // each running instance appends more often, unless it is alone
	readTheLog   = "read its log, and docs/operations.md, What presenced may tell you"
	tellDefect   = "keep its log and the journal, and run presencectl verify"
	newerVersion = "instances that tell their vitals (PROTOCOL 4.9): upgrade presenced"
)

// judge makes checks of what was found: those of the service and its instances, and those of the
// journal as instances see it.
func (s *served) judge(f, journal *findings) {
	s.judgeAnswers(f)
	if len(s.instances) == 0 {
		what := "an instance that answers on admin.instances"
		if errors.Is(s.instancesErr, errRefused) {
			what = "permission to ask on admin.instances, as an operator has it"
		}
		f.skip("instances", what)
		s.judgeMissing(f)
		return
	}
	f.add(s.judgeVersions())
	f.add(s.judgeRules())
	f.add(s.judgeStates())
	f.add(s.judgePositions())
	f.add(s.judgeFormat())
	f.add(s.judgeOwed())
	s.judgeMissing(f)
	journal.add(s.judgeSnapshot())
	journal.add(s.judgeSync())
	for _, i := range s.instances {
		i.judge(f)
	}
}

// judgeAnswers says who answers.
func (s *served) judgeAnswers(f *findings) {
	const name = "service.answers"
	switch {
	case errors.Is(s.err, errNobody) && len(s.elsewhere) > 0:
		f.failed(name, &Problem{Found: fmt.Sprintf("nobody answers below %s, and presenced answers below %s", s.prefix, strings.Join(s.elsewhere, ", ")),
			Means: "clients and presenced have different prefixes", Do: "give --prefix " + s.elsewhere[0] + " (PRESENCE_PREFIX)"})
	case errors.Is(s.err, errNobody):
		f.failed(name, &Problem{Found: "nobody answers below " + s.prefix,
			Means: "presenced does not run on this NATS server, or these credentials are of another account than its clients'",
			Do:    "start presenced, or give the credentials of an operator in the clients' account"})
	case errors.Is(s.err, errSilent):
		f.failed(name, &Problem{Found: fmt.Sprintf("somebody is subscribed below %s, and no answer arrives within %v", s.prefix, answerWithin),
			Means: "every instance hangs, or none may publish answers", Do: "look at each presenced: its log, /readyz, its processor and disk"})
	case errors.Is(s.err, errDeaf):
		f.skip(name, "answers, see permissions.answers")
	case errors.Is(s.err, context.DeadlineExceeded):
		f.skip(name, "more time: it took too long before")
	case s.err != nil && !errors.Is(s.err, errRefused):
		f.failed(name, &Problem{Found: "stats is refused: " + s.err.Error(), Means: "an instance cannot serve", Do: "see the instances below, and their logs"})
	case len(s.instances) > 0:
		f.ok(name, fmt.Sprintf("below %s: %s", s.prefix, names(s.instances)))
	case errors.Is(s.err, errRefused):
		f.skip(name, "permission to ask for stats")
	case errors.Is(s.instancesErr, errSilent):
		f.failed(name, &Problem{Found: "no instance answers on admin.instances within " + answerWithin.String(), Means: "instances hang, or are of a version that does not know it",
			Do: "look at each presenced: its version, its log and /readyz"})
	default:
		f.ok(name, "an instance answers below "+s.prefix)
	}
}

func names(list []*instance) string {
	parts := make([]string, len(list))
	for k, i := range list {
		parts[k] = i.name()
	}
	return strings.Join(parts, ", ")
}

// judgeMissing is about instances that should answer and do not.
func (s *served) judgeMissing(f *findings) {
	for k := range s.missing {
		m := &s.missing[k]
		if next := s.successor(m); next != nil {
			f.add(Check{Name: "instance.answers", Instance: m.Writer, Result: OK, Found: "it was started anew, and is " + next.name() + " now"})
		} else {
			f.add(judgeMissing(m))
		}
	}
}

// successor returns the instance of the same host that was started after one that is gone. nil:
// there is none. Times of silence are of the lease clock, which stands still while no instance
// runs. So where another instance has run all the while, there is no room for the time of a start.
func (s *served) successor(m *missing) *instance {
	host, silent := protocol.ParseInstanceID(m.Writer).Host, time.Duration(m.SilentMs)*time.Millisecond
	if m.hangs || m.appends || host == "" {
		return nil
	}
	for _, i := range s.instances {
		within := silent + startsWithin
		if slices.ContainsFunc(s.instances, func(o *instance) bool { return o != i && o.uptime() > silent+entryWithin }) {
			within = silent + entryWithin
		}
		if i.Host == host && i.Vitals != nil && i.uptime() < within {
			return i
		}
	}
	return nil
}

// uptime returns how long an instance has run; 0: it does not say.
func (i *instance) uptime() time.Duration {
	if i.Vitals == nil {
		return 0
	}
	return time.Duration(i.Vitals.UptimeSeconds * float64(time.Second))
}

// judgeMissing is about an instance that should answer and does not. The server tells at once where
// nobody is subscribed: then the instance is gone.
func judgeMissing(m *missing) Check {
	name := protocol.ParseInstanceID(m.Writer).Name()
	silent := (time.Duration(m.SilentMs) * time.Millisecond).Round(time.Second)
	c := Check{Name: "instance.answers", Instance: m.Writer, Result: Fail}
	switch {
	case m.appends:
		c.Found = fmt.Sprintf("%s appends to the journal and does not answer", name)
		c.Means = "its connection for requests is lost, or refused; others answer meanwhile"
		c.Do = readTheLog
	case m.hangs:
		c.Found = fmt.Sprintf("%s hangs: it is connected and gives no answer; its last journal entry is %v old", name, silent)
		c.Means = "it swallows its share of the requests until the NATS server finds out (ping_interval × (ping_max + 1))"
		c.Do = "look at its machine; end it (SIGTERM, then SIGKILL) and start it again"
	default:
		c.Result = Warn
		c.Found = fmt.Sprintf("%s is gone; its last journal entry is %v old", name, silent)
		c.Means = "it was stopped, died, or lost its connection; it is not named any more when it was silent for a minute"
		c.Do = "nothing if you stopped it; else start it again and " + readTheLog
	}
	return c
}

func (s *served) judgeVersions() Check {
	of := map[string][]string{}
	for _, i := range s.instances {
		of[i.Version] = append(of[i.Version], i.name())
	}
	c := Check{Name: "service.versions", Result: OK}
	if len(of) == 1 {
		c.Found = "version " + s.instances[0].Version
		return c
	}
	c.Result, c.Found = Warn, "the versions differ: "+listed(of)
	c.Means, c.Do = "an upgrade is not finished; what is new comes into force when all know it", "replace the older ones, one after the other (docs/operations.md, Upgrade and downgrade)"
	return c
}

// listed writes which instances have which value.
func listed(of map[string][]string) string {
	var parts []string
	for _, value := range slices.Sorted(maps.Keys(of)) {
		parts = append(parts, fmt.Sprintf("%s (%s)", value, strings.Join(of[value], ", ")))
	}
	return strings.Join(parts, ", ")
}

// told returns the instances that tell their vitals.
func (s *served) told() []*instance {
	return slices.DeleteFunc(slices.Clone(s.instances), func(i *instance) bool { return i.Vitals == nil })
}

func needs(name, what string) Check {
	return Check{Name: name, Result: NotChecked, Found: "needs " + what}
}

func (s *served) judgeRules() Check {
	told := s.told()
	if len(told) == 0 {
		return needs("service.rules", newerVersion)
	}
	c := Check{Name: "service.rules", Result: OK, Found: "every instance was given the same rules"}
	var differ []string
	for _, rule := range slices.Sorted(maps.Keys(told[0].Vitals.Rules)) {
		of := map[string][]string{}
		for _, i := range told {
			if value, ok := i.Vitals.Rules[rule]; ok {
				of[value] = append(of[value], i.name())
			}
		}
		if len(of) > 1 {
			differ = append(differ, fmt.Sprintf("--%s is %s", rule, listed(of)))
		}
	}
	if len(differ) > 0 {
		c.Result, c.Found = Warn, strings.Join(differ, "; ")
		c.Means, c.Do = "the rules of the instance that started last are in force, so they change with each restart", "give all instances the same flags"
	}
	return c
}

// judgeStates compares the digests of instances at one position. Those of two versions may differ.
func (s *served) judgeStates() Check {
	type at struct {
		revision uint64
		version  string
	}
	first, compared := map[at]*instance{}, 0
	for _, i := range s.instances {
		k := at{i.Revision, i.Version}
		other := first[k]
		if other == nil {
			first[k] = i
			continue
		}
		compared++
		if other.Digest != i.Digest || other.Epoch != i.Epoch {
			return Check{Name: "service.states", Result: Fail, Found: fmt.Sprintf("%s and %s do not hold the same at revision %d", other.name(), i.name(), i.Revision),
				Means: "one of them answers wrongly (G14)", Do: tellDefect}
		}
	}
	if compared == 0 && len(s.instances) > 1 {
		return needs("service.states", "two instances at the same revision: try again, or run presencectl verify")
	}
	if compared == 0 {
		return Check{Name: "service.states", Result: OK, Found: "there is one instance, so none differs; presencectl verify compares it with the journal"}
	}
	return Check{Name: "service.states", Result: OK, Found: fmt.Sprintf("instances that were compared at one revision hold the same: %d", compared+1)}
}

func (s *served) judgePositions() Check {
	told := s.told()
	if len(told) == 0 {
		return needs("service.positions", newerVersion)
	}
	least, most := told[0], told[0]
	for _, i := range told {
		if i.Vitals.Position < least.Vitals.Position {
			least = i
		}
		if i.Vitals.Position > most.Vitals.Position {
			most = i
		}
	}
	behind := most.Vitals.Position - least.Vitals.Position
	c := Check{Name: "service.positions", Result: OK, Found: fmt.Sprintf("the journal is applied up to position %d", most.Vitals.Position)}
	if len(told) > 1 {
		c.Found += fmt.Sprintf(", all instances within %d of it", behind)
	}
	if behind > farBehind {
		c.Result, c.Found = Warn, fmt.Sprintf("%s is %s journal entries behind %s", least.name(), humanize.Comma(int64(behind)), most.name())
		c.Means, c.Do = "it catches up, or is too slow", "look at its processor; see its lag below"
	}
	return c
}

func (s *served) judgeFormat() Check {
	told := s.told()
	if len(told) == 0 {
		return needs("service.format", newerVersion)
	}
	of := map[string][]string{}
	for _, i := range told {
		of[fmt.Sprint(i.Vitals.MaxFormat)] = append(of[fmt.Sprint(i.Vitals.MaxFormat)], i.name())
	}
	inUse := told[0].Vitals.Format
	c := Check{Name: "service.format", Result: OK, Found: fmt.Sprintf("format %d of the journal is in use", inUse)}
	switch {
	case len(of) > 1:
		c.Result, c.Found = Warn, c.Found+"; instances know up to "+listed(of)
		c.Means, c.Do = "the newer format waits until every instance knows it", "finish the upgrade"
	case told[0].Vitals.MaxFormat > inUse:
		c.Found += fmt.Sprintf("; %d comes into force about a minute after the last older instance has gone", told[0].Vitals.MaxFormat)
	}
	return c
}

// judgeOwed looks for changes that nobody announces. Instances announce what a dead one owes.
func (s *served) judgeOwed() Check {
	c := Check{Name: "service.owed", Result: OK, Found: "changes are announced"}
	if s.err != nil {
		return needs("service.owed", "an answer to stats")
	}
	owed, dead := 0, 0
	for _, i := range s.stats.Instances {
		owed += i.Owes
		if time.Duration(i.SilentMs)*time.Millisecond > owedTooLong {
			dead += i.Owes
		}
	}
	switch {
	case dead > 0:
		c.Result, c.Found = Warn, fmt.Sprintf("an instance that is gone owes announcements, and no other makes them: %s", humanize.Comma(int64(dead)))
		c.Means, c.Do = "watchers have not heard of these changes", "see that an instance is ready, and may publish on status.> (/readyz)"
	case owed > manyOwed:
		c.Result, c.Found = Warn, fmt.Sprintf("%s changes are not known to be announced", humanize.Comma(int64(owed)))
		c.Means, c.Do = "watchers hear of changes late; those of 5 s are normal", "look at the load, and at the permissions of presenced (/readyz)"
	case owed > 0:
		c.Found = fmt.Sprintf("%s changes are being announced; those of 5 s are normal", humanize.Comma(int64(owed)))
	}
	return c
}

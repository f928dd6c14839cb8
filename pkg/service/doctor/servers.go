package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/nats-io/nats.go"
)

// varz is what a NATS server tells of itself: what is used here of its answer to VARZ.
type varz struct {
	Server struct {
		Name string `json:"name"`
	} `json:"server"`
	Data struct {
		Name         string        `json:"server_name"`
		Version      string        `json:"version"`
		PingInterval time.Duration `json:"ping_interval"`
		PingMax      int           `json:"ping_max"`
		Now          time.Time     `json:"now"`
		JetStream    struct {
			Config *struct {
				MaxStore   int64 `json:"max_storage"`
				SyncAlways bool  `json:"sync_always"`
			} `json:"config"`
			Stats *struct {
				Store int64 `json:"storage"`
			} `json:"stats"`
		} `json:"jetstream"`
	} `json:"data"`
}

func (v *varz) name() string {
	if v.Data.Name != "" {
		return v.Data.Name
	}
	return v.Server.Name
}

const askServers = "$SYS.REQ.SERVER.PING.VARZ"

// lookAtServers looks at the NATS servers, with the credentials of the system account.
func (x *examination) lookAtServers(ctx context.Context) {
	if x.cfg.System == nil {
		return
	}
	f := &x.server
	nc, err := dial(ctx, x.cfg.System)
	if err != nil {
		f.failed("servers", err)
		return
	}
	defer nc.Close()
	list, err := askAllServers(ctx, nc)
	if err != nil {
		f.failed("servers", err)
		return
	}
	judgeServers(f, list)
}

// askAllServers asks every server, and waits settle after the last answer.
func askAllServers(ctx context.Context, nc *nats.Conn) (list []varz, err error) {
	a := newAsker(nc, "")
	err = a.gather(ctx, askServers, func(data []byte) bool {
		var v varz
		if json.Unmarshal(data, &v) == nil && v.name() != "" {
			list = append(list, v)
		}
		return true
	})
	switch {
	case len(list) > 0:
		slices.SortFunc(list, func(a, b varz) int { return strings.Compare(a.name(), b.name()) })
		return list, nil
	case errors.Is(err, errRefused):
		return nil, &Problem{Found: "these credentials may not ask on " + askServers, Means: "presenced's own for the system account cannot either",
			Do: "give a user of the system account who may: nats-server's default user there can"}
	}
	return nil, &Problem{Found: "no NATS server answers on " + askServers, Means: "these credentials are not of the system account", Do: "give --system-creds of that account"}
}

// judgeServers compares the servers, and makes checks of what they tell.
func judgeServers(f *findings, list []varz) {
	versions, lazy, without := map[string][]string{}, []string(nil), 0
	slowest := &list[0]
	for k := range list {
		v := &list[k]
		versions[v.Data.Version] = append(versions[v.Data.Version], v.name())
		if v.silence() > slowest.silence() {
			slowest = v
		}
		switch config := v.Data.JetStream.Config; {
		case config == nil:
			without++
		case !config.SyncAlways:
			lazy = append(lazy, v.name())
		}
	}
	c := Check{Name: "servers.versions", Result: OK, Found: fmt.Sprintf("%s: version %s", counted(len(list), "NATS server"), strings.Join(slices.Sorted(maps.Keys(versions)), ", "))}
	if len(versions) > 1 {
		c.Result, c.Found = Warn, "the NATS servers' versions differ: "+listed(versions)
		c.Means, c.Do = "an upgrade is not finished", "replace the older ones, one after the other"
	}
	f.add(c)
	c = judgePings("servers.pings", slowest.Data.PingInterval, slowest.Data.PingMax)
	if c.Result == Warn && len(list) > 1 {
		c.Found += " (" + slowest.name() + ")"
	}
	f.add(c)
	c = Check{Name: "servers.sync", Result: OK, Found: "every write is on the disk before it is acknowledged"}
	if len(lazy) > 0 {
		c.Result, c.Found = Warn, "the operating system flushes what is stored: "+strings.Join(lazy, ", ")
		c.Means, c.Do = "a power loss may cost the last minutes, of all servers at the same time even with replicas", "jetstream { sync_interval: always } on the NATS servers"
	}
	if without == len(list) {
		c.Result, c.Found = Fail, "no NATS server has JetStream"
		c.Means, c.Do = "the journal needs it", "jetstream: enabled on the NATS servers"
	}
	f.add(c)
	f.add(judgeStores(list))
}

func (v *varz) silence() time.Duration { return v.Data.PingInterval * time.Duration(v.Data.PingMax+1) }

// judgeStores looks at how full the stores are, by JetStream's own limit.
func judgeStores(list []varz) Check {
	c := Check{Name: "servers.store", Result: OK, Found: "the stores have room"}
	for _, v := range list {
		config, stats := v.Data.JetStream.Config, v.Data.JetStream.Stats
		if config == nil || stats == nil || config.MaxStore <= 0 {
			continue
		}
		if part := float64(stats.Store) / float64(config.MaxStore); part > 0.9 {
			c.Result = Warn
			c.Found = fmt.Sprintf("the store of %s is full to %.0f %% of its limit of %s", v.name(), 100*part, humanize.IBytes(uint64(config.MaxStore)))
			c.Means, c.Do = "changes are refused when the limit is reached", "raise jetstream { max_file_store }, or make space"
		}
	}
	return c
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// lookPayloadEvery is how often the servers are asked for their max_payload.
	lookPayloadEvery = 10 * time.Second
	// lookPayloadWithin bounds one such question.
	lookPayloadWithin = 2 * time.Second
	// maxInfo bounds what a server says of itself at first.
	maxInfo = 64 << 10
)

// payloadWatch notices that a server of somebody else takes larger or smaller messages
// than before, after a reload. The server tells nobody who is connected. One that is
// too large then closes the connection for good, and one that would fit is refused by
// nats.go. Whoever connects anew learns it, so the connections reconnect.
//
// It reads what a server says before anybody logs in. Where the connection is over TLS
// or WebSocket it does not look: the server would log an error each time. There a limit
// that was raised again is known from the next reconnect on.
type payloadWatch struct {
	conns []*nats.Conn
	log   *slog.Logger
	known map[*nats.Conn]payloads // when it was looked last; of those that were connected
}

// payloads are what a server says it takes, and what a connection to it takes. They
// differ after a reload, and where an account has a limit of its own.
type payloads struct{ server, conn int64 }

// run looks until ctx is done.
func (w *payloadWatch) run(ctx context.Context) {
	ticker := time.NewTicker(lookPayloadEvery)
	defer ticker.Stop()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// look has a connection reconnect that takes another size than its server says. Where
// that is so at the first look, or after the reconnect too, it is the account's limit.
// What the server said before is not enough to know: the limit can be lowered and raised
// again between two looks, and a connection made meanwhile.
func (w *payloadWatch) look(ctx context.Context) {
	said := map[string]int64{} // by the server's ID; 0: not known
	known := map[*nats.Conn]payloads{}
	for _, nc := range w.conns {
		id := nc.ConnectedServerId()
		if id == "" || !plain(nc) {
			continue
		}
		payload, asked := said[id]
		if !asked {
			server, n, err := maxPayload(ctx, nc.ConnectedAddr())
			if err == nil && server == id { // not another one behind the same address
				payload = n
			}
			said[id] = payload
		}
		was, before := w.known[nc]
		now := payloads{payload, nc.MaxPayload()}
		if payload == 0 {
			now = was
		}
		known[nc] = now
		if before && now != was && now.server != now.conn {
			w.log.Warn("the NATS server takes messages of another size than this connection: reconnecting",
				"server", nc.ConnectedServerName(), "max_payload", now.server, "before", now.conn)
			_ = nc.ForceReconnect() // which fails where it is closed, and that is noticed elsewhere
		}
	}
	w.known = known
}

// plain reports whether a connection is over TCP alone.
func plain(nc *nats.Conn) bool {
	_, err := nc.TLSConnectionState()
	return err != nil && !strings.HasPrefix(nc.ConnectedUrl(), "ws")
}

// maxPayload asks a server what it says to those who connect.
func maxPayload(ctx context.Context, address string) (server string, payload int64, err error) {
	dialer := net.Dialer{Timeout: lookPayloadWithin}
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", 0, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := c.SetDeadline(time.Now().Add(lookPayloadWithin)); err != nil {
		return "", 0, err
	}
	line, err := bufio.NewReader(io.LimitReader(c, maxInfo)).ReadBytes('\n')
	if err != nil {
		return "", 0, err
	}
	var info struct {
		ServerID   string `json:"server_id"`
		MaxPayload int64  `json:"max_payload"`
	}
	err = json.Unmarshal(bytes.TrimPrefix(line, []byte("INFO ")), &info)
	return info.ServerID, info.MaxPayload, err
}

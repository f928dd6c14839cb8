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
	// maxInfo bounds the first line that a server sends.
	maxInfo = 64 << 10
)

// payloadWatch notices that a server takes larger or smaller messages than before, after a
// reload. The server does not tell those who are connected. Afterwards a message that is
// too large closes the connection for good, and nats.go refuses one that would fit. A new
// connection learns the limit, so the connections reconnect.
//
// It reads the line that a server sends before a login. It does not do so over TLS or
// WebSocket, where the server would log an error each time. There a higher limit is known
// from the next reconnect on.
type payloadWatch struct {
	conns []*nats.Conn
	log   *slog.Logger
	known map[*nats.Conn]payloads // at the last look, of those that were connected
}

// payloads are the limit of a server, and the limit that a connection to it knows. They
// differ after a reload, and if an account has a limit of its own.
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

// look makes a connection reconnect if its limit differs from its server's. If they differ
// at the first look already, or still after the reconnect, it is the account's limit. It
// is not enough to compare with what the server said before: the limit can be lowered and
// raised again between two looks, and a connection be made in between.
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
			if err == nil && server == id { // and not another server behind the same address
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
			_ = nc.ForceReconnect() // it fails only if it is closed, which is noticed elsewhere
		}
	}
	w.known = known
}

// plain reports whether a connection is over TCP alone.
func plain(nc *nats.Conn) bool {
	_, err := nc.TLSConnectionState()
	return err != nil && !strings.HasPrefix(nc.ConnectedUrl(), "ws")
}

// maxPayload connects to a server, and reads its ID and its limit.
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

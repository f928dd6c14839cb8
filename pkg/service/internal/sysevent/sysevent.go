// Package sysevent reads what a NATS server publishes in the system account about connections:
//
//	$SYS.ACCOUNT.<account>.DISCONNECT   Closed
//	$SYS.REQ.SERVER.<id>.CONNZ          Connections, of the answer
//	$SYS.REQ.SERVER.PING                Server, of each answer
//	$SYS.SERVER.<id>.LAMEDUCK           LameDuck
//
// It believes no more than which connections of which server there are. A client chooses its names
// itself.
package sysevent

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"presence/pkg/protocol"
)

// Closed reads the report of a closed connection.
func Closed(data []byte) (server string, client uint64, err error) {
	var event struct {
		Server struct {
			ID string `json:"id"`
		} `json:"server"`
		Client struct {
			ID uint64 `json:"id"`
		} `json:"client"`
	}
	if err := json.Unmarshal(data, &event); err != nil {
		return "", 0, err
	}
	if event.Server.ID == "" || len(event.Server.ID) > protocol.MaxServerIDBytes || event.Client.ID == 0 {
		return "", 0, errors.New("it names no connection")
	}
	return event.Server.ID, event.Client.ID, nil
}

// Server reads which server answers a ping.
func Server(data []byte) (id string, err error) {
	var reply struct {
		Server struct {
			ID string `json:"id"`
		} `json:"server"`
	}
	if err := json.Unmarshal(data, &reply); err != nil {
		return "", err
	}
	if reply.Server.ID == "" || len(reply.Server.ID) > protocol.MaxServerIDBytes {
		return "", errors.New("it names no server")
	}
	return reply.Server.ID, nil
}

// LameDuck reads which server shuts down, from the subject of its report.
func LameDuck(subject string) (id string, err error) {
	id, before := strings.CutPrefix(subject, "$SYS.SERVER.")
	id, after := strings.CutSuffix(id, ".LAMEDUCK")
	if !before || !after || id == "" || len(id) > protocol.MaxServerIDBytes || strings.Contains(id, ".") {
		return "", fmt.Errorf("the subject %q names no server", subject)
	}
	return id, nil
}

// Connections reads the IDs of a server's connections from its answer, in its order.
func Connections(data []byte, server string) ([]uint64, error) {
	var reply struct {
		Server struct {
			ID string `json:"id"`
		} `json:"server"`
		Data struct {
			Connections []struct {
				CID uint64 `json:"cid"`
			} `json:"connections"`
		} `json:"data"`
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &reply); err != nil {
		return nil, fmt.Errorf("reading the connections of server %s: %w", server, err)
	}
	switch {
	case reply.Error != nil:
		return nil, fmt.Errorf("server %s did not list its connections: %s", server, reply.Error.Description)
	case reply.Server.ID != server:
		return nil, fmt.Errorf("%q answered for server %s", reply.Server.ID, server)
	}
	ids := make([]uint64, len(reply.Data.Connections))
	for i, c := range reply.Data.Connections {
		ids[i] = c.CID
	}
	return ids, nil
}

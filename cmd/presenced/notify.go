package main

import (
	"log/slog"
	"net"
	"os"
)

// notify tells systemd the state of the daemon, if it runs as a unit with Type=notify
// (sd_notify(3)). Otherwise it does nothing.
func notify(log *slog.Logger, state string) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	// A name that begins with @ is abstract; package net knows that.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		conn.Close()
	}
	if err != nil {
		log.Warn("systemd cannot be told", "state", state, "err", err)
	}
}

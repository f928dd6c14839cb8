package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"presence/pkg/protocol"
)

// withFigures are arguments by which presenced says its figures by HTTP.
var withFigures = []string{"--http", "127.0.0.1:0"}

// figuresWithin bounds the wait for them.
const figuresWithin = 10 * time.Second

// figure asks a presenced that has withFigures for one of them; labels are part
// of its name.
func (t *target) figure(name string) (float64, error) {
	client := http.Client{Timeout: figuresWithin}
	address := figuresLine.FindStringSubmatch(t.Stderr())
	if address == nil {
		return 0, errors.New("presenced says no figures")
	}
	res, err := client.Get("http://" + address[1] + "/metrics")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	value, ok := findFigure(string(text), name)
	if !ok {
		return 0, fmt.Errorf("presenced says no figure %s", name)
	}
	return value, nil
}

// findFigure finds the value of a figure in Prometheus' text format.
func findFigure(text, name string) (float64, bool) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name+" ")
		if !ok {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
		return value, err == nil
	}
	return 0, false
}

// announcedWithin bounds the wait for an instance to owe nobody an event: some
// seconds more than it is owed for.
const announcedWithin = time.Minute

// awaitAnnounced waits until no instance owes an event: each is kept in memory
// for some seconds longer than it takes to send it.
func awaitAnnounced(ctx context.Context, nc *nats.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, announcedWithin)
	defer cancel()
	for {
		owed, err := owedEvents(nc)
		if err != nil || owed == 0 {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%d events are still owed", owed), ctx.Err())
		}
	}
}

// owedEvents counts what the instances have to announce for certain yet.
func owedEvents(nc *nats.Conn) (owed int, err error) {
	body, err := requestBody(nc, subjects.Stats(), []byte("{}"))
	if err != nil {
		return 0, err
	}
	var stats protocol.StatsReply
	if err := json.Unmarshal(body, &stats); err != nil {
		return 0, err
	}
	for _, i := range stats.Instances {
		owed += i.Owes
	}
	return owed, nil
}

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

// withFigures are arguments by which presenced serves its figures over HTTP.
var withFigures = []string{"--http", "127.0.0.1:0"}

// figuresWithin bounds the wait for them.
const figuresWithin = 10 * time.Second

// figure asks a presenced with withFigures for one of them, by its name and labels.
func (t *target) figure(name string) (float64, error) {
	text, err := t.figures()
	if err != nil {
		return 0, err
	}
	value, ok := findFigure(text, name)
	if !ok {
		return 0, fmt.Errorf("presenced serves no figure %s", name)
	}
	return value, nil
}

// figures asks a presenced with withFigures for all of them.
func (t *target) figures() (string, error) {
	client := http.Client{Timeout: figuresWithin}
	address := figuresLine.FindStringSubmatch(t.Stderr())
	if address == nil {
		return "", errors.New("presenced serves no figures")
	}
	res, err := client.Get("http://" + address[1] + "/metrics")
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return string(text), err
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

// announcedWithin bounds the wait of awaitAnnounced. It takes some seconds, and minutes after ten
// million logins.
const announcedWithin = 10 * time.Minute

// awaitAnnounced waits until all changes are known to be announced. Until then each takes
// memory, for some seconds after its event was sent.
func awaitAnnounced(ctx context.Context, nc *nats.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, announcedWithin)
	defer cancel()
	for {
		pending, err := unannounced(nc)
		if err != nil || pending == 0 {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%d changes are not announced", pending), ctx.Err())
		}
	}
}

// unannounced counts the changes that are not yet known to be announced.
func unannounced(nc *nats.Conn) (pending int, err error) {
	body, err := requestBody(nc, subjects.Stats(), []byte("{}"))
	if err != nil {
		return 0, err
	}
	var stats protocol.StatsReply
	if err := json.Unmarshal(body, &stats); err != nil {
		return 0, err
	}
	for _, i := range stats.Instances {
		pending += i.Owes
	}
	return pending, nil
}

package service

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"presence/pkg/protocol"
	"presence/pkg/protocol/schema"
)

// Discovery of NATS micro services, by which "nats service" finds, lists and
// measures this one:
//
//	$SRV.PING  $SRV.PING.presence  $SRV.PING.presence.<instance>    who is there
//	$SRV.INFO …                                                  its endpoints
//	$SRV.STATS …                                                 their figures
//
// Only the messages of nats.go's micro framework are used. The framework itself does not fit. It
// counts an answer that comes after its handler has returned as instant and successful. It can
// neither give up nor renew a single subscription. And it answers on any reply subject.

// discovery returns the subscriptions of discovery. Every instance answers.
func (s *Service) discovery() (subscriptions []*subscription) {
	identity := micro.ServiceIdentity{
		Name: protocol.ServiceName, ID: s.instance, Version: s.cfg.Version,
		Metadata: map[string]string{"protocol": "1", "prefix": s.subjects.Prefix()},
	}
	started := time.Now().UTC()
	for verb, answer := range map[micro.Verb]func() any{
		micro.PingVerb:  func() any { return micro.Ping{ServiceIdentity: identity, Type: micro.PingResponseType} },
		micro.InfoVerb:  func() any { return s.microInfo(identity) },
		micro.StatsVerb: func() any { return s.microStats(identity, started) },
	} {
		for _, of := range [][2]string{{}, {identity.Name}, {identity.Name, identity.ID}} {
			subject, _ := micro.ControlSubject(verb, of[0], of[1]) // it fails only on bad arguments
			subscriptions = append(subscriptions, &subscription{subject: subject, handle: s.discovered(answer)})
		}
	}
	return subscriptions
}

// discovered returns a handler that answers on the connection that the request came by.
func (s *Service) discovered(answer func() any) nats.MsgHandler {
	return func(m *nats.Msg) {
		if m.Reply == "" || !s.subjects.ReplyAllowed(m.Reply) {
			return
		}
		data, err := json.Marshal(answer())
		if err == nil {
			err = m.Respond(data)
		}
		if err != nil && s.unsent.Due(time.Now()) {
			s.log.Warn("a reply could not be sent", "subject", m.Subject, "err", err)
		}
	}
}

// Metadata of an endpoint in $SRV.INFO: the names of its schemas in package schema, and the schemas.
const (
	requestName   = "request"
	replyName     = "reply"
	requestSchema = "request_schema"
	replySchema   = "reply_schema"
)

// microInfo tells the endpoints, with their schemas. These take about 50 KiB. Where the NATS server
// takes no message of that size they are left out, and the names of the schemas remain.
func (s *Service) microInfo(identity micro.ServiceIdentity) micro.Info {
	info := micro.Info{ServiceIdentity: identity, Type: micro.InfoResponseType, Description: "User presence: online state and custom status"}
	for _, e := range s.endpoints {
		info.Endpoints = append(info.Endpoints, micro.EndpointInfo{Name: e.name, Subject: e.subject, QueueGroup: e.queue(), Metadata: metadata(e.name)})
	}
	// What does not fit closes the connection.
	if text, err := json.Marshal(info); err != nil || int64(len(text)) > s.cfg.Clients.MaxPayload() {
		for _, e := range info.Endpoints {
			delete(e.Metadata, requestSchema)
			delete(e.Metadata, replySchema)
		}
	}
	return info
}

func metadata(endpoint string) map[string]string {
	for _, e := range schema.Endpoints {
		if e.Name == endpoint {
			return map[string]string{
				requestName: e.Request, requestSchema: schema.Text(e.Request),
				replyName: e.Reply, replySchema: schema.Text(e.Reply),
			}
		}
	}
	return nil
}

func (s *Service) microStats(identity micro.ServiceIdentity, started time.Time) micro.Stats {
	stats := micro.Stats{ServiceIdentity: identity, Type: micro.StatsResponseType, Started: started}
	for _, e := range s.endpoints {
		stats.Endpoints = append(stats.Endpoints, e.microStats())
	}
	return stats
}

// EndpointStats are the figures of an endpoint that "nats service stats" shows as its data. It has
// no columns for them.
type EndpointStats struct {
	Requests     uint64            `json:"requests"`
	Errors       uint64            `json:"errors"`
	ErrorsByName map[string]uint64 `json:"errorsByName,omitempty"`
	// AverageMs is the time from arrival to reply, in milliseconds.
	AverageMs float64 `json:"averageMs"`
	// Dropped and Unanswered are those of EndpointFigures.
	Dropped    uint64 `json:"dropped,omitempty"`
	Unanswered uint64 `json:"unanswered,omitempty"`
}

func (e *endpoint) microStats() *micro.EndpointStats {
	f := e.stats.figures(e.name)
	data := EndpointStats{Requests: f.Requests, ErrorsByName: f.Errors, Dropped: f.Dropped, Unanswered: f.Unanswered}
	for _, n := range f.Errors {
		data.Errors += n
	}
	out := &micro.EndpointStats{
		Name: e.name, Subject: e.subject, QueueGroup: e.queue(),
		NumRequests: int(data.Requests), NumErrors: int(data.Errors), ProcessingTime: f.Latency.Sum,
	}
	if f.Requests > 0 {
		out.AverageProcessingTime = f.Latency.Sum / time.Duration(f.Requests)
		data.AverageMs = out.AverageProcessingTime.Seconds() * 1e3
	}
	if f.LastError != nil {
		out.LastError = strconv.Itoa(f.LastError.Code) + ":" + f.LastError.Name // its message may name a user
	}
	out.Data, _ = json.Marshal(data)
	return out
}

// queue is the endpoint's queue group: one of its members answers. Empty: all instances answer.
func (e *endpoint) queue() string {
	if e.everyone {
		return ""
	}
	return protocol.ServiceName
}

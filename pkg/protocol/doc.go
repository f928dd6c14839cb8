// Package protocol is the wire contract of the presence service: the
// subjects, the JSON bodies, the errors and the limits that a client in any
// language sees over NATS.
//
//	s := protocol.NewSubjects("")               // the default prefix, presence.v1
//	subject, err := s.Set("alice@example.com")  // presence.v1.user.alice=40example=2Ecom.set
//	body, err := protocol.Marshal(protocol.SetRequest{CustomStatus: protocol.Ptr("in a meeting")})
//
// PROTOCOL.md in this directory is normative; comments name its sections as
// "PROTOCOL 4.2". The package is a leaf: it imports the standard library only,
// does no I/O, starts no goroutine, and everything in it is safe for concurrent
// use. The golden files in testdata pin every message.
package protocol

// Package api stands between the wire and the state machine. It makes commands of requests, and
// replies of what the state machine says. The service and the client's test kit both use it, so
// that a request means the same in both.
//
//	if err := r.Check(); err != nil { … }            // package protocol checks requests
//	command := api.Login("alice", &r, true)          // goes into an entry
//	out, err := s.Apply(&e, position, time, true)    // package state applies it
//	reply := api.RepliesOf(s).Login(&out.Results[0]) // goes to the client
//
// Queries need no command: see Queries. The package does no I/O, starts no goroutines and knows no
// clock. One thing is random: the ID of a session if its login names none.
package api

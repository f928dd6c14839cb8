// Package differential compares the state machine with an earlier one, which keeps everything
// in objects with pointers. Random journals go through both. Their results, announcements and
// digests must be equal at every position.
//
// The files whose names begin with old are the state machine of format 3 as it was then. They
// are not maintained: a rule that is new since is not compared.
package differential

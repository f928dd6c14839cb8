// Package tuple is an entry whose commands are MessagePack arrays: every field
// takes at least a byte, no field takes a name.
package tuple

//msgp:clearomitted

//go:generate go tool msgp -tests=false -io=false -unexported

//msgp:tuple Entry
type Entry struct {
	Header   Header
	Renewed  []uint32  `msg:",limit=4095"`
	Commands []Command `msg:",limit=4095"`
}

//msgp:tuple Header
type Header struct {
	Epoch      string
	Generation uint32
	Writer     string
	Sequence   uint64
	LeaseClock int64
	Latest     int64
	Flushed    uint64
	Knows      uint8
	DigestAt   uint64
	Digest     uint64
}

//msgp:tuple Command
type Command struct {
	Kind          uint8
	User          string
	Session       string
	Device        string
	Platform      string
	TTL           uint32
	Idle          bool
	SetIdle       bool
	All           bool
	Server        string
	Client        uint64
	Text          string
	Expires       int64
	IfRevision    uint64
	CheckRevision bool
	Params        *Params
}

//msgp:tuple Params
type Params struct {
	Grace      int64
	Retention  int64
	Persistent bool
}

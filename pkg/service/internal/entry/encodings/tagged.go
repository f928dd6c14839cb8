package encodings

// entryT is an entry for the libraries that read struct tags: an array for what
// every entry has and, for a command, a map of small keys without what is absent.
type entryT struct {
	_        struct{}   `cbor:",toarray"`
	_msgpack struct{}   `msgpack:",as_array"` // read by vmihailenco/msgpack
	Header   headerT    `json:"h"`
	Renewed  []uint32   `json:"r,omitempty"`
	Commands []commandT `json:"c,omitempty"`
}

type headerT struct {
	_          struct{} `cbor:",toarray"`
	_msgpack   struct{} `msgpack:",as_array"` // read by vmihailenco/msgpack
	Epoch      string   `json:"e"`
	Generation uint32   `json:"g"`
	Writer     string   `json:"w"`
	Sequence   uint64   `json:"s"`
	LeaseClock int64    `json:"l"`
	Latest     int64    `json:"t"`
	Flushed    uint64   `json:"f"`
	Knows      uint8    `json:"k"`
	DigestAt   uint64   `json:"p"`
	Digest     uint64   `json:"d"`
}

type commandT struct {
	Kind          uint8    `cbor:"1,keyasint" msgpack:"k" json:"k"`
	User          string   `cbor:"2,keyasint,omitempty" msgpack:"u,omitempty" json:"u,omitempty"`
	Session       string   `cbor:"3,keyasint,omitempty" msgpack:"s,omitempty" json:"s,omitempty"`
	Device        string   `cbor:"4,keyasint,omitempty" msgpack:"d,omitempty" json:"d,omitempty"`
	Platform      string   `cbor:"5,keyasint,omitempty" msgpack:"p,omitempty" json:"p,omitempty"`
	TTL           uint32   `cbor:"6,keyasint,omitempty" msgpack:"t,omitempty" json:"t,omitempty"`
	Idle          bool     `cbor:"7,keyasint,omitempty" msgpack:"i,omitempty" json:"i,omitempty"`
	SetIdle       bool     `cbor:"8,keyasint,omitempty" msgpack:"j,omitempty" json:"j,omitempty"`
	All           bool     `cbor:"9,keyasint,omitempty" msgpack:"a,omitempty" json:"a,omitempty"`
	Server        string   `cbor:"10,keyasint,omitempty" msgpack:"n,omitempty" json:"n,omitempty"`
	Client        uint64   `cbor:"11,keyasint,omitempty" msgpack:"c,omitempty" json:"c,omitempty"`
	Text          string   `cbor:"12,keyasint,omitempty" msgpack:"x,omitempty" json:"x,omitempty"`
	Expires       int64    `cbor:"13,keyasint,omitempty" msgpack:"e,omitempty" json:"e,omitempty"`
	IfRevision    uint64   `cbor:"14,keyasint,omitempty" msgpack:"r,omitempty" json:"r,omitempty"`
	CheckRevision bool     `cbor:"15,keyasint,omitempty" msgpack:"v,omitempty" json:"v,omitempty"`
	Params        *paramsT `cbor:"16,keyasint,omitempty" msgpack:"o,omitempty" json:"o,omitempty"`
}

type paramsT struct {
	Grace      int64 `cbor:"1,keyasint" msgpack:"g" json:"g"`
	Retention  int64 `cbor:"2,keyasint" msgpack:"r" json:"r"`
	Persistent bool  `cbor:"3,keyasint" msgpack:"p" json:"p"`
}

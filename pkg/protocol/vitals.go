package protocol

// Vitals is how an instance is doing, as it sees it itself at the moment of the reply
// (PROTOCOL 4.9). Times are in seconds, sizes in bytes. Counts begin at the instance's start.
type Vitals struct {
	// Clock is the clock of the instance's machine when it made the reply.
	Clock         Time    `json:"clock"`
	UptimeSeconds float64 `json:"uptimeSeconds"`
	// Position is that of the last journal entry applied. LagSeconds is how long ago the state was
	// known to be as of the journal's end: beyond StaleAfter the instance is stale.
	Position   uint64  `json:"position"`
	LagSeconds float64 `json:"lagSeconds"`
	// Format is that of the journal in use, MaxFormat the newest that the instance knows.
	Format    int `json:"format"`
	MaxFormat int `json:"maxFormat"`
	// Impaired says what does not work although the instance should get requests.
	Impaired string `json:"impaired,omitempty"`
	// SystemAccount says that the instance hears of closed connections at once. Without it a
	// killed client is noticed by its TTL.
	SystemAccount bool `json:"systemAccount"`
	// Waiting counts callers whose change is not applied yet, Owes changes that are not yet
	// known to be announced.
	Waiting int `json:"waiting"`
	Owes    int `json:"owes"`
	// Mismatches counts digests in the journal that were not this instance's. Any is a defect.
	Mismatches uint64 `json:"mismatches"`
	// Refusals counts the errors answered, by name.
	Refusals map[string]uint64 `json:"refusals"`
	// Rules are those that the instance was given, by the names of their flags. In force are
	// those of the instance that started last.
	Rules map[string]string `json:"rules"`
	// Snapshot is the newest one; nil: there is none.
	Snapshot *SnapshotVitals `json:"snapshot,omitempty"`
	// Journal is the journal's stream; nil until the instance has looked at it.
	Journal *JournalVitals `json:"journal,omitempty"`
	// Server is the NATS server inside the instance's process; nil where there is none.
	Server *ServerVitals `json:"server,omitempty"`
}

// SnapshotVitals is about a stored snapshot.
type SnapshotVitals struct {
	Position   uint64  `json:"position"`
	Bytes      uint64  `json:"bytes"`
	AgeSeconds float64 `json:"ageSeconds"` // since it was stored
}

// JournalVitals is about the journal's stream, as of some seconds ago.
type JournalVitals struct {
	First    uint64 `json:"first"` // positions of the first and last entry
	Last     uint64 `json:"last"`
	Bytes    uint64 `json:"bytes"`
	Replicas int    `json:"replicas"`
}

// ServerVitals is about a NATS server that runs in the process of an instance.
type ServerVitals struct {
	Version string `json:"version"`
	// SyncAlways says that every write is on the disk before it is acknowledged.
	SyncAlways bool `json:"syncAlways"`
	// A connection that has gone silent is closed after PingIntervalSeconds × (PingMax + 1).
	PingIntervalSeconds float64 `json:"pingIntervalSeconds"`
	PingMax             int     `json:"pingMax"`
	// FreeBytes of DiskBytes are free on the disk of the store. Both are 0 where that cannot be
	// told.
	FreeBytes uint64 `json:"freeBytes"`
	DiskBytes uint64 `json:"diskBytes"`
}

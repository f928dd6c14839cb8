package natsconfig

import (
	"fmt"
	"time"

	"presence/pkg/protocol"
)

// Issued is one more NATS user. One of Entry and File is the whole of it.
type Issued struct {
	// Name is what the NATS server calls it, and InboxPrefix where its answers
	// arrive.
	Name, InboxPrefix string
	// Entry is for the list of users of account APP, and Secret the password or
	// seed of it: for Password and NKey.
	Entry, Secret string
	// File is the credentials: for JWT, where the NATS server need not be told.
	File File
}

// Issue makes one more client. dir is where Generate's files are, and expires when
// the credentials end, 0 for never: both are for JWT.
func Issue(auth Auth, c Client, prefix, dir string, expires time.Duration) (Issued, error) {
	u, err := client(protocol.NewSubjects(prefix), c)
	if err != nil {
		return Issued{}, err
	}
	issued := Issued{Name: u.name, InboxPrefix: u.role.InboxPrefix(u.name)}
	switch auth {
	case Password, NKey:
		issued.Entry, issued.Secret, err = u.entry(auth)
	case JWT:
		issued.File.Name = u.file + auth.ending()
		issued.File.Data, err = issueJWT(dir, u, expires)
	default:
		err = fmt.Errorf("there is no authentication %q", auth)
	}
	return issued, err
}

package natsconfig

import (
	"fmt"
	"time"

	"presence/pkg/protocol"
)

// Issued is one more NATS user.
type Issued struct {
	// Name is its name in the NATS server. Its answers arrive below InboxPrefix.
	Name, InboxPrefix string
	// Entry, with Password and NKey, is for the list of users of account APP. Secret is
	// the password or the seed.
	Entry, Secret string
	// File, with JWT, has the credentials. The NATS server need not be told.
	File File
}

// Issue makes one more client. dir and expires are for JWT: the directory of Generate's
// files, and how long the credentials are valid; 0 is for ever.
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

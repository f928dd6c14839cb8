package natsconfig

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"presence/pkg/protocol"
)

// Request asks for one more client.
type Request struct {
	Auth   Auth
	Client Client
	// Prefix begins all subjects. Default protocol.DefaultPrefix.
	Prefix string
	// Dir is the directory of Generate's files. JWT needs its keys. Without it Password and
	// NKey make no files.
	Dir string
	// URL is where the client connects. Default: what the configuration in Dir says.
	URL string
	// Expires is how long the credentials of JWT are valid; 0 is for ever.
	Expires time.Duration
}

// Issued is one more NATS user.
type Issued struct {
	// Name is its name in the NATS server. Its answers arrive below InboxPrefix.
	Name, InboxPrefix string
	// Entry, with Password and NKey, is for the list of users of account APP. Secret is
	// the password or the seed.
	Entry, Secret string
	// Files have what the client needs: the credentials of JWT, which the NATS server need
	// not be told, or the seed, and a context of the nats command. They go to Dir.
	Files []File
}

// Issue makes one more client.
func Issue(r Request) (Issued, error) {
	r.Prefix = cmp.Or(r.Prefix, protocol.DefaultPrefix)
	u, err := client(protocol.NewSubjects(r.Prefix), r.Client)
	if err != nil {
		return Issued{}, err
	}
	issued := Issued{Name: u.name, InboxPrefix: u.role.InboxPrefix(u.name)}
	var secret File // empty: the password is in the context
	switch r.Auth {
	case Password, NKey:
		issued.Entry, issued.Secret, err = u.entry(r.Auth)
		if r.Auth == NKey {
			secret.Data = []byte(issued.Secret + "\n")
		}
	case JWT:
		secret.Data, err = issueJWT(r.Dir, u, r.Expires)
	default:
		err = fmt.Errorf("there is no authentication %q", r.Auth)
	}
	if err != nil || r.Dir == "" {
		return issued, err
	}
	if secret.Data != nil {
		secret.Name = u.file + r.Auth.ending()
		issued.Files = append(issued.Files, secret)
	}
	dir, err := filepath.Abs(r.Dir)
	if err != nil {
		return issued, err
	}
	context, err := u.context(r.Auth, dir, cmp.Or(r.URL, urlIn(dir)), issued.Secret, func(file string) bool {
		_, err := os.Lstat(filepath.Join(dir, file))
		return err == nil
	})
	issued.Files = append(issued.Files, context)
	return issued, err
}

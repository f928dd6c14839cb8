package natscontext

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// A secret is in a context as it is, or the context says where it is kept:
//
//	file:///home/alice/token       in a file
//	env://TOKEN                    in a variable of the environment
//	data:;base64,c2VjcmV0          here, encoded
//	op://vault/item/field          in 1Password, whose command "op" is run
//	nsc://operator/account/user    with nsc, which is run

// where splits such a reference into its scheme and the rest. For a text that is no
// reference the scheme is empty.
func where(text string) (scheme, rest string) {
	scheme, rest, found := strings.Cut(text, ":")
	if scheme = strings.ToLower(scheme); found {
		switch scheme {
		case "file", "env", "op", "nsc":
			if rest, found = strings.CutPrefix(rest, "//"); found {
				return scheme, rest
			}
		case "data":
			return scheme, rest
		}
	}
	return "", text
}

// fetch returns what a reference stands for. Its scheme is not file.
func fetch(ctx context.Context, scheme, rest string) ([]byte, error) {
	switch scheme {
	case "env":
		if value := os.Getenv(rest); value != "" {
			return []byte(value), nil
		}
		return nil, fmt.Errorf("the variable %s of the environment is not set or empty", rest)
	case "data":
		header, data, _ := strings.Cut(rest, ",")
		if !strings.HasSuffix(header, ";base64") {
			return nil, errors.New("the data is not base64: it must begin with data:;base64,")
		}
		return base64.StdEncoding.DecodeString(data)
	case "op":
		return output(ctx, "op", "read", "op://"+rest)
	default: // nsc
		p, err := nscProfile(ctx, rest)
		if err != nil {
			return nil, err
		}
		return os.ReadFile(p.Creds)
	}
}

// profile is what nsc says of a user.
type profile struct {
	Creds    string `json:"user_creds"`
	Operator struct {
		URLs []string `json:"service"`
	} `json:"operator"`
}

func nscProfile(ctx context.Context, name string) (p profile, err error) {
	_, name = where(name)
	out, err := output(ctx, "nsc", "generate", "profile", "nsc://"+name)
	if err == nil {
		err = unmarshal(out, &p)
	}
	if err == nil && p.Creds == "" {
		err = errors.New("nsc knows no credentials for it")
	}
	if err != nil {
		return p, fmt.Errorf("nsc://%s: %w", name, err)
	}
	return p, nil
}

// output runs a program and returns what it prints.
func output(ctx context.Context, name string, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(e.Stderr)))
	}
	return out, err
}

// secret returns the secret of a field: its text, or what that refers to.
func secret(ctx context.Context, field, text string) (string, error) {
	scheme, rest := where(text)
	var data []byte
	var err error
	switch scheme {
	case "":
		return text, nil
	case "file":
		data, err = os.ReadFile(expand(rest))
	default:
		data, err = fetch(ctx, scheme, rest)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", field, err)
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}

// file returns the path in a field that can only be a file.
func file(field, text string) (string, error) {
	scheme, rest := where(expand(text))
	if scheme != "" && scheme != "file" {
		return "", fmt.Errorf("%s: it must be a file, not a reference by %s", field, scheme)
	}
	return expand(rest), nil
}

// expand puts variables of the environment and home directories into a path, as a shell
// does: ~ is the user's own, ~bob is bob's. The ~ of a user who is not there stays.
func expand(path string) string {
	path = os.ExpandEnv(path)
	if !strings.HasPrefix(path, "~") {
		return path
	}
	name, rest, _ := strings.Cut(path[1:], "/")
	whose := user.Current
	if name != "" {
		whose = func() (*user.User, error) { return user.Lookup(name) }
	}
	u, err := whose()
	if err != nil {
		return path
	}
	return filepath.Join(u.HomeDir, rest)
}

// credentials are a user's JWT and seed.
func credentials(ctx context.Context, text string) (nats.Option, error) {
	if path, err := file("creds", text); err == nil {
		return nats.UserCredentials(path), nil
	}
	data, err := fetchExpanded(ctx, text)
	if err != nil {
		return nil, fmt.Errorf("creds: %w", err)
	}
	jwt, err := nkeys.ParseDecoratedJWT(data)
	if err != nil {
		return nil, fmt.Errorf("creds: %w", err)
	}
	pair, err := nkeys.ParseDecoratedNKey(data)
	if err != nil {
		return nil, fmt.Errorf("creds: %w", err)
	}
	return nats.UserJWT(func() (string, error) { return jwt, nil }, pair.Sign), nil
}

// nkey is a user's seed, of which the server knows the public key.
func nkey(ctx context.Context, text string) (nats.Option, error) {
	if path, err := file("nkey", text); err == nil {
		return nats.NkeyOptionFromSeed(path)
	}
	data, err := fetchExpanded(ctx, text)
	if err != nil {
		return nil, fmt.Errorf("nkey: %w", err)
	}
	pair, err := nkeys.ParseDecoratedNKey(data)
	if err != nil {
		return nil, fmt.Errorf("nkey: %w", err)
	}
	public, err := pair.PublicKey()
	return nats.Nkey(public, pair.Sign), err
}

func fetchExpanded(ctx context.Context, text string) ([]byte, error) {
	scheme, rest := where(expand(text))
	return fetch(ctx, scheme, rest)
}

// userJWT is a user's JWT, with the seed where the JWT is bound to a key.
func (c *Context) userJWT(ctx context.Context) (nats.Option, error) {
	jwt, err := secret(ctx, "user_jwt", c.UserJWT)
	if err != nil {
		return nil, err
	}
	if c.UserSeed == "" {
		return nats.UserJWT(func() (string, error) { return jwt, nil }, func([]byte) ([]byte, error) { return nil, nil }), nil
	}
	seed, err := secret(ctx, "user_seed", c.UserSeed)
	return nats.UserJWTAndSeed(jwt, seed), err
}

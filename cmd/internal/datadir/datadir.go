// Package datadir tells where presenced keeps its data.
package datadir

import (
	"errors"
	"os"
	"path/filepath"
)

// Default returns the directory for data of a presenced that a person starts: presenced, in
// the directory where programs of a user keep their state.
func Default() (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) { // the specification says to ignore a relative path
		home, err := os.UserHomeDir()
		if err != nil {
			return "", errors.New("there is no home directory for presenced's data: give --data")
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "presenced"), nil
}

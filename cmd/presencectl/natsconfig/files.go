package natsconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"presence/cmd/presencectl/natscontext"
)

// File is a file that Generate makes. Name is its path in the directory.
type File struct {
	Name string
	Data []byte
	// Context is what the file says if it is a context of the nats command.
	Context *natscontext.Context
}

// Contexts are the contexts among files.
func Contexts(files []File) (list []*natscontext.Context) {
	for _, f := range files {
		if f.Context != nil {
			list = append(list, f.Context)
		}
	}
	return list
}

// CheckNew returns an error if one of the files is in the directory already: it may be the
// only copy of a key.
func CheckNew(dir string, files ...File) error {
	for _, f := range files {
		switch _, err := os.Lstat(filepath.Join(dir, f.Name)); {
		case err == nil:
			return fmt.Errorf("%s is there already and is not overwritten", filepath.Join(dir, f.Name))
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return nil
}

// Write writes files into a directory, and makes the directory if it is missing. None of the
// files may exist already.
func Write(dir string, files ...File) error {
	if err := CheckNew(dir, files...); err != nil {
		return err
	}
	for _, f := range files {
		if err := write(filepath.Join(dir, f.Name), f.Data); err != nil {
			return err
		}
	}
	return nil
}

func write(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Close())
}

// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/keelson/keelson/templates/bundle"
)

// writePrivate writes a file that only its owner can read, at once: a reader
// sees the old content or the new one, never a part.
func writePrivate(file string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// private tells whether only the owner can read or change the file. Windows
// has no such bits; the user's profile is closed to others there.
func private(info fs.FileInfo) bool {
	return runtime.GOOS == "windows" || info.Mode().Perm()&0o077 == 0
}

// writeAll puts private files into the directory, which is made if need be.
// They are all written before the first takes the place of an old one.
func writeAll(dir string, files []bundle.File) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	staging, err := os.MkdirTemp(dir, ".new-*") // mode 0700
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(staging)) }()
	for _, f := range files {
		if err := writePrivate(filepath.Join(staging, f.Name), f.Content); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := os.Rename(filepath.Join(staging, f.Name), filepath.Join(dir, f.Name)); err != nil {
			return err
		}
	}
	return nil
}

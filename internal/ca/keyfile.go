// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// AddKey puts a new key at the end of the key file, where it opens and does
// not seal yet, and returns its id.
func AddKey(path string) (id string, err error) {
	line := NewKeyLine()
	id = string(bytes.Fields(line)[0])
	return id, changeKeyFile(path, func(_ *keyring, lines [][]byte) ([][]byte, error) {
		return append(lines, line), nil
	})
}

// UseKey makes a key of the key file the first one, which seals. That it is so
// already is success.
func UseKey(path, id string) error {
	return changeKeyFile(path, func(_ *keyring, lines [][]byte) ([][]byte, error) {
		line, rest := takeKey(lines, id)
		if line == nil {
			return nil, fmt.Errorf("there is no key %s", id)
		}
		// After the comment at the head of the file, before the first key.
		i := 0
		for i < len(rest) && keyOf(rest[i]) == "" {
			i++
		}
		return append(append(append([][]byte{}, rest[:i]...), line), rest[i:]...), nil
	})
}

// RemoveKey takes a key out of the key file. The one that seals stays. That it
// is gone already is success.
func RemoveKey(path, id string) error {
	return changeKeyFile(path, func(ring *keyring, lines [][]byte) ([][]byte, error) {
		if ring.current == id {
			return nil, fmt.Errorf("key %s seals: use another one first", id)
		}
		_, rest := takeKey(lines, id)
		return rest, nil
	})
}

// keyOf is the id of the key in a line, empty when there is none.
func keyOf(line []byte) string {
	fields := strings.Fields(string(line))
	if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
		return ""
	}
	return fields[0]
}

// takeKey takes the line of a key out of the lines; nil when there is none.
func takeKey(lines [][]byte, id string) (line []byte, rest [][]byte) {
	for _, l := range lines {
		if line == nil && keyOf(l) == id {
			line = l
			continue
		}
		rest = append(rest, l)
	}
	return line, rest
}

// changeKeyFile replaces the key file by one of other lines, with the same
// owner and mode. At every moment there is a whole file. Of several at once one
// waits for the other.
func changeKeyFile(path string, change func(*keyring, [][]byte) ([][]byte, error)) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	unlock, err := lockFile(path)
	if err != nil {
		return fmt.Errorf("lock master key file: %w", err)
	}
	defer unlock()
	ring, err := readKeyFile(path)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read master key file: %w", err)
	}
	content = append(bytes.TrimRight(content, "\n"), '\n')
	lines, err := change(ring, bytes.SplitAfter(content[:len(content):len(content)], []byte("\n")))
	if err != nil {
		return fmt.Errorf("master key file %s: %w", path, err)
	}
	if changed := bytes.Join(lines, nil); !bytes.Equal(changed, content) {
		if _, err := parseKeys(changed); err != nil {
			return fmt.Errorf("master key file %s: %w", path, err)
		}
		if err := replaceFile(path, ring.from, changed); err != nil {
			return fmt.Errorf("write master key file: %w", err)
		}
	}
	return nil
}

// lockFile locks a file against others who do the same, and who replace it.
func lockFile(path string) (unlock func(), err error) {
	for {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		locked, err := f.Stat()
		present, err2 := os.Stat(path)
		if err == nil && err2 == nil && os.SameFile(locked, present) {
			return func() { _ = f.Close() }, nil
		}
		_ = f.Close()
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
	}
}

// replaceFile puts a file of that content in the place of the one that info is
// of, with its owner and mode.
func replaceFile(path string, info os.FileInfo, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".master-key-*") // has mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	if err := f.Chmod(info.Mode().Perm()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync() // or the next boot may find the old file
}

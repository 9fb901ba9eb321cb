// SPDX-License-Identifier: Apache-2.0

package ironictest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

func (s *Server) load() error {
	if s.opt.StateFile == "" {
		return nil
	}
	raw, err := os.ReadFile(s.opt.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the state of the embedded Ironic: %w", err)
	}
	if err := json.Unmarshal(raw, &s.state); err != nil {
		return fmt.Errorf("read the state of the embedded Ironic from %s: %w", s.opt.StateFile, err)
	}
	for _, n := range s.state.Nodes {
		n.complete()
	}
	return nil
}

// save replaces the state file in one go.
func (s *Server) save() error {
	if s.opt.StateFile == "" {
		return nil
	}
	raw, err := json.MarshalIndent(s.state, "", " ")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(s.opt.StateFile), filepath.Base(s.opt.StateFile)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("save the state of the embedded Ironic: %w", err)
	}
	_, err = file.Write(raw)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), s.opt.StateFile)
	}
	if err != nil {
		return fmt.Errorf("save the state of the embedded Ironic: %w", errors.Join(err, os.Remove(file.Name())))
	}
	return nil
}

// saved saves after a change that no request made.
func (s *Server) saved(doing string) {
	if err := s.save(); err != nil {
		s.opt.Logger.Error("state of the embedded Ironic may be lost", "doing", doing, "error", err)
	}
}

// Clock is a clock that stands still until it is turned; for Options.Now.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that shows t.
func NewClock(t time.Time) *Clock { return &Clock{now: t} }

// Now returns what the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance turns the clock on by d.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"context"
	"sync"

	"github.com/keelson/keelson/internal/store"
)

// journal writes what becomes of an operation's steps into the database, in the
// order in which it was told. What comes together, or while other lines are
// being written, goes into one transaction: the end of one step and the begin of
// the next, say. After the first error nothing more is written.
type journal struct {
	write func(...store.StepChange) error
	wake  chan struct{}
	ended chan struct{}

	mu      sync.Mutex
	waiting []store.StepChange
	next    *entry // what will have become of those
	closed  bool
}

// entry is closed when its lines are written, or when err says why not.
type entry struct {
	written chan struct{}
	err     error
}

// newJournal begins to write; close ends it.
func newJournal(write func(...store.StepChange) error) *journal {
	j := &journal{write: write, wake: make(chan struct{}, 1), ended: make(chan struct{}), next: newEntry()}
	go j.run()
	return j
}

func newEntry() *entry { return &entry{written: make(chan struct{})} }

// add has the line written after the next flush.
func (j *journal) add(line store.StepChange) *entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting = append(j.waiting, line)
	return j.next
}

// flush has all lines written that wait.
func (j *journal) flush() {
	select {
	case j.wake <- struct{}{}:
	default: // it is about to look anyway
	}
}

// close has all lines written and returns the error that kept one from it.
func (j *journal) close() error {
	j.mu.Lock()
	j.closed = true
	last := j.next
	j.mu.Unlock()
	j.flush()
	<-j.ended
	return last.err
}

func (j *journal) run() {
	defer close(j.ended)
	var failed error
	for range j.wake {
		j.mu.Lock()
		lines, now, closed := j.waiting, j.next, j.closed
		j.waiting, j.next = nil, newEntry()
		j.mu.Unlock()
		if failed == nil && len(lines) > 0 {
			failed = j.write(lines...)
		}
		now.err = failed
		close(now.written)
		if closed {
			return
		}
	}
}

// wait returns when the lines are written, with the error if they are not, or
// when ctx ends.
func (e *entry) wait(ctx context.Context) error {
	select {
	case <-e.written:
		return e.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

func line(name string) store.StepChange { return store.StepChange{Step: model.Step{Name: name}} }

func TestJournalWritesTogetherWhatComesTogether(t *testing.T) {
	writes := make(chan []string)
	goOn := make(chan error)
	j := newJournal(func(changes ...store.StepChange) error {
		var names []string
		for _, c := range changes {
			names = append(names, c.Step.Name)
		}
		writes <- names
		return <-goOn
	})
	wrote := func(want ...string) {
		t.Helper()
		if got := <-writes; !slices.Equal(got, want) {
			t.Errorf("wrote %v, want %v", got, want)
		}
	}
	first := j.add(line("a begins"))
	j.add(line("b begins"))
	j.flush()
	wrote("a begins", "b begins")
	second := j.add(line("a ends")) // while that is being written
	j.add(line("c begins"))
	j.flush()
	goOn <- nil
	if err := first.wait(t.Context()); err != nil {
		t.Error(err)
	}
	wrote("a ends", "c begins")
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(errShutdown)
	if err := second.wait(gone); !errors.Is(err, errShutdown) {
		t.Errorf("waited for nobody: %v", err)
	}
	goOn <- nil
	j.add(line("c ends"))
	closed := make(chan error)
	go func() { closed <- j.close() }()
	wrote("c ends")
	goOn <- nil
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// What could not be written is not written later: the order would be another
// one, and whoever takes the operation up looks at what there is.
func TestJournalEndsWithItsFirstError(t *testing.T) {
	broken := errors.New("broken")
	writes := 0
	j := newJournal(func(...store.StepChange) error {
		writes++
		return broken
	})
	for range 2 {
		e := j.add(line("a begins"))
		j.flush()
		if err := e.wait(t.Context()); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	}
	if err := j.close(); !errors.Is(err, broken) || writes != 1 {
		t.Errorf("closed with %v after %d writes", err, writes)
	}
	if err := newJournal(func(...store.StepChange) error { return broken }).close(); err != nil {
		t.Errorf("nothing was to be written, but: %v", err)
	}
}

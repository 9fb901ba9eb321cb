// SPDX-License-Identifier: Apache-2.0

package drivers

import "context"

// ReadOnly are the services of a job that is only there to look at a cluster:
// every call is refused with ErrReadOnly.
type ReadOnly struct{}

var (
	_ Nodes   = ReadOnly{}
	_ Records = ReadOnly{}
)

// Place implements Nodes.
func (ReadOnly) Place(context.Context, string) (Outcome, error) { return Outcome{}, ErrReadOnly }

// Start implements Nodes.
func (ReadOnly) Start(context.Context, string, []File) (Outcome, error) {
	return Outcome{}, ErrReadOnly
}

// Rebuild implements Nodes.
func (ReadOnly) Rebuild(context.Context, string, []File) (Outcome, error) {
	return Outcome{}, ErrReadOnly
}

// Delete implements Nodes.
func (ReadOnly) Delete(context.Context, string) (Outcome, error) { return Outcome{}, ErrReadOnly }

// Joined implements Records.
func (ReadOnly) Joined(context.Context, string, string) error { return ErrReadOnly }

// Observed implements Records.
func (ReadOnly) Observed(context.Context, Observed) error { return ErrReadOnly }

// SaveState implements Records.
func (ReadOnly) SaveState(context.Context, []byte) error { return ErrReadOnly }

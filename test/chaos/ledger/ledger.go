// SPDX-License-Identifier: Apache-2.0

// Package ledger is what those who made the requests and the faults tell the
// checker: one JSON object a line.
package ledger

import (
	"encoding/json"
	"os"
	"sync"
	"time"
)

// Entry is one thing that happened. From and To are when.
type Entry struct {
	Kind     string    `json:"kind"`
	From, To time.Time // To is zero while a fault lasts

	// Of an answer.
	Method     string `json:",omitempty"`
	Path       string `json:",omitempty"`
	Asked      string `json:",omitempty"` // create, resize, delete, …; empty: nothing was to change
	RequestID  string `json:",omitempty"`
	Cluster    string `json:",omitempty"` // uuid
	Group      string `json:",omitempty"` // uuid of the node group that was resized
	Count      int    `json:",omitempty"` // to how many
	Status     int    `json:",omitempty"` // 0: the connection broke
	RetryAfter string `json:",omitempty"`

	// Of a fault.
	What  string `json:",omitempty"` // see below
	Owner string `json:",omitempty"` // of the operations of a killed conductor
}

// Kinds of entries.
const (
	Answer = "answer"
	Fault  = "fault"
	End    = "end" // no more requests and faults
)

// Faults.
const (
	Database      = "database"
	Broker        = "broker"
	Keystone      = "keystone"
	KillAPI       = "kill api"
	KillConductor = "kill conductor"
	Pause         = "pause conductor"
	Dropped       = "message dropped"
	Doubled       = "message doubled"
)

// Writer appends entries; it may be used from several goroutines at once.
type Writer struct {
	mu   sync.Mutex
	file *os.File
}

// Create makes the file.
func Create(name string) (*Writer, error) {
	file, err := os.Create(name)
	return &Writer{file: file}, err
}

// Write appends an entry.
func (w *Writer) Write(e Entry) {
	line, err := json.Marshal(e)
	if err != nil {
		panic(err) // it always can be encoded
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = w.file.Write(append(line, '\n'))
}

// Close ends the ledger.
func (w *Writer) Close() error { return w.file.Close() }

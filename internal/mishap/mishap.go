// SPDX-License-Identifier: Apache-2.0

// Package mishap lets simulated hosts and engines go wrong by chance, in
// processes that a test can not reach into: a file says how often what does.
//
//	{"start": {"error": 0.05, "lost": 0.05, "hang": 0.02}, "*": {"error": 0.01}}
package mishap

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"time"

	"github.com/keelson/keelson/internal/fault"
)

// Odds say how often something goes wrong, each from 0 to 1.
type Odds struct {
	Error     float64 `json:"error"`     // nothing is done, and it may work later
	Permanent float64 `json:"permanent"` // nothing is done, and it never will work
	Hang      float64 `json:"hang"`      // no answer until the caller gives up, two seconds at most
	Lost      float64 `json:"lost"`      // it is done, but the caller is told that it failed
}

// Any is the name of what the file has no odds for.
const Any = "*"

// Play tells what becomes of a call, by the odds in the file. A file that is
// not there makes all go well. An error means that nothing is to be done; else
// the caller does its work and returns what lost returns.
func Play(ctx context.Context, file, call string) (lost func() error, err error) {
	lost = func() error { return nil }
	content, err := os.ReadFile(file)
	if err != nil {
		return lost, nil
	}
	var all map[string]Odds
	if err := json.Unmarshal(content, &all); err != nil {
		return lost, nil // it is being written
	}
	odds, ok := all[call]
	if !ok {
		odds = all[Any]
	}
	if rand.Float64() < odds.Hang {
		wait := time.NewTimer(2 * time.Second)
		defer wait.Stop()
		select {
		case <-wait.C:
			return lost, fault.Temporary(nil, "%s did not answer", call)
		case <-ctx.Done():
			return lost, ctx.Err()
		}
	}
	if rand.Float64() < odds.Error {
		return lost, fault.Temporary(nil, "%s failed and may work later", call)
	}
	if rand.Float64() < odds.Permanent {
		return lost, fault.Permanent(nil, "%s failed for good", call)
	}
	if rand.Float64() < odds.Lost {
		return func() error { return fault.Temporary(nil, "the answer to %s was lost", call) }, nil
	}
	return lost, nil
}

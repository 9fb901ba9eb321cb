// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"

	"github.com/keelson/keelson/internal/model"
)

// What callers may test for with errors.Is.
var (
	ErrNotFound     = errors.New("not found")                       // no such row, or not visible in the scope
	ErrAmbiguous    = errors.New("several have that name")          // use the uuid
	ErrExists       = errors.New("exists already")                  // unique key clash
	ErrInUse        = errors.New("in use")                          // template with clusters, host with nodes
	ErrQuota        = errors.New("quota reached")                   // see QuotaError
	ErrStatus       = errors.New("not possible in this status")     // see StatusError
	ErrBadSortKey   = errors.New("cannot sort by that")             // no such column, or no such direction
	ErrBadMarker    = errors.New("no such marker")                  // unknown, or not visible in the scope
	ErrSuperseded   = errors.New("the operation is not owned")      // the lease was lost, or the operation has ended
	ErrNotClaimable = errors.New("the operation cannot be claimed") // owned, not due, ended, or an earlier one is unfinished
	ErrNoRoom       = errors.New("the host has no room")            // or takes no nodes any more
	ErrReachable    = errors.New("the host answers, or has not been silent for long")
	ErrNoAddress    = errors.New("the network has no address left") // all of the given ones are held
	ErrBusy         = errors.New("too many operations wait")        // see NewOperation.MaxQueue
	ErrSchema       = errors.New("the database schema is newer")    // than this program, see Store.Migrate
)

// QuotaError says which limit a project has reached. It matches ErrQuota.
type QuotaError struct{ Limit int }

// Error says what the limit is.
func (e *QuotaError) Error() string {
	return fmt.Sprintf("quota reached: at most %d clusters", e.Limit)
}

// Is makes errors.Is(err, ErrQuota) true.
func (e *QuotaError) Is(target error) bool { return target == ErrQuota }

// StatusError says in which status the cluster is. It matches ErrStatus.
type StatusError struct{ Status model.Status }

// Error names the status.
func (e *StatusError) Error() string { return "not possible while the cluster is " + string(e.Status) }

// Is makes errors.Is(err, ErrStatus) true.
func (e *StatusError) Is(target error) bool { return target == ErrStatus }

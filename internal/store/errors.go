// SPDX-License-Identifier: Apache-2.0

package store

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/keelson/keelson/internal/model"
)

// What callers may test for with errors.Is.
var (
	ErrNotFound     = errors.New("not found")                   // no such row, or not visible in the scope
	ErrAmbiguous    = errors.New("several have that name")      // use the uuid
	ErrExists       = errors.New("exists already")              // unique key clash
	ErrInUse        = errors.New("in use")                      // template with clusters, host with nodes
	ErrQuota        = errors.New("quota reached")               // see QuotaError
	ErrStatus       = errors.New("not possible in this status") // see StatusError
	ErrBadSortKey   = errors.New("cannot sort by that")         // no such column, or no such direction
	ErrBadMarker    = errors.New("no such marker")              // unknown, or not visible in the scope
	ErrSuperseded   = errors.New("the operation is not owned")  // the lease was lost, or the operation has ended
	ErrOperation    = errors.New("not possible with this operation")
	ErrHostState    = errors.New("not possible with this host")
	ErrNotClaimable = errors.New("the operation cannot be claimed") // owned, not due, ended, or an earlier one is unfinished
	ErrNoRoom       = errors.New("the host has no room")            // or takes no nodes any more
	ErrReachable    = errors.New("the host answers, or has not been silent for long")
	ErrNoAddress    = errors.New("the network has no address left")  // all of the given ones are held
	ErrBusy         = errors.New("too many operations wait")         // see NewOperation.MaxQueue
	ErrSchema       = errors.New("the database schema does not fit") // this program, see Store.Migrate and Store.CheckSchema
	ErrUnavailable  = errors.New("the database is not available")    // now; what was asked for may have been done or not
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

// unavailable tells whether err says that the database does not work now, and
// nothing about what it was asked.
func unavailable(err error) bool {
	for _, lost := range []error{
		driver.ErrBadConn, sql.ErrConnDone, mysqldriver.ErrInvalidConn, mysqldriver.ErrMalformPkt, mysqldriver.ErrPktSync, mysqldriver.ErrPktSyncMul,
		io.EOF, io.ErrUnexpectedEOF,
	} {
		if errors.Is(err, lost) {
			return true
		}
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	if my, ok := errors.AsType[*mysqldriver.MySQLError](err); ok {
		return slices.Contains(notNow, my.Number)
	}
	if lite, ok := errors.AsType[interface {
		error
		Code() int
	}](err); ok {
		switch lite.Code() & 0xff {
		case 5, 6, 8, 10, 13, 14: // BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN
			return true
		}
	}
	return false
}

// notNow are the errors of MariaDB and MySQL that pass, or that an operator
// must end, whatever the statement was.
var notNow = []uint16{
	1021, 1041, // disk or memory is full
	1030,             // the storage engine failed
	1040, 1203, 1226, // too many connections
	1047,                                           // Galera: this node does not belong to the cluster now
	1053, 1077, 1079, 1927, 1317, 1184, 1152, 1129, // shut down, killed, aborted
	1158, 1159, 1160, 1161, // the connection failed
	1205, 1213, // lost against others, again and again
	1290, 1792, 1836, // read only: being switched over
	1969, // max_statement_time
}

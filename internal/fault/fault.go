// SPDX-License-Identifier: Apache-2.0

// Package fault says two things about an error that its text can not: whether
// trying again may help, and which words a user may read.
//
// An error is temporary unless it is marked permanent: the conductor repeats a
// step that failed for a temporary reason until the step's deadline, and gives
// up at once on a permanent one.
package fault

import (
	"errors"
	"fmt"
)

// Error is an error with a sentence for the user. The sentence says what
// happened, to which node or host, and what to do; it holds no address of an
// inner service and no secret. The wrapped cause is for the log only.
type Error struct {
	Reason    string // for the user; ends without a full stop
	Permanent bool   // trying again will not help
	Cause     error  // for the log; may be nil
}

// Error returns the reason followed by the cause.
func (e *Error) Error() string {
	if e.Cause == nil {
		return e.Reason
	}
	return e.Reason + ": " + e.Cause.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Temporary returns an error that may pass by itself, with a reason for the user.
func Temporary(cause error, format string, args ...any) error {
	return &Error{Reason: fmt.Sprintf(format, args...), Cause: cause}
}

// Permanent returns an error that trying again will not cure, with a reason
// for the user.
func Permanent(cause error, format string, args ...any) error {
	return &Error{Reason: fmt.Sprintf(format, args...), Permanent: true, Cause: cause}
}

// IsPermanent tells whether any error in err's chain is marked permanent.
func IsPermanent(err error) bool {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return false
		}
		if e.Permanent {
			return true
		}
		err = e.Cause
	}
	return false
}

// Reason returns the outermost sentence meant for the user, or fallback when
// no error in the chain carries one.
func Reason(err error, fallback string) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return fallback
}

// SPDX-License-Identifier: Apache-2.0

package drivers

import "github.com/keelson/keelson/internal/fault"

// Temporary returns an error that may pass by itself, with one sentence for the
// user: what happened, to which node or host, and what to do; without a full
// stop, a secret or the address of an inner service. The cause, which may be
// nil, is for the operator's log.
func Temporary(cause error, format string, args ...any) error {
	return fault.Temporary(cause, format, args...)
}

// Permanent returns an error that trying again will not cure, with a sentence
// for the user like that of [Temporary]. A step that fails with it ends the
// operation.
func Permanent(cause error, format string, args ...any) error {
	return fault.Permanent(cause, format, args...)
}

// IsPermanent tells whether any error in err's chain is marked permanent.
func IsPermanent(err error) bool { return fault.IsPermanent(err) }

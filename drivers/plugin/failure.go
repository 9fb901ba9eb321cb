// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/keelson/keelson/drivers"
	pb "github.com/keelson/keelson/drivers/plugin/proto"
	"github.com/keelson/keelson/internal/fault"
)

// serviceFailure is, in the driver's process, what a service of Keelson failed
// with. The number of the call goes back with whatever the driver makes of it.
type serviceFailure struct {
	call uint32
	is   error // one of contractErrors, or nil
}

func (e *serviceFailure) Error() string {
	if e.is != nil {
		return e.is.Error()
	}
	return "a service of Keelson failed"
}

func (e *serviceFailure) Unwrap() error { return e.is }

// contractErrors are those that a driver may ask for with errors.Is. They go
// over the wire as details.
var contractErrors = []error{drivers.ErrSuperseded, drivers.ErrReadOnly}

// toDriver tells a driver what a service failed with. Keelson keeps the details
// to itself, and the error itself under the call's number.
func toDriver(err error, call uint32) *pb.Failure {
	f := &pb.Failure{Reason: fault.Reason(err, ""), Permanent: fault.IsPermanent(err), Cause: call}
	for _, known := range contractErrors {
		if errors.Is(err, known) {
			f.Detail = known.Error()
		}
	}
	return f
}

// fromHost is toDriver's failure as an error, in the driver's process.
func fromHost(f *pb.Failure) error {
	cause := &serviceFailure{call: f.GetCause()}
	for _, known := range contractErrors {
		if f.GetDetail() == known.Error() {
			cause.is = known
		}
	}
	if f.GetReason() == "" && !f.GetPermanent() {
		return cause
	}
	return &fault.Error{Reason: f.GetReason(), Permanent: f.GetPermanent(), Cause: cause}
}

// toHost is the driver's error on its way to Keelson.
func toHost(err error) *pb.Failure {
	var unsupported *drivers.UnsupportedError
	f := &pb.Failure{Reason: fault.Reason(err, ""), Detail: text(err.Error()), Permanent: fault.IsPermanent(err), Unsupported: errors.As(err, &unsupported)}
	var cause *serviceFailure
	if errors.As(err, &cause) {
		f.Cause = cause.call
	}
	return f
}

// fromDriver is what a driver says has failed, as an error with its true cause
// if that was a service. failed gives the errors of services by call.
func fromDriver(name string, job *drivers.Job, f *pb.Failure, failed func(call uint32) error) error {
	detail := text(f.GetDetail())
	if detail == "" {
		detail = "no details"
	}
	err := fmt.Errorf("driver %s: %s", name, detail)
	cause := failed(f.GetCause())
	switch {
	case cause != nil && f.GetReason() == fault.Reason(cause, "") && f.GetPermanent() == fault.IsPermanent(cause):
		return fmt.Errorf("driver %s: %w", name, cause) // handed on as it is
	case cause != nil:
		err = fmt.Errorf("driver %s: %s: %w", name, detail, cause)
	case f.GetUnsupported():
		err = fmt.Errorf("driver %s: %w", name, unsupported(&job.Template, f.GetReason()))
	}
	reason := line(f.GetReason())
	switch {
	case reason != "":
	case f.GetPermanent():
		reason = "the driver " + name + " failed; the operator finds why in the log"
	default:
		return err
	}
	return &fault.Error{Reason: reason, Permanent: f.GetPermanent(), Cause: err}
}

// unsupported says that no cluster of the template's kind can be made, in the
// driver's words if it has any.
func unsupported(t *drivers.Template, words string) error {
	magnums := &drivers.UnsupportedError{ServerType: t.ServerType, Distro: t.Distro, COE: t.COE}
	if words == "" {
		return magnums
	}
	return refusal{line(words), magnums}
}

// refusal is an error in a driver's words.
type refusal struct {
	words string
	cause error
}

func (e refusal) Error() string { return e.words }

func (e refusal) Unwrap() error { return e.cause }

// broken is the error of a driver that does not keep to the protocol.
func broken(name, format string, args ...any) error {
	return fault.Permanent(fmt.Errorf(format, args...), "the driver %s does not keep to the protocol of drivers: tell its author", name)
}

// Bounds of texts that a driver gives, in bytes: a sentence, and details for
// the log.
const (
	maxLine = 1000
	maxText = 8000
)

// line makes a driver's sentence safe to show and to store.
func line(s string) string {
	return clean(s, maxLine)
}

func text(s string) string { return clean(s, maxText) }

// clean cuts s to some bytes and makes control characters blanks.
func clean(s string, most int) string {
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}

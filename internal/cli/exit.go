// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Exit codes, explained at [Main].
const (
	codeDone        = 0
	codeFailed      = 1
	codeUsage       = 2
	codeNotFound    = 3
	codeEndedBadly  = 4
	codeTimeout     = 5
	codeRefused     = 6
	codeUnreachable = 7
	codeInterrupted = 130
)

// failure is an error that knows its exit code and what the user can do next.
type failure struct {
	code    int
	message string
	hint    string
	cause   error
}

func (f *failure) Error() string { return f.message }
func (f *failure) Unwrap() error { return f.cause }

// next adds what the user can do.
func (f *failure) next(format string, args ...any) *failure {
	f.hint = fmt.Sprintf(format, args...)
	return f
}

func usage(format string, args ...any) *failure {
	return &failure{code: codeUsage, message: fmt.Sprintf(format, args...)}
}

// explain writes the error for people, and returns the exit code.
func (a *app) explain(ctx context.Context, err error) int {
	f, known := errors.AsType[*failure](err)
	switch {
	case known:
	case ctx.Err() != nil:
		f = &failure{code: codeInterrupted, message: "interrupted"}
	case strings.HasPrefix(err.Error(), "unknown command"): // cobra's
		f = usage("%s", strings.ReplaceAll(err.Error(), "\n\n", "\n")).next("keelson --help lists the commands")
	default:
		f = &failure{code: codeFailed, message: err.Error()}
	}
	if f.message != "" {
		a.say("%s %s", paint(a.Err, red, "keelson:"), strings.TrimSpace(f.message))
	}
	if f.hint != "" {
		a.say("%s %s", paint(a.Err, bold, "Next:"), f.hint)
	}
	return f.code
}

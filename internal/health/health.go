// SPDX-License-Identifier: Apache-2.0

// Package health answers whether a process lives and whether it can work.
//
// Both are different questions. Who does not live is to be restarted; who can
// not work, because the database is away, say, is to be left alone until it
// can: taking it out of service would take every process out at once.
package health

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"
)

// Paths under which processes answer.
const (
	LivePath  = "/healthcheck"
	ReadyPath = "/healthcheck/ready"
)

// Live answers load balancers as oslo's healthcheck does, in plain text and
// without looking at anything else: 200 OK, or 503 while a file of that name
// exists, with which the operator takes the process out of service. An empty
// name means never.
func Live(disabledByFile string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
		if !reads(w, r) {
			return
		}
		status, text := http.StatusOK, "OK"
		if exists(disabledByFile) {
			status, text = http.StatusServiceUnavailable, "DISABLED BY FILE"
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text)) // a client that went away is no fault
	})
}

func exists(file string) bool {
	if file == "" {
		return false
	}
	_, err := os.Stat(file)
	return err == nil
}

// reads answers 405 to what is neither GET nor HEAD.
func reads(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	w.WriteHeader(http.StatusMethodNotAllowed)
	return false
}

// Check asks for one thing that a process depends on.
type Check struct {
	Name string
	// Ask returns nil when it is there. It returns soon after ctx ends.
	Ask func(ctx context.Context) error
}

// NotDisabled is the check that no file of that name exists.
func NotDisabled(file string) Check {
	return Check{"in_service", func(context.Context) error {
		if exists(file) {
			return errors.New("the file " + file + " takes this process out of service")
		}
		return nil
	}}
}

// Report is what the checks found.
type Report struct {
	Ready  bool             `json:"ready"`
	Checks map[string]State `json:"checks"`
}

// State is what one check found. Why something is down is told to the log
// only: whoever asks here has shown no token.
type State struct {
	Up      bool    `json:"up"`
	Seconds float64 `json:"seconds"` // that the check took
}

// Readiness tells whether all is there that a process depends on. All checks
// are asked side by side, each with a deadline of its own, and an answer
// stands for a moment, so that asking often loads nobody.
type Readiness struct {
	checks   []Check
	log      *slog.Logger
	deadline time.Duration
	keep     time.Duration

	turn   chan struct{} // holds a token while somebody asks: others wait for that answer
	last   Report
	asked  time.Time
	downed map[string]bool
}

// NewReadiness returns the readiness of a process that needs all of that. A
// change of a check's answer is logged.
func NewReadiness(log *slog.Logger, checks ...Check) *Readiness {
	return &Readiness{checks: checks, log: log, deadline: 2 * time.Second, keep: time.Second, turn: make(chan struct{}, 1), downed: map[string]bool{}}
}

// Report asks, or repeats the answer of a moment ago.
func (r *Readiness) Report(ctx context.Context) Report {
	r.turn <- struct{}{} // not for longer than the deadline
	defer func() { <-r.turn }()
	if !r.asked.IsZero() && time.Since(r.asked) < r.keep {
		return r.last
	}
	// Who asked may leave; the answer is for all.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.deadline)
	defer cancel()
	states := make([]State, len(r.checks))
	errs := make([]error, len(r.checks))
	var asking sync.WaitGroup
	for i, check := range r.checks {
		asking.Go(func() {
			began := time.Now()
			errs[i] = check.Ask(ctx)
			states[i] = State{errs[i] == nil, time.Since(began).Seconds()}
		})
	}
	asking.Wait()
	report := Report{Ready: true, Checks: make(map[string]State, len(r.checks))}
	for i, check := range r.checks {
		r.note(ctx, check.Name, errs[i])
		report.Ready = report.Ready && states[i].Up
		report.Checks[check.Name] = states[i]
	}
	r.last, r.asked = report, time.Now()
	return report
}

func (r *Readiness) note(ctx context.Context, name string, err error) {
	switch {
	case err != nil && !r.downed[name]:
		r.log.WarnContext(ctx, "not ready", "check", name, "error", err)
	case err == nil && r.downed[name]:
		r.log.InfoContext(ctx, "ready again", "check", name)
	}
	r.downed[name] = err != nil
}

// ServeHTTP answers 200 when all is there and else 503, with the report as JSON.
func (r *Readiness) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if !reads(w, request) {
		return
	}
	report := r.Report(request.Context())
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !report.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(report) // a client that went away is no fault
}

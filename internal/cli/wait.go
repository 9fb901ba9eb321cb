// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson/keelson/api/v1"
)

// waiting is whether and how long a command waits.
type waiting struct {
	wait    bool
	timeout time.Duration
}

func (w *waiting) flags(c *cobra.Command) {
	c.Flags().BoolVarP(&w.wait, "wait", "w", false, "wait for the end, and show the way there")
	c.Flags().DurationVar(&w.timeout, "timeout", time.Hour, "with --wait: how long to wait at most")
}

// job is something under way that a command may wait for.
type job struct {
	uuid    string // of the cluster
	name    string // of the cluster, for people
	request string // id of the call that began it; "" waits for whatever is under way
	verb    string
	deletes bool
}

// Between two looks at the API pass at least minPause, when events tell of
// something new, and at most maxPause, when they do not; that comes about by
// and by, so that what is short is seen to end.
const (
	minPause = 200 * time.Millisecond
	maxPause = 2 * time.Second
)

// look is what is known of a job at one time.
type look struct {
	operation *v1.Operation // nil if the service does not tell, or there is none
	cluster   *v1.Cluster   // nil while the operation goes on, and when the cluster is gone
	ended     bool
}

// await waits until the job has ended and returns the cluster as it is then,
// nil if it is gone. A job that ended badly is an error; so is ctx's end or
// that of the timeout, which leave the job alone.
func (a *app) await(ctx context.Context, s *service, w *waiting, j job) (*v1.Cluster, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, w.timeout, errWaitedEnough)
	defer cancel()
	news := make(chan struct{}, 1)
	told := make(chan struct{})
	go func() {
		defer close(told)
		a.ring(ctx, s, j.uuid, news)
	}()
	defer func() { cancel(); <-told }()

	began := time.Now()
	shown := a.newDisplay(j)
	defer shown.end()
	for {
		l, err := s.look(ctx, j)
		switch {
		case ctx.Err() != nil:
			shown.end()
			return nil, j.unfinished(ctx)
		case isUnreachable(err): // the job goes on without us, and we wait for both
			shown.trouble(err)
		case err != nil:
			return nil, err
		default:
			shown.show(l.operation)
			if l.ended {
				shown.end()
				return l.cluster, j.outcome(l)
			}
		}
		pause(ctx, minPause)
		select {
		case <-news:
		case <-ctx.Done():
		case <-time.After(min(time.Since(began)/10, maxPause-minPause)):
		}
	}
}

var errWaitedEnough = errors.New("waited long enough")

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func isUnreachable(err error) bool {
	f, ok := errors.AsType[*failure](err)
	return ok && f.code == codeUnreachable
}

// ring says that there is news whenever the service tells of an event. Where
// it tells of none, await looks by itself from time to time.
func (a *app) ring(ctx context.Context, s *service, cluster string, news chan<- struct{}) {
	last := int64(0)
	for ctx.Err() == nil {
		err := s.follow(ctx, cluster, last, func(e v1.Event) error {
			last = e.ID
			select {
			case news <- struct{}{}:
			default: // it rings already
			}
			return nil
		})
		if err != nil && !isUnreachable(err) {
			return
		}
		pause(ctx, maxPause)
	}
}

// look asks how the job stands.
func (s *service) look(ctx context.Context, j job) (look, error) {
	var l look
	operations, err := s.operations(ctx, j.uuid)
	switch {
	case err == nil:
		l.operation = j.operation(operations)
	case !answered(err, http.StatusNotFound): // which it also is where operations are not served
		return l, err
	}
	if l.operation != nil && underWay(l.operation) {
		return l, nil
	}
	var cluster v1.Cluster
	_, err = s.call(ctx, http.MethodGet, clusterPath(j.uuid), nil, &cluster)
	if answered(err, http.StatusNotFound) {
		l.ended = true
		return l, nil
	}
	if err != nil {
		return l, err
	}
	l.cluster = &cluster
	// An operation that was asked for by this call is the measure. Without it,
	// the cluster's status is.
	l.ended = l.operation != nil && j.request != "" || !strings.HasSuffix(cluster.Status, "_IN_PROGRESS")
	return l, nil
}

// operations are the cluster's newest operations, the newest first.
func (s *service) operations(ctx context.Context, cluster string) ([]v1.Operation, error) {
	var page v1.Operations
	_, err := s.call(ctx, http.MethodGet, clusterPath(cluster, "operations")+"?limit=5", nil, &page)
	return page.Operations, err
}

// operation is the one that the job is about; nil if there is none.
func (j job) operation(newest []v1.Operation) *v1.Operation {
	for i := range newest {
		o := &newest[i]
		if j.request != "" && o.RequestID == j.request {
			return o
		}
		if j.request == "" && underWay(o) {
			return o
		}
	}
	return nil
}

func underWay(o *v1.Operation) bool { return o.State == "pending" || o.State == "running" }

// outcome is nil if the job has ended well.
func (j job) outcome(l look) error {
	if l.cluster == nil {
		if j.deletes {
			return nil
		}
		return &failure{code: codeNotFound, message: fmt.Sprintf("cluster %s was deleted meanwhile", j.name)}
	}
	reason := ""
	switch {
	case l.operation != nil && l.operation.State == "cancelled":
		reason = "it was cut short by a later request"
	case l.operation != nil && l.operation.State == "failed":
		reason = first(given(l.operation.Reason), given(l.cluster.StatusReason))
	case l.operation != nil && l.operation.State == "done" && !j.deletes:
		return nil
	case strings.HasSuffix(l.cluster.Status, "_FAILED"):
		reason = given(l.cluster.StatusReason)
	case j.deletes:
		reason = "the cluster is still there"
	default:
		return nil
	}
	f := &failure{code: codeEndedBadly, message: fmt.Sprintf("cluster %s is %s: %s", j.name, l.cluster.Status, first(printable(reason), "no reason is known"))}
	switch {
	case j.deletes:
		return f.next("keelson delete %s tries again", j.name)
	case l.cluster.Status == "CREATE_FAILED":
		return f.next("keelson resize %s --nodes %d tries again, keelson delete %s gives it up", j.name, l.cluster.NodeCount, j.name)
	}
	return f.next("keelson events %s tells what happened", j.name)
}

// unfinished is the error of a wait that was given up.
func (j job) unfinished(ctx context.Context) error {
	verb := first(j.verb, "work")
	if errors.Is(context.Cause(ctx), errWaitedEnough) {
		f := &failure{code: codeTimeout, message: fmt.Sprintf("waited long enough; the %s of %s goes on", verb, j.name)}
		return f.next("keelson get %s --wait waits on", j.name)
	}
	f := &failure{code: codeInterrupted, message: fmt.Sprintf("no longer waiting; the %s of %s goes on", verb, j.name)}
	return f.next("keelson get %s --wait waits again", j.name)
}

func given(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

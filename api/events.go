// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/model"
)

// eventStream is the media type of server-sent events.
const eventStream = "text/event-stream"

// How streams of events behave.
const (
	heartbeat     = 15 * time.Second // at most this long nothing is sent, so that proxies keep the connection
	writePatience = 10 * time.Second // for a client that does not read
	longestStream = time.Hour        // then the client comes back with a token that is still good
	eventsAtOnce  = 100
)

// listEvents shows what happened to a cluster, or sends it as it happens to
// clients that ask for text/event-stream.
func (a *API) listEvents(c *call) (response, error) {
	limit, err := c.limit(usualEvents, a.config.MaxLimit)
	if err != nil {
		return response{}, err
	}
	streaming := accepts(c.Header.Values("Accept"), eventStream)
	after, err := c.after(streaming)
	if err != nil {
		return response{}, err
	}
	read := a.Store.Events
	switch dir, given := c.args["sort_dir"]; {
	case given && dir != "asc" && dir != "desc":
		return response{}, badRequest("The sort_dir must be asc or desc, not %q.", dir)
	case dir == "desc" && streaming:
		return response{}, badRequest("A stream of events has the oldest first: sort_dir can not be desc.")
	case dir == "desc":
		read = a.Store.NewestEvents
	}
	cluster, err := a.permittedCluster(c)
	if err != nil {
		return response{}, err
	}
	if streaming {
		leave, entered := a.feed.enter(cluster)
		if !entered {
			return response{}, &Error{
				Status: http.StatusTooManyRequests,
				Detail: fmt.Sprintf("The project listens to %d streams of events already. End one of them, or ask for the events as JSON.", a.config.MaxStreams),
			}
		}
		return response{stream: func(ctx context.Context, w http.ResponseWriter) {
			defer leave()
			if err := a.streamEvents(ctx, w, cluster.UUID, after); err != nil {
				a.Logger.LogAttrs(ctx, slog.LevelDebug, "a stream of events ended early", slog.Any("error", err))
			}
		}}, nil
	}
	events, err := read(c.Context(), cluster.UUID, after, limit)
	if err != nil {
		return response{}, err
	}
	return ok(v1.Events{Events: each(events, renderEvent)}), nil
}

// after is the id of the last event that the client knows. A browser that
// connects again tells it in a header.
func (c *call) after(streaming bool) (int64, error) {
	name, text := "after", c.args["after"]
	if id := c.Header.Get("Last-Event-ID"); streaming && id != "" {
		name, text = "Last-Event-ID", id
	}
	if text == "" {
		return 0, nil
	}
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 0 {
		return 0, badRequest("%s must be the id of an event, a whole number, not %q.", name, text)
	}
	return id, nil
}

func renderEvent(e *model.Event) v1.Event {
	return v1.Event{
		ID: e.ID, Time: v1.Time(e.CreatedAt), Kind: string(e.Kind), Operation: e.OperationID, Step: e.Step, Node: e.Node,
		Level: e.Level, Message: e.Message, UserID: e.UserID, RequestID: e.RequestID,
	}
}

// streamEvents sends the cluster's events until the client leaves, the cluster
// is gone, the process ends or the stream has become old.
func (a *API) streamEvents(ctx context.Context, w http.ResponseWriter, cluster string, after int64) error {
	ctx, cancel := context.WithTimeout(ctx, longestStream)
	defer cancel()
	header := w.Header()
	header.Set("Content-Type", eventStream)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // nginx hands on what there is
	s := stream{Writer: w, connection: http.NewResponseController(w)}
	if err := s.connection.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	w.WriteHeader(http.StatusOK)
	if err := s.send(": the events of cluster " + cluster + "\n\n"); err != nil {
		return err
	}
	tick := time.NewTicker(a.config.EventPoll)
	defer tick.Stop()
	quiet := time.Now()
	for gone := false; ; {
		events, err := a.Store.Events(ctx, cluster, after, eventsAtOnce)
		if err != nil {
			return err
		}
		for i := range events {
			if err := s.event(&events[i]); err != nil {
				return err
			}
			after, quiet = events[i].ID, time.Now()
		}
		if gone && len(events) == 0 {
			return nil
		}
		for more := len(events) == eventsAtOnce || gone; !more; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return ctx.Err()
			case <-a.Closing:
				return s.send(": the server ends\n\n")
			}
			var latest int64
			if latest, gone, err = a.feed.latest(ctx, cluster); err != nil {
				return err
			}
			more = latest > after || gone
			if !more && time.Since(quiet) > heartbeat {
				quiet = time.Now()
				if err := s.send(": nothing new\n\n"); err != nil {
					return err
				}
			}
		}
	}
}

// stream is the connection of one client that listens.
type stream struct {
	io.Writer
	connection *http.ResponseController
}

// send writes text and has it sent at once.
func (s stream) send(text string) error {
	err := s.connection.SetWriteDeadline(time.Now().Add(writePatience))
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := io.WriteString(s, text); err != nil {
		return err
	}
	return s.connection.Flush()
}

func (s stream) event(e *model.Event) error {
	data, err := json.Marshal(renderEvent(e))
	if err != nil {
		return err
	}
	return s.send(fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.ID, e.Kind, data))
}

// feed looks for new events for all streams of this process together: two
// queries for however many. Whoever asks first after a while does it, so there
// is nothing that runs by itself.
type feed struct {
	store      Store
	every      time.Duration
	perProject int

	turn     chan struct{} // held by who uses what is below
	asked    time.Time
	last     map[string]int64
	gone     map[string]bool
	clusters map[string]int // streams
	projects map[string]int
}

func newFeed(store Store, every time.Duration, perProject int) *feed {
	f := &feed{
		store: store, every: every, perProject: perProject, turn: make(chan struct{}, 1),
		clusters: make(map[string]int), projects: make(map[string]int),
	}
	f.turn <- struct{}{}
	return f
}

// enter counts one more stream of the cluster's project, if it may have one.
func (f *feed) enter(c *model.Cluster) (leave func(), entered bool) {
	<-f.turn
	defer func() { f.turn <- struct{}{} }()
	if f.projects[c.ProjectID] >= f.perProject {
		return nil, false
	}
	f.projects[c.ProjectID]++
	f.clusters[c.UUID]++
	f.asked = time.Time{} // what is known does not tell of this one
	return func() {
		<-f.turn
		defer func() { f.turn <- struct{}{} }()
		less(f.projects, c.ProjectID)
		less(f.clusters, c.UUID)
	}, true
}

func less(count map[string]int, key string) {
	if count[key]--; count[key] == 0 {
		delete(count, key)
	}
}

// latest returns the id of the cluster's last event, and whether the cluster is
// gone: as it was no longer than about every ago.
func (f *feed) latest(ctx context.Context, cluster string) (id int64, gone bool, err error) {
	select {
	case <-f.turn:
	case <-ctx.Done():
		return 0, false, ctx.Err()
	}
	defer func() { f.turn <- struct{}{} }()
	if time.Since(f.asked) >= f.every*9/10 {
		last, gone, err := f.store.LatestEvents(ctx, slices.Collect(maps.Keys(f.clusters)))
		if err != nil {
			return 0, false, err
		}
		f.last, f.gone, f.asked = last, gone, time.Now()
	}
	return f.last[cluster], f.gone[cluster], nil
}

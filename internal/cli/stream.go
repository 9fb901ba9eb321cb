// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/api/v1"
)

// silence is how long a stream may be quiet before it is taken for dead; the
// service sends heartbeats more often than that.
const silence = 90 * time.Second

// errNoStream says that the service does not stream events.
var errNoStream = errors.New("the service does not stream events")

// follow hands every event of the cluster after that id to take, as they come.
// It returns nil when the service ended the stream, which it does when the
// cluster is gone; ctx's end and what take returns end it too.
func (s *service) follow(ctx context.Context, cluster string, after int64, take func(v1.Event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	header := http.Header{"Accept": {"text/event-stream"}}
	if after > 0 {
		header.Set("Last-Event-Id", strconv.FormatInt(after, 10))
	}
	quiet := time.AfterFunc(silence, cancel)
	defer quiet.Stop()
	answer, err := s.send(ctx, http.MethodGet, clusterPath(cluster, "events"), nil, header)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream") {
		return errNoStream
	}
	var data []byte
	lines := bufio.NewReader(answer.Body)
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return unreachable("the stream of events", s.Endpoint, err)
		}
		quiet.Reset(silence)
		line = strings.TrimRight(line, "\r\n")
		if line != "" {
			if part, ok := strings.CutPrefix(line, "data:"); ok {
				data = append(data, strings.TrimPrefix(part, " ")...)
			}
			continue // ids and kinds are in the data, and comments are heartbeats
		}
		if len(data) == 0 {
			continue
		}
		var e v1.Event
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("reading an event of cluster %s: %w", cluster, err)
		}
		data = data[:0]
		if err := take(e); err != nil {
			return err
		}
	}
}

// events are the events of the cluster after that id, the oldest first.
func (s *service) events(ctx context.Context, cluster string, after int64) ([]v1.Event, error) {
	var all []v1.Event
	for {
		var page v1.Events
		if _, err := s.act(ctx, http.MethodGet, cluster, fmt.Sprintf("events?after=%d", after), nil, &page); err != nil {
			return nil, err
		}
		if len(page.Events) == 0 {
			return all, nil
		}
		all = append(all, page.Events...)
		after = page.Events[len(page.Events)-1].ID
	}
}

// newest are the last n events of the cluster after that id, the oldest first.
func (s *service) newest(ctx context.Context, cluster string, after int64, n int) ([]v1.Event, error) {
	var page v1.Events
	_, err := s.act(ctx, http.MethodGet, cluster, fmt.Sprintf("events?sort_dir=desc&after=%d&limit=%d", after, n), nil, &page)
	slices.Reverse(page.Events)
	return page.Events, err
}

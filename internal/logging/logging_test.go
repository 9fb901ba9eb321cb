// SPDX-License-Identifier: Apache-2.0

package logging_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/logging"
)

// line logs once and returns what was written, without the time.
func line(t *testing.T, ctx context.Context, bind ...any) map[string]any {
	t.Helper()
	var out bytes.Buffer
	logging.Contextual(logging.New(&out, "json", slog.LevelInfo)).With(bind...).InfoContext(ctx, "hello", "own", "yes")
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if n := strings.Count(out.String(), `"request_id"`); n > 1 {
		t.Errorf("the request id is there %d times: %s", n, out.String())
	}
	delete(got, "time")
	return got
}

func TestLinesCarryWhatTheContextIsAbout(t *testing.T) {
	request := logging.With(t.Context(), slog.String(logging.RequestID, "req-1"), slog.String(logging.GlobalRequestID, ""))
	step := logging.With(request, slog.String(logging.Step, "start"), slog.String(logging.Node, "n-0"))
	other := logging.With(request, slog.String(logging.RequestID, "req-2"))
	base := map[string]any{"level": "INFO", "msg": "hello", "own": "yes"}
	with := func(more ...string) map[string]any {
		all := map[string]any{}
		for k, v := range base {
			all[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			all[more[i]] = more[i+1]
		}
		return all
	}
	for name, tt := range map[string]struct {
		ctx  context.Context
		bind []any
		want map[string]any
	}{
		"nothing":                 {t.Context(), nil, base},
		"empty values are not":    {request, nil, with("request_id", "req-1")},
		"inner adds to outer":     {step, nil, with("request_id", "req-1", "step", "start", "node", "n-0")},
		"inner replaces outer":    {other, nil, with("request_id", "req-2")},
		"the logger's own is one": {request, []any{"request_id", "req-9"}, with("request_id", "req-9")},
		"the line's own is one":   {logging.With(request, slog.String("own", "no")), nil, with("request_id", "req-1")},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, line(t, tt.ctx, tt.bind...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTextForm(t *testing.T) {
	var out bytes.Buffer
	ctx := logging.With(t.Context(), slog.String(logging.RequestID, "req-1"))
	log := logging.New(&out, "text", slog.LevelWarn)
	log.InfoContext(ctx, "not at this level")
	log.WarnContext(ctx, "hello")
	if got := out.String(); strings.Contains(got, "not at") || !strings.Contains(got, "level=WARN msg=hello request_id=req-1\n") {
		t.Errorf("got %q", got)
	}
}

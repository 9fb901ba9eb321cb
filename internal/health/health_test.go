// SPDX-License-Identifier: Apache-2.0

package health_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keelson/keelson/internal/health"
)

func ask(h http.Handler, method string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), method, "/", nil))
	return w
}

func TestLive(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disabled")
	h := health.Live(file)
	for _, method := range []string{"GET", "HEAD"} {
		if w := ask(h, method); w.Code != 200 || w.Header().Get("Content-Type") != "text/plain; charset=UTF-8" || w.Body.String() != "OK" {
			t.Errorf("%s: %d %q", method, w.Code, w.Body)
		}
	}
	if w := ask(h, "POST"); w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d", w.Code)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if w := ask(h, "GET"); w.Code != 503 || w.Body.String() != "DISABLED BY FILE" {
		t.Errorf("disabled: %d %q", w.Code, w.Body)
	}
	if err := health.NotDisabled(file).Ask(t.Context()); err == nil {
		t.Error("ready although taken out of service")
	}
	if err := health.NotDisabled("").Ask(t.Context()); err != nil {
		t.Error(err)
	}
}

// One dependency is down, one hangs: each is told, within the deadline, and why
// is in the log only.
func TestReadyNamesWhatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var broken atomic.Bool
		broken.Store(true)
		r := health.NewReadiness(slog.New(slog.NewTextHandler(&log, nil)),
			health.Check{Name: "database", Ask: func(context.Context) error { return nil }},
			health.Check{Name: "broker", Ask: func(context.Context) error {
				if broken.Load() {
					return errors.New("amqp://user@10.0.0.1 is away")
				}
				return nil
			}},
			health.Check{Name: "keystone", Ask: func(ctx context.Context) error {
				if broken.Load() {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}},
		)
		began := time.Now()
		w := ask(r, "GET")
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("took %v", took)
		}
		var report health.Report
		if err := json.Unmarshal(w.Body.Bytes(), &report); err != nil {
			t.Fatal(err)
		}
		if w.Code != 503 || report.Ready || !report.Checks["database"].Up || report.Checks["broker"].Up || report.Checks["keystone"].Up || len(report.Checks) != 3 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), "10.0.0.1") {
			t.Error("tells strangers why")
		}
		if got := strings.Count(log.String(), "not ready"); got != 2 || !strings.Contains(log.String(), "10.0.0.1 is away") {
			t.Errorf("log: %s", log.String())
		}
		broken.Store(false)
		time.Sleep(2 * time.Second)
		if w := ask(r, "HEAD"); w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if got := strings.Count(log.String(), "ready again"); got != 2 {
			t.Errorf("log: %s", log.String())
		}
	})
}

func TestManyAskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		r := health.NewReadiness(slog.New(slog.DiscardHandler), health.Check{Name: "slow", Ask: func(context.Context) error {
			asked.Add(1)
			time.Sleep(100 * time.Millisecond)
			return nil
		}})
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				if !r.Report(ctx).Ready {
					t.Error("not ready")
				}
			})
		}
		all.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

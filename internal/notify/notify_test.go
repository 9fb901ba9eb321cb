// SPDX-License-Identifier: Apache-2.0

package notify_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/notify"
	"github.com/keelson/keelson/internal/queue"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
	"github.com/keelson/keelson/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func notification(kind model.OperationKind, outcome model.Outcome) model.Notification {
	return model.Notification{
		UUID: "11111111-2222-4333-8444-555555555555", Kind: kind, Outcome: outcome,
		ClusterID: "cluster-id", ClusterName: "<demo>", ProjectID: "project-1", UserID: "user-1", UserDomainID: "default",
		RequestID: "req-1", Cluster: model.ClusterData{Status: model.CreateInProgress, Labels: model.Labels{}, NodeAddresses: []string{}, MasterAddresses: []string{}},
		CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC),
	}
}

// opened is what is in the envelope.
func opened(t testing.TB, body []byte) map[string]any {
	t.Helper()
	var outer map[string]string
	must(t, json.Unmarshal(body, &outer))
	if outer["oslo.version"] != "2.0" || len(outer) != 2 {
		t.Errorf("envelope: %v", outer)
	}
	var inner map[string]any
	must(t, json.Unmarshal([]byte(outer["oslo.message"]), &inner))
	return inner
}

func TestMessageIsMagnums(t *testing.T) {
	n := notification(model.OpCreate, model.OutcomePending)
	body, err := notify.Encode(&n, "container-infra.host-1")
	must(t, err)
	got := opened(t, body)
	payload := got["payload"].(map[string]any)
	target := payload["target"].(map[string]any)
	for _, part := range []any{payload, payload["observer"], payload["initiator"]} {
		part := part.(map[string]any)
		if _, err := uuid.Parse(part["id"].(string)); err != nil {
			t.Errorf("id %v: %v", part["id"], err)
		}
		delete(part, "id")
	}
	content := target["attachments"].([]any)[0].(map[string]any)["content"].(map[string]any)
	if content["status"] != "CREATE_IN_PROGRESS" || len(content) != 20 {
		t.Errorf("content: %v", content)
	}
	delete(target["attachments"].([]any)[0].(map[string]any), "content")
	want := map[string]any{
		"message_id": n.UUID, "publisher_id": "container-infra.host-1", "event_type": "magnum.cluster.create", "priority": "INFO",
		"timestamp": "2026-01-02 03:04:05.006000", "_unique_id": "11111111222243338444555555555555",
		"_context_user_id": "user-1", "_context_project_id": "project-1", "_context_domain_id": "default",
		"_context_request_id": "req-1", "_context_global_request_id": nil,
		"payload": map[string]any{
			"typeURI": "http://schemas.dmtf.org/cloud/audit/1.0/event", "eventType": "activity",
			"eventTime": "2026-01-02T03:04:05.006000+0000", "action": "create", "outcome": "pending",
			"observer":  map[string]any{"typeURI": "service/magnum/cluster"},
			"initiator": map[string]any{"typeURI": "service/security/account/user", "user_id": "user-1", "project_id": "project-1", "domain_id": "default"},
			"target": map[string]any{
				"typeURI": "service/magnum/cluster", "id": "cluster-id", "name": "<demo>",
				"attachments": []any{map[string]any{"typeURI": "service/magnum/cluster", "name": "cluster_data"}},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	again, err := notify.Encode(&n, "container-infra.host-1")
	must(t, err)
	if string(again) != string(body) {
		t.Error("sent again it is another message")
	}
}

func TestEventTypesAndPriorities(t *testing.T) {
	for _, tt := range []struct {
		kind      model.OperationKind
		outcome   model.Outcome
		eventType string
		priority  string
	}{
		{model.OpCreate, model.OutcomeSuccess, "magnum.cluster.create", "INFO"},
		{model.OpCreate, model.OutcomeFailure, "magnum.cluster.create", "ERROR"},
		{model.OpUpdate, model.OutcomePending, "magnum.cluster.update", "INFO"},
		{model.OpUpgrade, model.OutcomePending, "magnum.cluster.update", "INFO"},
		{model.OpRotateCA, model.OutcomeFailure, "magnum.cluster.update", "ERROR"},
		{model.OpDelete, model.OutcomeSuccess, "magnum.cluster.delete", "INFO"},
	} {
		n := notification(tt.kind, tt.outcome)
		body, err := notify.Encode(&n, "p")
		must(t, err)
		got := opened(t, body)
		if got["event_type"] != tt.eventType || got["priority"] != tt.priority {
			t.Errorf("%s %s: %v at %v", tt.kind, tt.outcome, got["event_type"], got["priority"])
		}
	}
}

// box is a database's notifications and a broker that is away at first.
type box struct {
	mu       sync.Mutex
	waiting  []model.Notification
	returned int
	away     int // publishes that fail
	sent     []string
}

func (b *box) TakeNotifications(_ context.Context, limit int, _ time.Duration) ([]model.Notification, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.waiting[:min(limit, len(b.waiting))]), nil
}

func (b *box) ReturnNotifications(_ context.Context, uuids ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.returned += len(uuids)
	return nil
}

func (b *box) RemoveNotifications(_ context.Context, uuids ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = slices.DeleteFunc(b.waiting, func(n model.Notification) bool { return slices.Contains(uuids, n.UUID) })
	return nil
}

func (b *box) Publish(_ context.Context, letters ...queue.Letter) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away > 0 {
		b.away--
		return errors.New("no broker")
	}
	for _, l := range letters {
		b.sent = append(b.sent, l.Key+" "+l.ID)
	}
	return nil
}

func TestSenderSendsUntilConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{away: 3}
		var want []string
		for i := range 5 {
			n := notification(model.OpCreate, model.OutcomeSuccess)
			n.UUID = fmt.Sprintf("11111111-2222-4333-8444-%012d", i)
			b.waiting = append(b.waiting, n)
			want = append(want, "notifications.info "+n.UUID, "audit.info "+n.UUID)
		}
		s := notify.NewSender(b, b, slog.New(slog.DiscardHandler), "host", "notifications", "audit")
		s.Batch = 2
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(want, b.sent); diff != "" || len(b.waiting) > 0 || b.returned != 6 {
			t.Errorf("%d wait, %d were given back; sent:\n%s", len(b.waiting), b.returned, diff)
		}

		// A kick is quicker than the interval.
		b.mu.Lock()
		b.waiting = append(b.waiting, notification(model.OpDelete, model.OutcomeFailure))
		b.sent = nil
		b.mu.Unlock()
		began := time.Now()
		s.Kick()
		s.Kick()
		synctest.Wait()
		if took := time.Since(began); took > 0 || len(b.sent) != 2 || !strings.HasPrefix(b.sent[0], "notifications.error ") {
			t.Errorf("after a kick and %v: %v", took, b.sent)
		}
		cancel()
		must(t, <-done)
	})
}

// foreign is a Python program with oslo.messaging, listening.
type foreign struct {
	t     *testing.T
	lines *bufio.Scanner
	cmd   *exec.Cmd
}

func listen(t *testing.T, url, exchange, topic string, number int) *foreign {
	t.Helper()
	const python = "/usr/bin/python3" // Debian's, which has Debian's packages
	if err := exec.CommandContext(t.Context(), python, "-c", "import oslo_messaging").Run(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("python3-oslo.messaging is not installed: %v", err)
		}
		t.Skip("python3-oslo.messaging is not installed")
	}
	cmd := exec.CommandContext(t.Context(), python, "testdata/listener.py", url, exchange, topic, fmt.Sprint(number))
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	f := &foreign{t, bufio.NewScanner(out), cmd}
	f.lines.Buffer(nil, 1<<20)
	if !f.lines.Scan() || f.lines.Text() != `"listening"` {
		t.Fatalf("the listener says %q", f.lines.Text())
	}
	return f
}

// heard reads all that the listener was told.
func (f *foreign) heard() (all []map[string]any) {
	f.t.Helper()
	for f.lines.Scan() {
		var one map[string]any
		must(f.t, json.Unmarshal(f.lines.Bytes(), &one))
		all = append(all, one)
	}
	must(f.t, f.cmd.Wait())
	return all
}

// forget removes what the test made at the broker.
func forget(t *testing.T, url, exchange string, queues []string) {
	t.Cleanup(func() {
		conn, err := amqp.Dial(strings.Replace(url, "rabbit://", "amqp://", 1))
		must(t, err)
		defer conn.Close()
		ch, err := conn.Channel()
		must(t, err)
		for _, q := range queues {
			_, err := ch.QueueDelete(q, false, false, false)
			must(t, err)
		}
		must(t, ch.ExchangeDelete(exchange, false, false))
	})
}

// The whole way: a cluster is made and fails to be resized, and a service with
// oslo.messaging hears of it; what happened before it listened, too.
func TestForeignServicesHear(t *testing.T) {
	for name, listenFirst := range map[string]bool{"listener first": true, "sender first": false} {
		t.Run(name, func(t *testing.T) {
			url := testenv.Require(t, testenv.RabbitMQ)
			exchange, topic := "keelson-test-"+uuid.NewString(), "test-"+uuid.NewString()
			forget(t, url, exchange, notify.Keys(topic))
			s, err := store.Open(t.Context(), storetest.SQLite(t), store.Options{Notify: true})
			must(t, err)
			t.Cleanup(func() { _ = s.Close() })
			must(t, s.Migrate(t.Context()))
			x, err := queue.OpenExchange(url, queue.ExchangeOptions{Name: exchange, Keys: notify.Keys(topic)}, queue.Options{})
			must(t, err)
			t.Cleanup(func() { _ = x.Close() })
			sender := notify.NewSender(s, x, slog.New(slog.DiscardHandler), "host-1", topic)
			send := func() {
				t.Helper()
				if n, err := sender.SendBatch(t.Context()); err != nil || n == 0 {
					t.Fatalf("sent %d, %v", n, err)
				}
			}

			var f *foreign
			if listenFirst {
				f = listen(t, url, exchange, topic, 4)
			}
			cluster := live(t, s)
			send()
			if !listenFirst {
				f = listen(t, url, exchange, topic, 4)
			}

			heard := f.heard()
			var story []string
			for _, h := range heard {
				payload := h["payload"].(map[string]any)
				target := payload["target"].(map[string]any)
				data := target["attachments"].([]any)[0].(map[string]any)["content"].(map[string]any)
				story = append(story, fmt.Sprintf("%s %s %s %s %s", h["method"], h["publisher_id"], h["event_type"], payload["outcome"], data["status"]))
				if target["id"] != cluster || h["context"].(map[string]any)["request_id"] != "req-1" {
					t.Errorf("heard %v", h)
				}
			}
			slices.Sort(story) // two queues: the error may come first
			want := []string{
				"error container-infra.host-1 magnum.cluster.update failure UPDATE_FAILED",
				"info container-infra.host-1 magnum.cluster.create pending CREATE_IN_PROGRESS",
				"info container-infra.host-1 magnum.cluster.create success CREATE_COMPLETE",
				"info container-infra.host-1 magnum.cluster.update pending UPDATE_IN_PROGRESS",
			}
			if diff := cmp.Diff(want, story); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// live is a cluster's life: made, then not resized.
func live(t *testing.T, s *store.Store) (cluster string) {
	t.Helper()
	ctx := t.Context()
	name := "t"
	template := model.ClusterTemplate{ProjectID: "p", UserID: "u", Name: &name, COE: "swarm", ImageID: "i", ServerType: "vm"}
	must(t, s.CreateTemplate(ctx, &template))
	c := model.Cluster{ProjectID: "p", UserID: "u", Name: "demo", TemplateID: template.UUID}
	groups := []model.NodeGroup{{Name: "default-worker", Role: model.RoleWorker, NodeCount: 1, IsDefault: true}}
	request := store.NewOperation{UserID: "u", RequestID: "req-1"}
	end := func(op *model.Operation, state model.OperationState, status model.Status) {
		t.Helper()
		claimed, err := s.Claim(ctx, op.UUID, "me", time.Hour, 0)
		must(t, err)
		must(t, s.Finish(ctx, store.FenceOf(claimed), state, status, nil, nil))
	}
	op, err := s.CreateCluster(ctx, &c, groups, 10, request)
	must(t, err)
	end(op, model.OpDone, model.CreateComplete)
	op, err = s.ScaleNodeGroup(ctx, c.UUID, groups[0].UUID, 3, nil, func(model.Status) bool { return true }, request)
	must(t, err)
	end(op, model.OpFailed, model.UpdateFailed)
	return c.UUID
}

// SPDX-License-Identifier: Apache-2.0

package fake_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/conformance"
	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/internal/fault"
)

// machines are pretended ones that take their part of the COE down with them.
type machines struct {
	*conformance.Memory
	coe *fake.COE
}

func (m machines) Delete(ctx context.Context, nodeID string) error {
	m.coe.Kill(nodeID)
	return m.Memory.Delete(ctx, nodeID)
}

func TestConformance(t *testing.T) {
	coe := fake.NewCOE()
	conformance.Run(t, conformance.Suite{
		New:      func() drivers.Driver { return fake.New(coe) },
		Machines: func(testing.TB) conformance.Machines { return machines{conformance.NewMemory(), coe} },
		Template: drivers.Template{COE: "fake", ServerType: "bm"},
		Members: func(_ context.Context, job *drivers.Job) ([]string, error) {
			return coe.Members(job.Cluster.ID), nil
		},
		Managers: 3,
	})
}

// cluster returns a cluster of one master and one worker to be made, and what
// takes its steps.
func cluster(t *testing.T, coe *fake.COE) *conformance.Runner {
	t.Helper()
	cloud := conformance.NewCloud(t, conformance.NewMemory(), drivers.Template{COE: "fake", ServerType: "vm"})
	cloud.Resize(1, 1)
	return &conformance.Runner{Driver: func() drivers.Driver { return fake.New(coe) }, Cloud: cloud}
}

func TestTemporaryFaultsPass(t *testing.T) {
	coe := fake.NewCOE()
	coe.Inject(fake.StepStart, "blue-worker-0", fake.Fault{Temporary: 2})
	coe.Inject(fake.StepJoin, "", fake.Fault{Again: 3})
	r := cluster(t, coe)
	if err := r.Run(t.Context(), r.Cloud.Operation(drivers.Create)); err != nil {
		t.Fatal(err)
	}
	if n := coe.Taken(fake.StepStart, "blue-worker-0"); n != 3 {
		t.Errorf("the worker was started %d times", n)
	}
	if n := coe.Taken(fake.StepStart, ""); n != 4 {
		t.Errorf("nodes were started %d times", n)
	}
	if n := coe.Taken(fake.StepJoin, ""); n != 4 {
		t.Errorf("nodes joined %d times", n)
	}
}

func TestPermanentFaultEndsTheOperation(t *testing.T) {
	coe := fake.NewCOE()
	coe.Inject(fake.StepPlace, "blue-worker-0", fake.Fault{Permanent: "no host has room"})
	r := cluster(t, coe)
	err := r.Run(t.Context(), r.Cloud.Operation(drivers.Create))
	if !fault.IsPermanent(err) || fault.Reason(err, "") != "no host has room" {
		t.Errorf("got %v", err)
	}
	coe.Heal()
	if err := r.Run(t.Context(), r.Cloud.Operation(drivers.Create)); err != nil {
		t.Errorf("after healing: %v", err)
	}
}

func TestHangEndsWithTheContext(t *testing.T) {
	coe := fake.NewCOE()
	coe.Inject(fake.StepCertificates, "", fake.Fault{Hang: true})
	r := cluster(t, coe)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	op := r.Cloud.Operation(drivers.Create)
	_, err := fake.New(coe).Run(ctx, r.Cloud.Job(op), drivers.Step{Name: fake.StepCertificates})
	if !errors.Is(err, context.DeadlineExceeded) || fault.IsPermanent(err) {
		t.Errorf("got %v", err)
	}
}

// A crash comes after the work and before its outcome: the next driver finds
// the work done.
func TestCrashAfterTheWork(t *testing.T) {
	coe := fake.NewCOE()
	coe.Inject(fake.StepForm, "", fake.Fault{Crash: func() { panic("killed") }})
	r := cluster(t, coe)
	crashed := func() (crashed bool) {
		defer func() { crashed = recover() != nil }()
		for _, step := range []string{fake.StepCertificates, fake.StepPlace, fake.StepStart, fake.StepForm} {
			op := r.Cloud.Operation(drivers.Create)
			_, err := fake.New(coe).Run(t.Context(), r.Cloud.Job(op), drivers.Step{Name: step, NodeID: r.Cloud.Nodes()[0].ID})
			if err != nil {
				t.Fatal(err)
			}
		}
		return false
	}()
	job := r.Cloud.Job(r.Cloud.Operation(drivers.Create))
	if members := coe.Members(job.Cluster.ID); !crashed || len(members) != 1 {
		t.Fatalf("crashed %v, members %v", crashed, members)
	}
	coe.Heal()
	if err := r.Run(t.Context(), r.Cloud.Operation(drivers.Create)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(coe.Members(job.Cluster.ID), " "); got != "blue-master-0 blue-worker-0" {
		t.Errorf("members %q", got)
	}
}

func TestTemplateMayBeRefused(t *testing.T) {
	d := fake.New(fake.NewCOE(), "swarm", "swarm-mode")
	if err := d.ValidateTemplate(&drivers.Template{Labels: map[string]string{"refuse": "no such image"}}); err == nil || err.Error() != "no such image" {
		t.Errorf("got %v", err)
	}
	if info := d.Info(); !info.Serves(&drivers.Template{COE: "swarm", ServerType: "vm"}) {
		t.Error("it does not serve the COE it was made for")
	}
}

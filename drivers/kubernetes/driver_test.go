// SPDX-License-Identifier: Apache-2.0

package kubernetes_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/conformance"
	"github.com/keelson/keelson/drivers/fake"
	"github.com/keelson/keelson/drivers/kubernetes"
	"github.com/keelson/keelson/internal/fault"
)

func template(change func(*drivers.Template)) *drivers.Template {
	t := &drivers.Template{COE: "kubernetes", ServerType: "vm", Distro: "debian"}
	change(t)
	return t
}

func TestTemplates_4_4_Kubernetes(t *testing.T) {
	for name, tt := range map[string]struct {
		change  func(*drivers.Template)
		refused string // word of the refusal, empty: accepted
	}{
		"plain":          {func(*drivers.Template) {}, ""},
		"calico":         {func(t *drivers.Template) { t.NetworkDriver = "calico" }, ""},
		"flannel on bm":  {func(t *drivers.Template) { t.NetworkDriver, t.ServerType = "flannel", "bm" }, ""},
		"cinder":         {func(t *drivers.Template) { t.VolumeDriver = "cinder" }, ""},
		"without TLS":    {func(t *drivers.Template) { t.TLSDisabled = true }, ""},
		"docker network": {func(t *drivers.Template) { t.NetworkDriver = "docker" }, "network_driver"},
		"rexray":         {func(t *drivers.Template) { t.VolumeDriver = "rexray" }, "volume_driver"},
		"other server":   {func(t *drivers.Template) { t.ServerType = "lxc" }, "server_type"},
		"another's COE":  {func(t *drivers.Template) { t.COE = "swarm" }, "coe"},
	} {
		err := kubernetes.New().ValidateTemplate(template(tt.change))
		if tt.refused == "" && err != nil || tt.refused != "" && (err == nil || !strings.Contains(err.Error(), tt.refused)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Templates go through, clusters are refused with Magnum's words.
func TestClustersAreRefused(t *testing.T) {
	d := kubernetes.New()
	tmpl := template(func(*drivers.Template) {})
	err := d.ValidateCluster(tmpl, &drivers.Cluster{}, nil)
	var unsupported *drivers.UnsupportedError
	if !errors.As(err, &unsupported) || err.Error() != "Cluster type (vm, debian, kubernetes) not supported." {
		t.Errorf("got %v", err)
	}
	cloud := conformance.NewCloud(t, conformance.NewMemory(), *tmpl)
	cloud.Resize(1, 1)
	_, err = d.Run(t.Context(), cloud.Job(cloud.Operation(drivers.Create)), drivers.Step{Name: "certificates"})
	if !errors.As(err, &unsupported) || !fault.IsPermanent(err) {
		t.Errorf("a step answered %v", err)
	}
	if _, err := d.Health(t.Context(), cloud.Job(cloud.Operation(drivers.Update))); err == nil {
		t.Error("there is health without a cluster")
	}
}

func TestPlansCanBeTaken(t *testing.T) {
	cloud := conformance.NewCloud(t, conformance.NewMemory(), *template(func(*drivers.Template) {}))
	cloud.Resize(3, 2)
	for _, kind := range []string{drivers.Create, drivers.Update, drivers.Delete} {
		plan, err := kubernetes.New().Plan(t.Context(), cloud.Job(cloud.Operation(kind)))
		if err != nil || len(plan) == 0 {
			t.Fatalf("%s: %v, %v", kind, plan, err)
		}
		if _, err := conformance.Order(plan); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestARealDriverGoesFirst(t *testing.T) {
	other := fake.New(fake.NewCOE(), "kubernetes")
	registry := drivers.NewRegistry(kubernetes.New(), other)
	d, err := registry.For(template(func(*drivers.Template) {}))
	if err != nil || d.Info().Name != "fake" {
		t.Errorf("got %v, %v", d, err)
	}
	d, err = drivers.NewRegistry(kubernetes.New()).For(template(func(*drivers.Template) {}))
	if err != nil || !d.Info().Stub {
		t.Errorf("got %v, %v", d, err)
	}
}

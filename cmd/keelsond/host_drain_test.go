// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store/storetest"
)

func TestHostsAreDrainedAndReleased(t *testing.T) {
	o := newOperator(t, "")
	s := o.onDatabase(storetest.MariaDB(t))
	machine := "5c41f1f2-0000-4000-8000-000000000001"
	must(t, s.AddHost(t.Context(), &model.Host{Name: "rack1", State: model.HostReady, Bridge: "br0"}))
	must(t, s.AddHost(t.Context(), &model.Host{Name: "rack2", State: model.HostReady, Bridge: "br0", IronicNodeID: &machine}))
	must(t, s.AddHost(t.Context(), &model.Host{Name: "rack3", State: model.HostDeploying, Bridge: "br0"}))
	says := func(want string, args ...string) {
		t.Helper()
		out, err := o.run(append([]string{"host"}, args...)...)
		if err != nil {
			out += err.Error()
		}
		if !strings.Contains(out, want) {
			t.Errorf("host %v: %q is missing in\n%s", args, want, out)
		}
	}
	for range 2 {
		says("takes no new nodes; it has 0", "drain", "rack1", "--reason", "new fan")
	}
	says("new fan", "list")
	for range 2 {
		says("host rack1 takes new nodes", "undrain", "rack1")
	}
	says("is not from Ironic: `keelsond host remove` forgets it", "release", "rack1")
	says("is Ironic's: `keelsond host release` gives it back", "remove", "rack2")
	for range 2 {
		says("host rack2 goes back to Ironic", "release", "rack2")
	}
	says("releasing", "list")
	says("not possible with this host: it is deploying", "drain", "rack3")
	says("--reason must not be empty", "drain", "rack1", "--reason", " ")
	says("there is no host rack9", "drain", "rack9")
}

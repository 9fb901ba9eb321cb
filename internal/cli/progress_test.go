// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/api/v1"
)

// TestPicture shows an operation half way, failing, and at its end.
func TestPicture(t *testing.T) {
	at := func(s int) v1.Time { return v1.Time(time.Unix(int64(1000+s), 0)) }
	end := func(s int) *v1.Time { t := at(s); return &t }
	ascii := marks{done: "+", failed: "x", waits: "-", turning: []string{"|", "/"}}
	steps := []v1.Step{
		{Name: "certificates", State: "done", Attempts: 1, StartedAt: at(0), FinishedAt: end(1)},
		{Name: "node.start", Node: "demo-worker-0", State: "done", Attempts: 1, StartedAt: at(1), FinishedAt: end(64)},
		{Name: "node.start", Node: "demo-worker-1", State: "running", Attempts: 3, Message: "the host\x1b[2J does not answer", StartedAt: at(1)},
		{Name: "node.start", Node: "demo-worker-2", State: "running", Attempts: 1, StartedAt: at(1)},
	}
	for _, c := range []struct {
		what string
		o    *v1.Operation
		last bool
		want []string
	}{
		{"not told", nil, false, []string{"/ create demo  5 s"}},
		{"half way", &v1.Operation{Kind: "create", State: "running", Steps: steps}, false, []string{
			"/ create demo  running  5 s",
			"  + certificates                1 s",
			"  / node.start             1/3  demo-worker-1, demo-worker-2  try 3: the host [2J does not answer",
		}},
		{"left", &v1.Operation{Kind: "create", State: "running", Steps: steps[:3]}, true, []string{
			"- create demo  running  5 s",
			"  + certificates                1 s",
			"  - node.start             1/2  demo-worker-1  try 3: the host [2J does not answer",
		}},
		{"undoing", &v1.Operation{Kind: "create", State: "running", Undo: true}, false, []string{"/ create demo  failed, removing what was begun  5 s"}},
		{"failed", &v1.Operation{Kind: "create", State: "failed", Steps: []v1.Step{
			{Name: "node.start", Node: "n", State: "failed", Message: "no room", StartedAt: at(0), FinishedAt: end(1)},
		}}, true, []string{"x create demo  failed  5 s", "  x node.start             0/1  n  no room"}},
		{"many", &v1.Operation{Kind: "create", State: "running", Steps: []v1.Step{
			{Name: "node.start", Node: "d", State: "running"},
			{Name: "node.start", Node: "c", State: "running"},
			{Name: "node.start", Node: "b", State: "running"},
			{Name: "node.start", Node: "a", State: "running"},
		}}, false, []string{"/ create demo  running  5 s", "  / node.start             0/4  a, b, c and 1 more"}},
		{"done", &v1.Operation{Kind: "create", State: "done", Steps: steps[:2]}, true, []string{
			"+ create demo  done  5 s",
			"  + certificates                1 s",
			"  + node.start             1/1  1 min 3 s",
		}},
	} {
		got := render(c.o, job{name: "demo", verb: "create"}, 5*time.Second, 1, ascii, c.last)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s:\n%s", c.what, diff)
		}
	}
}

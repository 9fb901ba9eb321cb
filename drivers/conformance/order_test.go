// SPDX-License-Identifier: Apache-2.0

package conformance_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/conformance"
)

// plan reads "b<a c<a,b": b needs a, and so on.
func plan(text string) []drivers.Step {
	var steps []drivers.Step
	for word := range strings.FieldsSeq(text) {
		name, needs, _ := strings.Cut(word, "<")
		step := drivers.Step{Name: name}
		for need := range strings.SplitSeq(needs, ",") {
			if need != "" {
				step.Needs = append(step.Needs, drivers.StepKey{Name: need})
			}
		}
		steps = append(steps, step)
	}
	return steps
}

func TestOrder(t *testing.T) {
	for _, tt := range []struct{ plan, want, refused string }{
		{"", "", ""},
		{"a b c", "a b c", ""},
		{"c<b b<a a", "a b c", ""},
		{"d<b,c b<a c<a a", "a b c d", ""},
		{"a a", "", "twice"},
		{"a<b", "", "not in the plan"},
		{"a b<c c<b", "", "circle"},
		{"a<a", "", "circle"},
	} {
		order, err := conformance.Order(plan(tt.plan))
		if tt.refused != "" {
			if err == nil || !strings.Contains(err.Error(), tt.refused) {
				t.Errorf("%q: got %v, want an error with %q", tt.plan, err, tt.refused)
			}
			continue
		}
		var names []string
		for _, step := range order {
			names = append(names, step.Name)
		}
		if diff := cmp.Diff(tt.want, strings.Join(names, " ")); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", tt.plan, err, diff)
		}
	}
}

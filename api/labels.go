// SPDX-License-Identifier: Apache-2.0

package api

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/model"
)

// mergedLabels are the labels of something made from a parent: the parent's
// when none are given; the given ones alone; or, with merge, the parent's
// updated by the given ones.
func mergedLabels(parent, given model.Labels, merge bool) model.Labels {
	switch {
	case len(given) == 0:
		return copyLabels(parent)
	case !merge:
		return given
	}
	merged := copyLabels(parent)
	maps.Copy(merged, given)
	return merged
}

// copyLabels returns a copy that is never nil.
func copyLabels(l model.Labels) model.Labels {
	out := make(model.Labels, len(l))
	maps.Copy(out, l)
	return out
}

// present returns the labels as they go out: {} instead of null.
func present(l model.Labels) map[string]string {
	if l == nil {
		return map[string]string{}
	}
	return l
}

// compareLabels tells in what way labels differ from their parent's.
func compareLabels(parent, own model.Labels) v1.LabelDifferences {
	d := v1.LabelDifferences{
		Overridden: map[string]string{}, Added: map[string]string{}, Skipped: map[string]string{},
	}
	for key, value := range own {
		switch of, both := parent[key]; {
		case !both:
			d.Added[key] = value
		case of != value:
			d.Overridden[key] = of
		}
	}
	for key, value := range parent {
		if _, both := own[key]; !both {
			d.Skipped[key] = value
		}
	}
	return d
}

// swarmStrategies are the words that the label swarm_strategy may hold.
var swarmStrategies = []string{"spread", "binpack", "random"}

// Forms of the labels host_traits and host_resource_class.
var (
	traitPattern         = regexp.MustCompile(`^[A-Z0-9_]{1,255}$`)
	resourceClassPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,80}$`)
)

// checkLabels refuses labels whose meaning is known and whose value has none.
func checkLabels(l model.Labels) error {
	if strategy, given := l["swarm_strategy"]; given {
		for _, word := range strings.Fields(strategy) {
			if !slices.Contains(swarmStrategies, word) {
				return badRequest("Invalid input for attribute \"labels\": swarm_strategy can not be %q: it is one of %s.", word, strings.Join(swarmStrategies, ", "))
			}
		}
	}
	if refusals, given := l["docker_refusals"]; given {
		if _, err := strconv.ParseBool(refusals); err != nil {
			return badRequest("Invalid input for attribute \"labels\": docker_refusals can not be %q: it is true or false.", refusals)
		}
	}
	for _, trait := range strings.FieldsFunc(l["host_traits"], func(r rune) bool { return r == ',' || r == ' ' }) {
		if !traitPattern.MatchString(trait) {
			return badRequest("Invalid input for attribute \"labels\": host_traits can not hold %q: traits are of capital letters, digits and _, with commas between them.", trait)
		}
	}
	if class := strings.TrimSpace(l["host_resource_class"]); class != "" && !resourceClassPattern.MatchString(class) {
		return badRequest("Invalid input for attribute \"labels\": host_resource_class can not be %q: it is the resource class of bare-metal nodes.", class)
	}
	return nil
}

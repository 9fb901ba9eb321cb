// SPDX-License-Identifier: Apache-2.0

package api

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/api/openapitest"
	"github.com/keelson/keelson/internal/health"
)

// described is what the document and the route table both know of a call.
type described struct {
	Since     string // microversion
	Rule      string // policy rule that decides
	Across    string // further one for administrators
	Public    bool   // no token
	Arguments []string
}

func TestOpenAPI_TellsOfAllThatIsServedAndOfNothingElse(t *testing.T) {
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	document, err := openapitest.Load(text)
	if err != nil {
		t.Fatal(err)
	}

	want := map[string]described{}
	for _, path := range []string{health.LivePath, health.ReadyPath, openAPIPath, openAPIJSONPath} {
		for _, method := range []string{"GET", "HEAD"} {
			want[method+" "+path] = described{Public: true}
		}
	}
	for _, route := range (&API{}).table() {
		d := described{Rule: route.rule, Across: route.across, Public: route.rule == "", Arguments: slices.Sorted(slices.Values(route.args))}
		if route.since != unversioned {
			d.Since = route.since.String()
		}
		want[route.method+" "+route.path] = d
	}

	got := map[string]described{}
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			call := method + " " + path
			d := described{Public: operation.Security != nil && len(*operation.Security) == 0}
			d.Since, _ = operation.Extensions["x-openstack-min-version"].(string)
			d.Rule, _ = operation.Extensions["x-openstack-policy"].(string)
			d.Across, _ = operation.Extensions["x-openstack-policy-all-projects"].(string)
			for _, parameter := range operation.Parameters {
				if parameter.Value.In == openapi3.ParameterInQuery {
					d.Arguments = append(d.Arguments, parameter.Value.Name)
				}
			}
			slices.Sort(d.Arguments)
			if !granted(operation) && d.Rule == "" { // what is refused always need not ask the policy
				d.Rule = want[call].Rule
			}
			got[call] = d
			checkParameters(t, call, path, append(slices.Clone(item.Parameters), operation.Parameters...), d)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("served (-) and documented (+):\n%s", diff)
	}
}

// granted tells whether a call may succeed.
func granted(operation *openapi3.Operation) bool {
	return slices.ContainsFunc(slices.Collect(maps.Keys(operation.Responses.Map())), func(status string) bool { return status < "300" })
}

// checkParameters demands the version header where versions count, and all
// variables of the path.
func checkParameters(t *testing.T, call, path string, parameters openapi3.Parameters, d described) {
	t.Helper()
	if has := parameters.GetByInAndName(openapi3.ParameterInHeader, versionHeader) != nil; has != (d.Since != "") {
		t.Errorf("%s: the header %s is documented: %t", call, versionHeader, has)
	}
	for segment := range strings.SplitSeq(path, "/") {
		if name, variable := strings.CutPrefix(segment, "{"); variable {
			if parameters.GetByInAndName(openapi3.ParameterInPath, strings.TrimSuffix(name, "}")) == nil {
				t.Errorf("%s: %s is not documented", call, segment)
			}
		}
	}
}

func TestOpenAPI_NamesTheVersionsThatAreServed(t *testing.T) {
	document, err := openapitest.Load(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	if document.Info.Version != maxVersion.String() {
		t.Errorf("the document is of version %s", document.Info.Version)
	}
	requested := document.Components.Parameters["Version"].Value.Schema.Value
	answered := document.Components.Headers["Version"].Value.Schema.Value
	for v := microversion(0); v <= maxVersion+1; v++ {
		served := v >= minVersion && v <= maxVersion
		for _, name := range serviceNames {
			if ok := requested.VisitJSON(name+" "+v.String()) == nil; ok != served {
				t.Errorf("a request for %s %s is documented: %t", name, v, ok)
			}
		}
		if ok := answered.VisitJSON(serviceName+" "+v.String()) == nil; ok != served {
			t.Errorf("an answer of version %s is documented: %t", v, ok)
		}
	}
	for header, version := range map[string]microversion{"MinimumVersion": minVersion, "MaximumVersion": maxVersion} {
		if err := document.Components.Headers[header].Value.Schema.Value.VisitJSON(serviceName + " " + version.String()); err != nil {
			t.Errorf("%s: %v", header, err)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/keelson/keelson/api/v1"
)

// microversion is the Y of version 1.Y of the API.
type microversion int

// Versions at which something begins to work, and the range that is served.
const (
	minVersion microversion = 1
	maxVersion microversion = 11

	always                       = minVersion
	withAsyncBays   microversion = 2 // bays answer like clusters
	withRollback    microversion = 3 // PATCH ?rollback=
	withActions     microversion = 7 // resize; upgrade is refused at exactly 1.7
	withUpgrade     microversion = 8
	withNodeGroups  microversion = 9
	withZeroNodes   microversion = 10 // node_count 0; and a missing template is 404, no longer 400
	versionHeader                = "OpenStack-API-Version"
	serviceName                  = "container-infra"
	versionHelpLink              = "http://docs.openstack.org/api-guide/compute/microversions.html"
)

// serviceNames are the words a request may call this service by.
var serviceNames = []string{serviceName, "container-infrastructure-management", "container-infrastructure"}

func (v microversion) String() string { return "1." + strconv.Itoa(int(v)) }

// versionRangeError says that the requested version is well formed but not
// served. Its answer has a shape of its own.
type versionRangeError struct{ requested string }

func (e *versionRangeError) Error() string {
	return fmt.Sprintf("Version %s is not supported by the API. Minimum is %s and maximum is %s.", e.requested, minVersion, maxVersion)
}

func (e *versionRangeError) wire(wantsJSON bool) v1.UnsupportedVersion {
	w := v1.UnsupportedVersionError{
		Code:       "magnum.microversion-unsupported",
		Title:      "Requested microversion is unsupported",
		MaxVersion: maxVersion.String(),
		MinVersion: minVersion.String(),
		Links:      []v1.Link{{Href: versionHelpLink, Rel: "help"}},
	}
	if wantsJSON {
		w.Description = e.Error()
	}
	return v1.UnsupportedVersion{Errors: []v1.UnsupportedVersionError{w}}
}

// parseVersion reads the header "OpenStack-API-Version: <service> <X.Y>". An
// absent header means 1.1; the service word of "latest" is not looked at.
func parseVersion(h http.Header) (microversion, error) {
	values := h.Values(versionHeader)
	if len(values) == 0 {
		return minVersion, nil
	}
	text := strings.Join(values, ",")
	words := strings.Fields(text)
	if len(words) != 2 {
		return 0, notAcceptable("Invalid value %q for the %s header.", text, versionHeader)
	}
	if strings.EqualFold(words[1], "latest") {
		return maxVersion, nil
	}
	if !slices.Contains(serviceNames, words[0]) {
		return 0, notAcceptable("Invalid service type %q in the %s header.", words[0], versionHeader)
	}
	majorText, minorText, ok := strings.Cut(words[1], ".")
	major, majorErr := strconv.ParseUint(majorText, 10, 31)
	minor, minorErr := strconv.ParseUint(minorText, 10, 31)
	if !ok || majorErr != nil || minorErr != nil {
		return 0, notAcceptable("Invalid version %q in the %s header: it must be two numbers joined by a dot.", words[1], versionHeader)
	}
	if v := microversion(minor); major == 1 && v >= minVersion && v <= maxVersion {
		return v, nil
	}
	return 0, &versionRangeError{requested: fmt.Sprintf("%d.%d", major, minor)}
}

// setVersionHeaders says which versions there are and which one is in use.
func setVersionHeaders(h http.Header, inUse string) {
	h.Set("OpenStack-API-Minimum-Version", serviceName+" "+minVersion.String())
	h.Set("OpenStack-API-Maximum-Version", serviceName+" "+maxVersion.String())
	h.Set(versionHeader, serviceName+" "+inUse)
	if !slices.Contains(h.Values("Vary"), versionHeader) {
		h.Add("Vary", versionHeader)
	}
}

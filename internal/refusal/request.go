// SPDX-License-Identifier: Apache-2.0

package refusal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Paths of the Docker API may begin with its version.
var version = regexp.MustCompile(`^/v[0-9.]+/`)

// Check returns why a request to the Docker API is refused, nil when it is not.
// The uri is that of the request line; the body is what an authorization plugin
// gets: empty when there is none, when it is not JSON or has more than 1 MB.
func Check(method, uri string, body []byte) *Refusal {
	if method != "POST" {
		return nil
	}
	target, err := url.ParseRequestURI(uri)
	if err != nil {
		return unreadable("its address is none: " + err.Error())
	}
	route := strings.Split(strings.TrimPrefix(version.ReplaceAllString(target.Path, "/"), "/"), "/")
	last := route[len(route)-1]
	switch route[0] {
	case "containers":
		switch {
		case last == "create" && len(route) == 2:
			return check(body, checkContainer)
		case last == "exec":
			return check(body, checkExec)
		case last == "start" && len(body) > 0: // before API 1.24 it could have a host configuration
			return check(body, checkContainer)
		}
	case "services":
		if last == "create" || last == "update" {
			return check(body, checkService)
		}
	case "volumes":
		if last == "create" {
			return check(body, checkVolume)
		}
	case "plugins":
		if last == "pull" || last == "upgrade" {
			return check(body, checkPrivileges)
		}
	case "build":
		if option := target.Query().Get("securityopt"); option != "" && option != "null" && option != "[]" {
			return securityOption("docker build --security-opt " + option)
		}
	}
	return nil
}

// check decodes as dockerd does, with the same package and the names of the same
// fields: it reads the first value, and the case of names does not matter.
func check[T any](body []byte, rules func(*T) *Refusal) *Refusal {
	if len(body) == 0 {
		return unreadable("it has no body, one that is not JSON, or one of more than 1 MB")
	}
	var request T
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&request); err != nil {
		return unreadable(err.Error())
	}
	return rules(&request)
}

// container is what POST /containers/create says. Docker took the fields of
// HostConfig outside of it, too.
type container struct {
	HostConfig *hostConfig
	hostConfig
}

type hostConfig struct {
	Privileged  bool
	Binds       []string
	Mounts      []mount
	CapAdd      words
	SecurityOpt []string
	IpcMode     string
	PidMode     string

	// Not null and empty with --security-opt systempaths=unconfined.
	MaskedPaths   []string
	ReadonlyPaths []string

	Devices           []struct{ PathOnHost string }
	DeviceCgroupRules []string
	DeviceRequests    []struct{ Driver string }
}

type mount struct {
	Type, Source  string
	VolumeOptions *struct{ DriverConfig *volumeDriver }
}

type volumeDriver struct {
	Name    string
	Options map[string]string
}

// words is a list that may be written as one word.
type words []string

// UnmarshalJSON implements json.Unmarshaler.
func (w *words) UnmarshalJSON(text []byte) error {
	var list []string
	if json.Unmarshal(text, &list) == nil {
		*w = list
		return nil
	}
	var one string
	if err := json.Unmarshal(text, &one); err != nil {
		return err
	}
	*w = words{one}
	return nil
}

func checkContainer(c *container) *Refusal {
	if r := checkHostConfig(&c.hostConfig); r != nil || c.HostConfig == nil {
		return r
	}
	return checkHostConfig(c.HostConfig)
}

func checkHostConfig(h *hostConfig) *Refusal {
	if h.Privileged {
		return privileged("--privileged")
	}
	var paths []string
	for _, bind := range h.Binds {
		// One word is a path in the container.
		if source, _, ok := strings.Cut(bind, ":"); ok && path.IsAbs(source) && !isOpenPath(path.Clean(source)) {
			paths = append(paths, source)
		}
	}
	if r := checkMounts(h.Mounts, paths); r != nil {
		return r
	}
	if r := checkCapabilities(h.CapAdd); r != nil {
		return r
	}
	for _, option := range h.SecurityOpt {
		name, value, _ := strings.Cut(strings.ReplaceAll(option, ":", "="), "=")
		if name != "no-new-privileges" || (value != "" && value != "true" && value != "false") {
			return securityOption("--security-opt " + shortened(option))
		}
	}
	unmasked := h.MaskedPaths != nil && len(h.MaskedPaths) == 0
	if unmasked || h.ReadonlyPaths != nil && len(h.ReadonlyPaths) == 0 {
		return securityOption("--security-opt systempaths=unconfined")
	}
	switch {
	case h.IpcMode == "host":
		return ipcNamespace("--ipc=host")
	case h.PidMode == "host":
		return processesOfNode("--pid=host")
	case len(h.Devices) > 0:
		return device("--device " + h.Devices[0].PathOnHost)
	case len(h.DeviceCgroupRules) > 0:
		return device("--device-cgroup-rule")
	case len(h.DeviceRequests) > 0:
		return device("--gpus")
	}
	return nil
}

// shortened is the option without the text of a whole profile.
func shortened(option string) string {
	if len(option) > 100 {
		return option[:100] + "…"
	}
	return option
}

func checkMounts(mounts []mount, paths []string) *Refusal {
	for _, m := range mounts {
		switch {
		case m.Type == "bind":
			if !isOpenPath(path.Clean(m.Source)) {
				paths = append(paths, m.Source)
			}
		case m.VolumeOptions != nil && m.VolumeOptions.DriverConfig != nil:
			if r := checkVolumeDriver(m.VolumeOptions.DriverConfig); r != nil {
				return r
			}
		}
	}
	if len(paths) > 0 {
		return nodePath("a mount of the node's " + strings.Join(paths, ", "))
	}
	return nil
}

func checkCapabilities(added []string) *Refusal {
	var refused []string
	for _, name := range added {
		if !isOpenCapability(name) {
			refused = append(refused, name)
		}
	}
	if refused == nil {
		return nil
	}
	return capability(refused)
}

func checkExec(e *struct{ Privileged bool }) *Refusal {
	if e.Privileged {
		return privileged("docker exec --privileged")
	}
	return nil
}

// service is what POST /services/create and update say.
type service struct {
	TaskTemplate struct {
		ContainerSpec *struct {
			Mounts        []mount
			CapabilityAdd []string
			Privileges    *struct {
				SELinuxContext *struct{ Disable bool }
				Seccomp        *struct{ Mode string }
				AppArmor       *struct{ Mode string }
			}
		}
		PluginSpec *struct{ Privileges []privilege }
	}
}

func checkService(s *service) *Refusal {
	if p := s.TaskTemplate.PluginSpec; p != nil {
		if r := checkPrivileges(&p.Privileges); r != nil {
			return r
		}
	}
	c := s.TaskTemplate.ContainerSpec
	if c == nil {
		return nil
	}
	if r := checkMounts(c.Mounts, nil); r != nil {
		return r
	}
	if r := checkCapabilities(c.CapabilityAdd); r != nil {
		return r
	}
	if p := c.Privileges; p != nil {
		switch {
		case p.Seccomp != nil && p.Seccomp.Mode != "" && p.Seccomp.Mode != "default":
			return securityOption("seccomp " + p.Seccomp.Mode)
		case p.AppArmor != nil && p.AppArmor.Mode != "" && p.AppArmor.Mode != "default":
			return securityOption("apparmor " + p.AppArmor.Mode)
		case p.SELinuxContext != nil && p.SELinuxContext.Disable:
			return securityOption("label=disable")
		}
	}
	return nil
}

func checkVolume(v *struct {
	Driver     string
	DriverOpts map[string]string
},
) *Refusal {
	return checkVolumeDriver(&volumeDriver{v.Driver, v.DriverOpts})
}

// What volumes of Docker's own driver may be beside directories of their own.
var volumeTypes = []string{"tmpfs", "nfs", "nfs4", "cifs"}

// checkVolumeDriver looks for what is a bind mount by another name.
func checkVolumeDriver(v *volumeDriver) *Refusal {
	if v.Name != "" && v.Name != "local" {
		return nil
	}
	kind, source := v.Options["type"], v.Options["device"]
	if slices.Contains(volumeTypes, kind) || kind == "" && source == "" {
		return nil
	}
	if (kind == "" || kind == "none") && isOpenPath(path.Clean(source)) {
		return nil
	}
	return nodePath(fmt.Sprintf("a volume of type %q on the node's %q", kind, source))
}

// privilege is one that a plugin asks for; names are those of dockerd.
type privilege struct {
	Name  string
	Value []string
}

func checkPrivileges(asked *[]privilege) *Refusal {
	for _, p := range *asked {
		switch p.Name {
		case "mount":
			for _, source := range p.Value {
				if !isOpenPath(path.Clean(source)) {
					return nodePath("a plugin's mount of the node's " + source)
				}
			}
		case "capabilities":
			if r := checkCapabilities(p.Value); r != nil {
				return r
			}
		case "device", "allow-all-devices":
			return device("a plugin with devices")
		case "host ipc namespace":
			return ipcNamespace("a plugin with the node's shared memory")
		case "host pid namespace":
			return processesOfNode("a plugin with the node's processes")
		}
	}
	return nil
}

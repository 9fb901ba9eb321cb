// SPDX-License-Identifier: Apache-2.0

package refusal_test

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/swarm"

	"github.com/keelson/keelson/internal/refusal"
)

func TestWhatIsRefused(t *testing.T) {
	const allowed = 0
	host := func(config string) string { return `{"Image":"web","HostConfig":{` + config + `}}` }
	task := func(spec string) string { return `{"Name":"web","TaskTemplate":{"ContainerSpec":{` + spec + `}}}` }
	const create, start, service, volume = "/v1.41/containers/create?name=web", "/containers/web/start", "/v1.41/services/create", "/v1.41/volumes/create"
	for _, tt := range []struct {
		asked string
		uri   string
		body  string
		want  int
		words string // of the refusal
	}{
		{"a plain container", create, host(``), allowed, ""},
		{"--privileged", create, host(`"Privileged":true`), refusal.Privileged, "--cap-add"},
		{"--privileged in lower case", create, `{"hostconfig":{"privileged":true}}`, refusal.Privileged, ""},
		{"--privileged outside of HostConfig", create, `{"Privileged":true}`, refusal.Privileged, ""},
		{"--privileged without a version", "/containers/create", host(`"Privileged":true`), refusal.Privileged, ""},
		{"--privileged with a coded path", "/v1.41/containers/%63reate", host(`"Privileged":true`), refusal.Privileged, ""},
		{"--privileged said twice", create, `{"HostConfig":{"Privileged":false},"HOSTCONFIG":{"Privileged":true}}`, refusal.Privileged, ""},
		{"exec --privileged", "/v1.41/containers/web/exec", `{"Privileged":true,"Cmd":["sh"]}`, refusal.Privileged, "docker exec"},
		{"exec", "/v1.41/containers/web/exec", `{"Cmd":["sh"]}`, allowed, ""},
		{"start", start, ``, allowed, ""},
		{"start with a host configuration", start, `{"Privileged":true}`, refusal.Privileged, ""},

		{"-v volume:/data", create, host(`"Binds":["data:/data","/scratch"]`), allowed, ""},
		{"-v below /var/lib/docker", create, host(`"Binds":["/var/lib/docker/volumes:/data:ro"]`), allowed, ""},
		{"-v docker.sock", create, host(`"Binds":["/var/run/docker.sock:/var/run/docker.sock"]`), allowed, ""},
		{"-v /", create, host(`"Binds":["/:/host"]`), refusal.NodePath, "node's / is|docker volume create"},
		{"-v two paths", create, host(`"Binds":["/etc:/a","data:/b","/proc:/c:ro"]`), refusal.NodePath, "/etc, /proc"},
		{"-v with ..", create, host(`"Binds":["/var/lib/docker/../../etc:/a"]`), refusal.NodePath, ""},
		{"-v a neighbour of /var/lib/docker", create, host(`"Binds":["/var/lib/docker2:/a"]`), refusal.NodePath, ""},
		{"--mount type=bind", create, host(`"Mounts":[{"Type":"bind","Source":"/etc","Target":"/a"}]`), refusal.NodePath, "/etc"},
		{"--mount type=volume", create, host(`"Mounts":[{"Type":"volume","Source":"data","Target":"/a"}]`), allowed, ""},
		{"--mount type=tmpfs", create, host(`"Mounts":[{"Type":"tmpfs","Target":"/a"}]`), allowed, ""},
		{"--mount of a volume that is a bind", create, host(`"Mounts":[{"Type":"volume","Target":"/a","VolumeOptions":{"DriverConfig":{"Options":{"type":"none","o":"bind","device":"/etc"}}}}]`), refusal.NodePath, "/etc"},
		{"a volume", volume, `{"Name":"data","Driver":"local","DriverOpts":{}}`, allowed, ""},
		{"a volume that is a bind", volume, `{"Name":"data","DriverOpts":{"type":"none","o":"bind","device":"/etc"}}`, refusal.NodePath, "/etc"},
		{"a volume that is a device", volume, `{"Driver":"local","DriverOpts":{"type":"ext4","device":"/dev/sda1"}}`, refusal.NodePath, "/dev/sda1"},
		{"a volume over NFS", volume, `{"DriverOpts":{"type":"nfs","o":"addr=192.0.2.1,rw","device":":/export"}}`, allowed, ""},
		{"a volume in memory", volume, `{"DriverOpts":{"type":"tmpfs","device":"tmpfs","o":"size=100m"}}`, allowed, ""},
		{"another driver's volume", volume, `{"Driver":"rexray","DriverOpts":{"device":"/a"}}`, allowed, ""},

		{"--cap-add of Docker's own", create, host(`"CapAdd":["NET_BIND_SERVICE","cap_chown"]`), allowed, ""},
		{"--cap-add SYS_ADMIN", create, host(`"CapAdd":["CAP_CHOWN","SYS_ADMIN"]`), refusal.Capability, "--cap-add SYS_ADMIN is"},
		{"--cap-add ALL, as one word", create, host(`"CapAdd":"ALL"`), refusal.Capability, "ALL"},
		{"--cap-drop", create, host(`"CapDrop":["ALL"]`), allowed, ""},
		{"no-new-privileges", create, host(`"SecurityOpt":["no-new-privileges","no-new-privileges:true"]`), allowed, ""},
		{"seccomp=unconfined", create, host(`"SecurityOpt":["seccomp=unconfined"]`), refusal.SecurityOption, "seccomp=unconfined"},
		{"a profile of one's own", create, host(`"SecurityOpt":["seccomp={` + strings.Repeat(" ", 5000) + `}"]`), refusal.SecurityOption, "…"},
		{"systempaths=unconfined", create, host(`"MaskedPaths":[],"ReadonlyPaths":[]`), refusal.SecurityOption, "systempaths"},
		{"paths as they are", create, host(`"MaskedPaths":null,"ReadonlyPaths":["/proc/bus"]`), allowed, ""},
		{"build with a profile", "/v1.41/build?securityopt=%5B%22seccomp%3Dunconfined%22%5D", "", refusal.SecurityOption, ""},
		{"build", "/v1.41/build?t=web&networkmode=host", "", allowed, ""},

		{"--net=host", create, host(`"NetworkMode":"host"`), allowed, ""},
		{"--ipc=host", create, host(`"IpcMode":"host"`), refusal.IPCNamespace, "shareable"},
		{"--ipc=container", create, host(`"IpcMode":"container:web"`), allowed, ""},
		{"--pid=host", create, host(`"PidMode":"host"`), refusal.ProcessesOfNode, "docker top"},
		{"--device", create, host(`"Devices":[{"PathOnHost":"/dev/fuse","PathInContainer":"/dev/fuse"}]`), refusal.Device, "/dev/fuse"},
		{"--device-cgroup-rule", create, host(`"DeviceCgroupRules":["c 1:3 mr"]`), refusal.Device, ""},
		{"--gpus", create, host(`"DeviceRequests":[{"Driver":"nvidia"}]`), refusal.Device, "--gpus"},

		{"a plain service", service, task(`"Image":"web"`), allowed, ""},
		{"a service with a bind", service, task(`"Mounts":[{"Type":"bind","Source":"/etc","Target":"/a"}]`), refusal.NodePath, "/etc"},
		{"a service with docker.sock", service, task(`"Mounts":[{"Type":"bind","Source":"/run/docker.sock","Target":"/a"}]`), allowed, ""},
		{"a service updated", "/v1.41/services/abc/update?version=11", task(`"Mounts":[{"Type":"bind","Source":"/","Target":"/a"}]`), refusal.NodePath, ""},
		{"a service with a capability", service, task(`"CapabilityAdd":["CAP_SYS_ADMIN"]`), refusal.Capability, ""},
		{"a service without seccomp", service, task(`"Privileges":{"Seccomp":{"Mode":"unconfined"}}`), refusal.SecurityOption, ""},
		{"a service without AppArmor", service, task(`"Privileges":{"AppArmor":{"Mode":"disabled"}}`), refusal.SecurityOption, ""},
		{"a service that is a plugin", service, `{"TaskTemplate":{"Runtime":"plugin","PluginSpec":{"privileges":[{"name":"mount","value":["/etc"]}]}}}`, refusal.NodePath, "/etc"},
		{"a plugin", "/v1.41/plugins/pull?remote=p", `[{"Name":"network","Value":["host"]}]`, allowed, ""},
		{"a plugin with devices", "/v1.41/plugins/pull?remote=p", `[{"Name":"allow-all-devices","Value":["true"]}]`, refusal.Device, ""},
		{"a plugin with everything", "/v1.41/plugins/p/upgrade?remote=p", `[{"Name":"capabilities","Value":["CAP_SYS_ADMIN"]}]`, refusal.Capability, ""},

		{"more than a plugin gets to see", create, ``, refusal.Unreadable, "1 MB"},
		{"not JSON", create, `Privileged=true`, refusal.Unreadable, ""},
		{"other things", "/v1.41/networks/create", `{"Driver":"overlay"}`, allowed, ""},
	} {
		t.Run(tt.asked, func(t *testing.T) {
			got := refusal.Check("POST", tt.uri, []byte(tt.body))
			switch {
			case got == nil && tt.want == allowed:
			case got == nil || got.Code != tt.want:
				t.Errorf("%v, want %d", got, tt.want)
			default:
				for _, words := range append(strings.Split(tt.words, "|"), "KEELSON-", "Instead: ") {
					if !strings.Contains(got.Error(), words) {
						t.Errorf("%q does not say %q", got, words)
					}
				}
				if len(got.Error()) > 700 {
					t.Errorf("too long to read: %s", got)
				}
			}
		})
	}
	if got := refusal.Check("GET", create, []byte(host(`"Privileged":true`))); got != nil {
		t.Errorf("GET: %v", got)
	}
}

// The plugin as dockerd talks to it.
func TestPlugin(t *testing.T) {
	ask := func(path, body string) (got map[string]any) {
		t.Helper()
		w := httptest.NewRecorder()
		refusal.Plugin().ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader(body)))
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		return got
	}
	question := func(body string) string {
		text, err := json.Marshal(map[string]any{
			"User": "admin", "UserAuthNMethod": "TLS", "RequestMethod": "POST", "RequestUri": "/v1.41/containers/create", "RequestBody": []byte(body),
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if diff := cmp.Diff(map[string]any{"Implements": []any{"authz"}}, ask("/Plugin.Activate", "")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]any{"Allow": true}, ask("/AuthZPlugin.AuthZReq", question(`{"Image":"web"}`))); diff != "" {
		t.Error(diff)
	}
	if got := ask("/AuthZPlugin.AuthZReq", question(`{"HostConfig":{"Privileged":true}}`)); got["Allow"] != false || !strings.HasPrefix(got["Msg"].(string), "KEELSON-1001: ") {
		t.Errorf("a privileged container: %v", got)
	}
	if got := ask("/AuthZPlugin.AuthZReq", "{"); got["Allow"] == true || got["Err"] == nil {
		t.Errorf("half a question: %v", got)
	}
	if diff := cmp.Diff(map[string]any{"Allow": true}, ask("/AuthZPlugin.AuthZRes", question(""))); diff != "" {
		t.Error(diff)
	}
}

// FuzzCheck wants no panic, and nothing let through that Docker's own types,
// which dockerd decodes with, call privileged or a bind mount of /etc.
func FuzzCheck(f *testing.F) {
	f.Add("/v1.41/containers/create", []byte(`{"Image":"web","HostConfig":{"Privileged":true,"CapAdd":"ALL"}}`))
	f.Add("/containers/create", []byte(`{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/etc"}],"Binds":["/etc:/a"]}}`))
	f.Add("/v1.41/services/create", []byte(`{"TaskTemplate":{"ContainerSpec":{"Mounts":[{"Type":"bind","Source":"/etc"}]}}}`))
	f.Add("/v1.41/volumes/create", []byte(`{"DriverOpts":{"type":"none","device":"/etc"}}`))
	f.Add("/v1.41/plugins/pull", []byte(`[{"Name":"mount","Value":["/"]}]`))
	f.Add("/v1.41/build?securityopt=[1]", []byte(nil))
	f.Fuzz(func(t *testing.T, uri string, body []byte) {
		_ = refusal.Check("POST", uri, body)
		decode := func(into any) bool { return json.NewDecoder(bytes.NewReader(body)).Decode(into) == nil }
		var c container.CreateRequest
		if decode(&c) && c.HostConfig != nil && refusal.Check("POST", "/v1.41/containers/create", body) == nil {
			if c.HostConfig.Privileged {
				t.Errorf("a privileged container gets through: %q", body)
			}
			for _, m := range c.HostConfig.Mounts {
				if m.Type == "bind" && m.Source == "/etc" {
					t.Errorf("a bind mount gets through: %q", body)
				}
			}
		}
		var s swarm.ServiceSpec
		if decode(&s) && s.TaskTemplate.ContainerSpec != nil && refusal.Check("POST", "/v1.41/services/create", body) == nil {
			for _, m := range s.TaskTemplate.ContainerSpec.Mounts {
				if m.Type == "bind" && m.Source == "/etc" {
					t.Errorf("a service's bind mount gets through: %q", body)
				}
			}
		}
	})
}

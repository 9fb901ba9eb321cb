// SPDX-License-Identifier: Apache-2.0

// Package refusal knows what tenants may not ask of a node's Docker Engine, and
// says it with a code, the cause and the remedy, before the kernel would refuse
// it with less to read.
//
// It teaches and protects nothing: what keeps tenants apart are the walls of
// the node, which hold without it (docs/security.md). So it reads what clients
// write in earnest, and does not follow symbolic links.
package refusal

import (
	"fmt"
	"slices"
	"strings"
)

// Refusal says why a request is refused. docs/refusals.md has a section for
// each code. The numbers up to 1006 mean what Carina's did; 1004 and 1005
// refused what is no harm here.
type Refusal struct {
	Code    int
	Asked   string // what is refused, as users write it
	Cause   string
	Instead string // what to do
}

// Error returns the refusal in one line.
func (r *Refusal) Error() string {
	return fmt.Sprintf("KEELSON-%d: %s is refused: %s. Instead: %s.", r.Code, r.Asked, r.Cause, r.Instead)
}

// Codes.
const (
	SecurityOption  = 1000
	Privileged      = 1001
	NodePath        = 1002
	Capability      = 1003
	IPCNamespace    = 1006
	ProcessesOfNode = 1007
	Device          = 1008
	Unreadable      = 1009
)

// The paths of a node that containers may have: Docker's own data, and its socket.
var openPaths = []string{"/var/lib/docker", "/var/run/docker.sock", "/run/docker.sock"}

// Capabilities that containers may add: what Docker gives them anyway, and what
// does no harm beyond the container's own namespaces.
var openCapabilities = strings.Fields(`
	AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_CHROOT
	IPC_LOCK NET_ADMIN SYS_NICE SYS_PTRACE`)

func securityOption(asked string) *Refusal {
	return &Refusal{
		SecurityOption, asked, "the security profiles of containers are the node's, and none can be taken off",
		"leave it out; no-new-privileges is the option that may be given",
	}
}

func privileged(asked string) *Refusal {
	return &Refusal{
		Privileged, asked, "no container gets more than others, as the node itself has no devices and few capabilities",
		"name the capabilities that the program needs: --cap-add with one of " + strings.Join(openCapabilities, ", "),
	}
}

func nodePath(asked string) *Refusal {
	return &Refusal{
		NodePath, asked, "containers may have no path of a node but those below " + strings.Join(openPaths[:2], " and "),
		"use a named volume (docker volume create), or put the files into the image, a config or a secret",
	}
}

func capability(names []string) *Refusal {
	return &Refusal{
		Capability, "--cap-add " + strings.Join(names, ", "), "the node does not have it for its containers",
		"leave it out; these may be added: " + strings.Join(openCapabilities, ", "),
	}
}

func ipcNamespace(asked string) *Refusal {
	return &Refusal{
		IPCNamespace, asked, "shared memory of the node is the node's own",
		"let containers share theirs: --ipc=shareable for one, --ipc=container:NAME for the others",
	}
}

func processesOfNode(asked string) *Refusal {
	return &Refusal{
		ProcessesOfNode, asked, "the processes of the node are those that keep the cluster running",
		"look at those of another container, --pid=container:NAME, or use docker top and docker stats",
	}
}

func device(asked string) *Refusal {
	return &Refusal{
		Device, asked, "nodes have no devices of their host",
		"leave it out; /dev/null, zero, full, random, urandom and tty are in every container",
	}
}

func unreadable(cause string) *Refusal {
	return &Refusal{Unreadable, "a request that can not be checked", cause, "send JSON of less than 1 MB, as Docker's own client does"}
}

// isOpenPath tells whether containers may have the path of the node.
func isOpenPath(clean string) bool {
	return slices.ContainsFunc(openPaths, func(open string) bool {
		return clean == open || strings.HasPrefix(clean, open+"/")
	})
}

// isOpenCapability takes names as Docker does: in any case, with or without CAP_.
func isOpenCapability(name string) bool {
	return slices.Contains(openCapabilities, strings.TrimPrefix(strings.ToUpper(name), "CAP_"))
}

// SPDX-License-Identifier: Apache-2.0

// Package lxc makes tenant nodes: system containers that libvirt's LXC driver
// runs on bare-metal hosts. It is the only package that knows libvirt, and
// libvirt is all it needs of a host: domains for the nodes, storage volumes
// for what they keep. What has to happen beside that on the host (mounting the
// node's root, handing over cgroups) is done there by the lxc hook of
// templates/host.
//
// All methods look before they act: repeating a call after an error, a crash
// or another conductor's half-done work leads to the same end. Errors carry
// sentences for users through package fault.
package lxc

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"strings"
)

// IDCount is how many user and group ids each node has of its own, starting
// at its Spec.IDBase.
const IDCount = 65536

// Limits of a node that are the same for all.
const (
	pidsMax = 8192 // processes and threads of one node
)

// File is placed into a node's root before its first start, owned by the
// node's root user.
type File struct {
	Path    string // absolute; parent directories are made
	Mode    uint32 // permission bits
	Content []byte // may be secret
}

// Spec says what a node is like. It is read when the node is made or rebuilt;
// later changes have no effect on it.
type Spec struct {
	UUID  string // lower case
	Name  string // host name
	Image string // name of a node image on the host

	// Revision names what the root is made from beside the image: the caller's
	// word for this set of files. It may be empty, and is no secret.
	Revision string

	VCPUs     int // CPU time worth that many CPUs
	MemoryMiB int // hard limit
	DiskGiB   int // size of the node's file system

	// Cluster is the uuid of the node's cluster. Nodes of one cluster reach all
	// of each other, those of others only what they publish.
	Cluster string
	Limits  Limits

	IDBase uint32 // first of IDCount host ids that no other node of the host uses

	Bridge      string       // on the host
	MAC         string       // "52:54:00:12:34:56"
	Address     netip.Prefix // address of eth0 with the length of its network
	Gateway     netip.Addr   // zero: no default route
	Nameservers []netip.Addr // none: every look-up is refused at once

	Files []File
}

// Limits keep a node from taking all of what it shares with its neighbours.
// Zero is no limit.
type Limits struct {
	BandwidthMbit int // network, Mbit/s each way
	IOMiB         int // disk, MiB/s, reads and writes each
	IOOperations  int // disk, operations a second, reads and writes each
}

// State is what libvirt says of a node.
type State string

// States of a node.
const (
	StateGone    State = "gone"    // nothing of it is on the host
	StatePartial State = "partial" // its volumes are there, the node is not
	StateStopped State = "stopped"
	StateRunning State = "running"
)

// Info is one node that was found on a host.
type Info struct {
	UUID  string
	State State
}

// Capacity is what a host has, before anything is given away.
type Capacity struct {
	CPUs      int
	MemoryMiB int
	DiskGiB   int // of the file system that holds the nodes' disks
}

var (
	uuidPattern     = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	hostnamePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	imagePattern    = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,127}$`)
	revisionPattern = regexp.MustCompile(`^[A-Za-z0-9@._:/-]{0,255}$`)
	macPattern      = regexp.MustCompile(`^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$`)
	bridgePattern   = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,15}$`)
)

// Validate reports all that is wrong with the specification. The host checks
// the same again, since its hook runs as root.
func (s *Spec) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(uuidPattern.MatchString(s.UUID), "uuid %q is not a uuid", s.UUID)
	check(hostnamePattern.MatchString(s.Name), "name %q is not a host name", s.Name)
	check(imagePattern.MatchString(s.Image), "image %q is not an image name", s.Image)
	check(revisionPattern.MatchString(s.Revision), "revision %q is not a revision", s.Revision)
	check(s.VCPUs >= 1 && s.VCPUs <= 1024, "vcpus %d is not from 1 to 1024", s.VCPUs)
	check(s.MemoryMiB >= 64 && s.MemoryMiB <= 1<<24, "memory of %d MiB is not from 64 MiB to 16 TiB", s.MemoryMiB)
	check(s.DiskGiB >= 1 && s.DiskGiB <= 1<<16, "disk of %d GiB is not from 1 GiB to 64 TiB", s.DiskGiB)
	check(s.IDBase >= IDCount && s.IDBase <= 1<<32-2-IDCount, "id base %d is not from %d to %d", s.IDBase, IDCount, uint32(1<<32-2-IDCount))
	check(uuidPattern.MatchString(s.Cluster), "cluster %q is not a uuid", s.Cluster)
	check(s.Limits.BandwidthMbit >= 0 && s.Limits.BandwidthMbit <= 1e6, "bandwidth of %d Mbit/s is not from 0 to 1000000", s.Limits.BandwidthMbit)
	check(s.Limits.IOMiB >= 0 && s.Limits.IOMiB <= 1e6, "disk traffic of %d MiB/s is not from 0 to 1000000", s.Limits.IOMiB)
	check(s.Limits.IOOperations >= 0 && s.Limits.IOOperations <= 1e8, "%d disk operations a second are not from 0 to 100000000", s.Limits.IOOperations)
	check(bridgePattern.MatchString(s.Bridge), "bridge %q is not the name of a bridge", s.Bridge)
	check(macPattern.MatchString(s.MAC), "mac %q is not the MAC address of one machine, in lower case", s.MAC)
	check(s.Address.IsValid() && s.Address.Addr().Is4(), "the node has no IPv4 address")
	check(!s.Gateway.IsValid() || s.Address.Contains(s.Gateway), "gateway %s is not in %s", s.Gateway, s.Address.Masked())
	paths := map[string]bool{}
	for _, f := range s.Files {
		check(!paths[f.Path], "file %s is there twice", f.Path)
		paths[f.Path] = true
		check(cleanPath(f.Path), "file path %q is not absolute and clean", f.Path)
		check(f.Mode <= 0o777, "mode %o of %s has more than permission bits", f.Mode, f.Path)
	}
	return errors.Join(faults...)
}

func cleanPath(p string) bool {
	return path.IsAbs(p) && path.Clean(p) == p && p != "/" && !strings.Contains(p, "\x00")
}

// Names of a node's parts on its host.
func domainName(uuid string) string { return "keelson-" + uuid }
func diskVolume(uuid string) string { return uuid + ".img" }
func fileVolume(uuid string) string { return uuid + ".tar" }
func portName(uuid string) string   { return "kn-" + uuid[len(uuid)-12:] } // as long as Linux allows

// uuidOf returns the node's uuid for the name of a domain or volume of ours.
func uuidOf(name string) (uuid string, ours bool) {
	uuid = strings.TrimPrefix(name, "keelson-")
	uuid = strings.TrimSuffix(strings.TrimSuffix(uuid, ".img"), ".tar")
	return uuid, uuid != name && uuidPattern.MatchString(uuid)
}

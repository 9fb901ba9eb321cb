// SPDX-License-Identifier: Apache-2.0

//go:build cgo && libvirt_dlopen

package lxc

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"path"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/keelson/keelson/internal/fault"
)

// Storage pools of a prepared host (templates/host/prepare.sh).
const (
	nodePool  = "keelson"        // disks and files of nodes
	imagePool = "keelson-images" // directories of node images
	hookPool  = "keelson-hooks"  // libvirt's hooks
	lxcHook   = "lxc"
)

// How long a node may take to stop by itself before it is killed: what its
// init gives dockerd, and a little more.
const stopTimeout = 22 * time.Second

// session is one connection in the hands of one call. Each of its methods is
// one step and begins with asking whether anyone still waits for the result.
type session struct {
	ctx  context.Context
	host *Host
	conn *libvirt.Connect
}

// Probe asks whether the host can take nodes made from the images: reachable,
// prepared, hook and images in place. The error says what is missing.
func (h *Host) Probe(ctx context.Context, images ...string) (Capacity, error) {
	var found Capacity
	err := h.do(ctx, "", "show what it has", func(s *session) error {
		driver, err := s.conn.GetType()
		if err != nil {
			return err
		}
		if driver != "LXC" {
			return fault.Permanent(nil, "host %s runs libvirt's %s driver where LXC is needed: correct its libvirt URI", h.name, driver)
		}
		if err := s.checkHook(); err != nil {
			return err
		}
		for _, image := range images {
			if err := s.checkImage(image); err != nil {
				return err
			}
		}
		info, err := s.conn.GetNodeInfo()
		if err != nil {
			return err
		}
		pool, err := s.pool(nodePool)
		if err != nil {
			return err
		}
		defer func() { _ = pool.Free() }()
		storage, err := pool.GetInfo()
		if err != nil {
			return err
		}
		found = Capacity{CPUs: int(info.Cpus), MemoryMiB: int(info.Memory >> 10), DiskGiB: int(storage.Capacity >> 30)}
		return nil
	})
	return found, err
}

// Ensure makes the node if it is not there and starts it if it does not run.
// A node that is there stays as it was made. The node runs its init, not
// necessarily dockerd, when Ensure returns.
func (h *Host) Ensure(ctx context.Context, spec Spec) error {
	if err := spec.Validate(); err != nil {
		return fault.Permanent(err, "node %s cannot be made as it is specified", spec.Name)
	}
	return h.do(ctx, spec.UUID, "start node "+spec.Name, func(s *session) error {
		domain, err := s.domain(spec.UUID)
		if err != nil {
			return err
		}
		if domain == nil {
			return s.create(&spec)
		}
		defer func() { _ = domain.Free() }()
		err = s.start(domain)
		if !errors.Is(err, libvirt.ERR_HOOK_SCRIPT_FAILED) {
			return err
		}
		// Of a node that has no root yet, the files may be lost, too.
		if same, lookErr := madeFrom(domain, &spec); !same || lookErr != nil {
			return err
		}
		if err := s.uploadFiles(&spec); err != nil {
			return err
		}
		return s.start(domain)
	})
}

// Rebuild gives the node a new root, made from the specification's image and
// files, unless it was made from this image and revision already; then it is
// only started if it does not run. What Docker stored stays (volumes, images,
// its part in a swarm), all else on the old root is gone. A node that is not on
// the host is made, as by Ensure.
//
// A node is not stopped before all that can be known to be in the way has been
// looked for: for an image that is not on the host, or an id range or disk size
// other than the node's, the error is permanent and the node stays as it is.
// Stopping is gentle and may take 22 s.
//
// After an error, or a crash of conductor or host, the node runs with its old
// root, runs with the new one, or stands still; Rebuild called again leads to
// the end.
func (h *Host) Rebuild(ctx context.Context, spec Spec) error {
	if err := spec.Validate(); err != nil {
		return fault.Permanent(err, "node %s cannot be rebuilt as it is specified", spec.Name)
	}
	return h.do(ctx, spec.UUID, "rebuild node "+spec.Name, func(s *session) error {
		domain, err := s.domain(spec.UUID)
		if err != nil {
			return err
		}
		if domain == nil {
			return s.create(&spec)
		}
		defer func() { _ = domain.Free() }()
		same, err := madeFrom(domain, &spec)
		if err != nil {
			return err
		}
		waiting, err := s.filesWait(spec.UUID)
		if err != nil {
			return err
		}
		if same && !waiting {
			// When the root can not be made, its files may be lost: once more.
			if err := s.start(domain); !errors.Is(err, libvirt.ERR_HOOK_SCRIPT_FAILED) {
				return err
			}
		}
		return s.rebuild(domain, &spec)
	})
}

// State looks for the node.
func (h *Host) State(ctx context.Context, uuid string) (State, error) {
	state := StateGone
	err := h.do(ctx, "", "show node "+uuid, func(s *session) error {
		domain, err := s.domain(uuid)
		if err != nil {
			return err
		}
		if domain != nil {
			defer func() { _ = domain.Free() }()
			state, err = stateOf(domain)
			return err
		}
		for _, name := range []string{diskVolume(uuid), fileVolume(uuid)} {
			volume, err := s.volume(nodePool, name)
			if err != nil {
				return err
			}
			if volume != nil {
				_ = volume.Free()
				state = StatePartial
			}
		}
		return nil
	})
	return state, err
}

// Restart stops the node, gently at first, and starts it again. What is on its
// disk stays, and so do its address and its limits.
func (h *Host) Restart(ctx context.Context, uuid string) error {
	return h.do(ctx, uuid, "restart node "+uuid, func(s *session) error {
		domain, err := s.domain(uuid)
		if err != nil {
			return err
		}
		if domain == nil {
			return fault.Permanent(nil, "node %s is not on host %s", uuid, h.name)
		}
		defer func() { _ = domain.Free() }()
		if err := s.stop(domain); err != nil {
			return err
		}
		return s.start(domain)
	})
}

// Start starts a node that stands still, with the root and the limits it has.
// One that runs is left alone; one that is not there is a permanent error.
func (h *Host) Start(ctx context.Context, uuid string) error {
	return h.do(ctx, uuid, "start node "+uuid, func(s *session) error {
		domain, err := s.domain(uuid)
		if err != nil {
			return err
		}
		if domain == nil {
			return fault.Permanent(nil, "node %s is not on host %s", uuid, h.name)
		}
		defer func() { _ = domain.Free() }()
		return s.start(domain)
	})
}

// Delete kills the node and removes all it had on the host. A node that is
// gone, or was never made whole, is success.
func (h *Host) Delete(ctx context.Context, uuid string) error {
	if !uuidPattern.MatchString(uuid) {
		return fault.Permanent(nil, "node %q cannot be deleted: that is not a uuid", uuid)
	}
	return h.do(ctx, uuid, "delete node "+uuid, func(s *session) error {
		domain, err := s.domain(uuid)
		if err != nil {
			return err
		}
		if domain != nil {
			defer func() { _ = domain.Free() }()
			if err := s.kill(domain); err != nil {
				return err
			}
			if err := domain.Undefine(); err != nil && !errors.Is(err, libvirt.ERR_NO_DOMAIN) {
				return fmt.Errorf("undefine: %w", err)
			}
		}
		for _, name := range []string{fileVolume(uuid), diskVolume(uuid)} {
			if err := s.deleteVolume(name); err != nil {
				return err
			}
		}
		return nil
	})
}

// List returns Keelson's nodes on the host, also those of which only volumes
// are there.
func (h *Host) List(ctx context.Context) ([]Info, error) {
	var found []Info
	err := h.do(ctx, "", "list its nodes", func(s *session) error {
		domains, err := s.conn.ListAllDomains(0)
		if err != nil {
			return err
		}
		known := map[string]bool{}
		for i := range domains {
			domain := &domains[i]
			defer func() { _ = domain.Free() }()
			name, err := domain.GetName()
			if err != nil {
				return err
			}
			uuid, ours := uuidOf(name)
			if !ours {
				continue
			}
			state, err := stateOf(domain)
			if errors.Is(err, libvirt.ERR_NO_DOMAIN) {
				continue // it went while we looked
			}
			if err != nil {
				return err
			}
			known[uuid] = true
			found = append(found, Info{UUID: uuid, State: state})
		}
		volumes, err := s.volumeNames(nodePool)
		if err != nil {
			return err
		}
		for _, name := range volumes {
			if uuid, ours := uuidOf(name); ours && !known[uuid] {
				known[uuid] = true
				found = append(found, Info{UUID: uuid, State: StatePartial})
			}
		}
		return nil
	})
	return found, err
}

// --- Steps ----------------------------------------------------------------

// domain returns the node's domain, or nil when there is none.
func (s *session) domain(uuid string) (*libvirt.Domain, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	domain, err := s.conn.LookupDomainByUUIDString(uuid)
	if errors.Is(err, libvirt.ERR_NO_DOMAIN) {
		return nil, nil
	}
	return domain, err
}

// create makes a node of which there is no domain, and starts it.
func (s *session) create(spec *Spec) error {
	if err := s.checkHook(); err != nil {
		return err
	}
	if err := s.checkImage(spec.Image); err != nil {
		return err
	}
	if err := s.createDisk(spec); err != nil {
		return err
	}
	domain, err := s.define(spec)
	if err != nil {
		return err
	}
	defer func() { _ = domain.Free() }()
	return s.start(domain)
}

// rebuild has the hook make the node's root anew at a start of the node.
//
// The domain is defined before the node stops: from then on, whoever starts the
// node, and be it a host that boots, starts it with its new root.
func (s *session) rebuild(domain *libvirt.Domain, spec *Spec) error {
	if err := s.checkHook(); err != nil {
		return err
	}
	if err := s.checkImage(spec.Image); err != nil {
		return err
	}
	found, err := describe(domain, libvirt.DOMAIN_XML_INACTIVE)
	if err != nil {
		return err
	}
	if found.idBase != uint(spec.IDBase) || found.Disk != spec.DiskGiB {
		return fault.Permanent(fmt.Errorf("it has ids from %d and %d GiB, not ids from %d and %d GiB", found.idBase, found.Disk, spec.IDBase, spec.DiskGiB),
			"node %s cannot be rebuilt with another id range or disk size than it has", spec.Name)
	}
	redefined, err := s.define(spec)
	if err != nil {
		return err
	}
	defer func() { _ = redefined.Free() }()
	if err := s.stop(redefined); err != nil {
		return err
	}
	if err := s.start(redefined); err != nil {
		return err
	}
	if waiting, err := s.filesWait(spec.UUID); err != nil || !waiting {
		return err
	}
	return fault.Permanent(nil, "host %s started node %s with its old root: its lxc hook is older than this conductor, run templates/host/prepare.sh there", s.host.name, spec.Name)
}

// filesWait tells whether the node's files were uploaded and the hook has not
// taken them yet, as it does at the next start of the node.
func (s *session) filesWait(uuid string) (bool, error) {
	volume, err := s.volume(nodePool, fileVolume(uuid))
	if volume == nil || err != nil {
		return false, err
	}
	defer func() { _ = volume.Free() }()
	_, err = volume.GetInfo() // libvirt has not seen the hook remove it
	if errors.Is(err, libvirt.ERR_NO_STORAGE_VOL) {
		return false, nil
	}
	return err == nil, err
}

// made is what the domain says of how its node was made.
type made struct {
	metadata
	idBase uint
}

// describe reads the domain as it is defined (DOMAIN_XML_INACTIVE) or, with no
// flags, as it runs if it does.
func describe(domain *libvirt.Domain, flags libvirt.DomainXMLFlags) (made, error) {
	var found made
	document, err := domain.GetXMLDesc(flags)
	if err != nil {
		return found, err
	}
	var description libvirtxml.Domain
	if err := description.Unmarshal(document); err != nil {
		return found, fmt.Errorf("description of domain: %w", err)
	}
	if description.Metadata == nil || description.IDMap == nil || len(description.IDMap.UIDs) == 0 {
		return found, errors.New("description of domain: it is none of Keelson's")
	}
	if err := xml.Unmarshal([]byte(description.Metadata.XML), &found.metadata); err != nil {
		return found, fmt.Errorf("description of domain: %w", err)
	}
	found.idBase = description.IDMap.UIDs[0].Target
	return found, nil
}

// madeFrom tells whether the domain has the image and revision of the
// specification, both as it is defined and as it runs if it does.
func madeFrom(domain *libvirt.Domain, spec *Spec) (bool, error) {
	for _, flags := range []libvirt.DomainXMLFlags{0, libvirt.DOMAIN_XML_INACTIVE} {
		found, err := describe(domain, flags)
		if err != nil {
			return false, err
		}
		if found.Image != spec.Image || found.Revision != spec.Revision {
			return false, nil
		}
	}
	return true, nil
}

// createDisk makes the node's disk. Only the domain says that it is of any
// value, so without one it is made anew.
func (s *session) createDisk(spec *Spec) error {
	pool, err := s.pool(nodePool)
	if err != nil {
		return err
	}
	defer func() { _ = pool.Free() }()
	return s.createVolume(pool, diskVolume(spec.UUID), uint64(spec.DiskGiB)<<30, nil)
}

// uploadFiles puts the node's files where the hook takes them from when it
// makes a root.
func (s *session) uploadFiles(spec *Spec) error {
	files, err := archive(rootFiles(spec))
	if err != nil {
		return err
	}
	pool, err := s.pool(nodePool)
	if err != nil {
		return err
	}
	defer func() { _ = pool.Free() }()
	return s.createVolume(pool, fileVolume(spec.UUID), uint64(len(files)), files)
}

// define uploads the node's files and then defines its domain, which says that
// they are complete.
func (s *session) define(spec *Spec) (*libvirt.Domain, error) {
	if err := s.uploadFiles(spec); err != nil {
		return nil, err
	}
	pool, err := s.pool(nodePool)
	if err != nil {
		return nil, err
	}
	defer func() { _ = pool.Free() }()
	dir, err := poolDir(pool)
	if err != nil {
		return nil, err
	}
	document, err := domainXML(spec, path.Dir(dir))
	if err != nil {
		return nil, err
	}
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	domain, err := s.conn.DomainDefineXML(document)
	if err != nil {
		return nil, fmt.Errorf("define: %w", err)
	}
	return domain, nil
}

// start starts the domain unless it runs, now and whenever the host boots.
func (s *session) start(domain *libvirt.Domain) error {
	state, err := stateOf(domain)
	if err != nil {
		return err
	}
	if err := s.ctx.Err(); err != nil {
		return err
	}
	if state != StateRunning {
		err := domain.Create()
		if errors.Is(err, libvirt.ERR_HOOK_SCRIPT_FAILED) {
			return fault.Temporary(fmt.Errorf("start on host %s: %w", s.host.name, err),
				"host %s could not prepare the root of the node: the operator finds the cause in the conductor's log", s.host.name)
		}
		if active, _ := domain.IsActive(); err != nil && !active {
			return fmt.Errorf("start: %w", err)
		}
	}
	if err := domain.SetAutostart(true); err != nil {
		return fmt.Errorf("start at boot: %w", err)
	}
	return nil
}

// stop asks the node's init to stop and kills what has not stopped in time. It
// asks more than once, because the kernel keeps signals from an init that is
// not yet ready for them.
func (s *session) stop(domain *libvirt.Domain) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	deadline := time.NewTimer(stopTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for ticks := 0; ; ticks++ {
		if state, err := stateOf(domain); err != nil || state != StateRunning {
			return err
		}
		if ticks%10 == 0 {
			if err := domain.ShutdownFlags(libvirt.DOMAIN_SHUTDOWN_SIGNAL); err != nil {
				return s.kill(domain)
			}
		}
		select {
		case <-tick.C:
			continue
		case <-deadline.C:
			return s.kill(domain)
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

// kill ends the domain if it runs. libvirt's own destroy gives the node's
// processes over a second to stop; without init they are all gone at once.
func (s *session) kill(domain *libvirt.Domain) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	if active, err := domain.IsActive(); err != nil || !active {
		return err
	}
	_ = domain.SendProcessSignal(1, libvirt.DOMAIN_PROCESS_SIGNAL_KILL, 0)
	if err := domain.Destroy(); err != nil {
		if active, activeErr := domain.IsActive(); activeErr != nil || active {
			return fmt.Errorf("destroy: %w", err)
		}
	}
	return nil
}

func stateOf(domain *libvirt.Domain) (State, error) {
	active, err := domain.IsActive()
	switch {
	case err != nil:
		return "", err
	case active:
		return StateRunning, nil
	default:
		return StateStopped, nil
	}
}

func (s *session) checkHook() error {
	hook, err := s.volume(hookPool, lxcHook)
	if err != nil {
		return err
	}
	if hook == nil {
		return fault.Permanent(nil, "host %s is not prepared for nodes: it lacks the lxc hook, run templates/host/prepare.sh there", s.host.name)
	}
	return hook.Free()
}

func (s *session) checkImage(name string) error {
	image, err := s.volume(imagePool, name)
	if err != nil {
		return err
	}
	if image == nil {
		return fault.Permanent(nil, "node image %s is not on host %s: build it there with templates/node/build.sh, or name one that is there", name, s.host.name)
	}
	return image.Free()
}

// pool returns one of the host's storage pools, active.
func (s *session) pool(name string) (*libvirt.StoragePool, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	pool, err := s.conn.LookupStoragePoolByName(name)
	if err != nil {
		return nil, fmt.Errorf("storage pool %s: %w", name, err)
	}
	if active, err := pool.IsActive(); err == nil && !active {
		if err := pool.Create(0); err != nil {
			_ = pool.Free()
			return nil, fmt.Errorf("start storage pool %s: %w", name, err)
		}
	}
	return pool, nil
}

// volume returns a volume, or nil when there is none. libvirt learns of what
// others put into a pool when the pool is refreshed, and of what they took when
// it is asked about that. The pool of the nodes is filled through libvirt alone,
// and could not be refreshed during an upload.
func (s *session) volume(poolName, name string) (*libvirt.StorageVol, error) {
	pool, err := s.pool(poolName)
	if err != nil {
		return nil, err
	}
	defer func() { _ = pool.Free() }()
	volume, err := pool.LookupStorageVolByName(name)
	if err == nil && poolName != nodePool {
		if _, err = volume.GetInfo(); err != nil {
			_ = volume.Free()
			volume = nil
		}
	}
	if err == nil || !errors.Is(err, libvirt.ERR_NO_STORAGE_VOL) {
		return volume, err
	}
	if poolName == nodePool {
		return nil, nil
	}
	if err := pool.Refresh(0); err != nil {
		return nil, fmt.Errorf("refresh storage pool %s: %w", poolName, err)
	}
	volume, err = pool.LookupStorageVolByName(name)
	if errors.Is(err, libvirt.ERR_NO_STORAGE_VOL) {
		return nil, nil
	}
	return volume, err
}

func (s *session) volumeNames(poolName string) ([]string, error) {
	pool, err := s.pool(poolName)
	if err != nil {
		return nil, err
	}
	defer func() { _ = pool.Free() }()
	volumes, err := pool.ListAllStorageVolumes(0)
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range volumes {
		if name, err := volumes[i].GetName(); err == nil {
			names = append(names, name)
		}
		_ = volumes[i].Free()
	}
	return names, nil
}

// createVolume makes a sparse file of that size, for root's eyes only, and
// fills it with content if there is any. An old one is replaced.
func (s *session) createVolume(pool *libvirt.StoragePool, name string, size uint64, content []byte) error {
	if err := s.deleteVolume(name); err != nil {
		return err
	}
	description := libvirtxml.StorageVolume{
		Name:       name,
		Capacity:   &libvirtxml.StorageVolumeSize{Unit: "B", Value: size},
		Allocation: &libvirtxml.StorageVolumeSize{Unit: "B", Value: 0},
		Target: &libvirtxml.StorageVolumeTarget{
			Format:      &libvirtxml.StorageVolumeTargetFormat{Type: "raw"},
			Permissions: &libvirtxml.StorageVolumeTargetPermissions{Mode: "0600", Owner: "0", Group: "0"},
		},
	}
	document, err := description.Marshal()
	if err != nil {
		return fmt.Errorf("describe volume %s: %w", name, err)
	}
	if err := s.ctx.Err(); err != nil {
		return err
	}
	volume, err := pool.StorageVolCreateXML(document, 0)
	if err != nil {
		return fmt.Errorf("create volume %s: %w", name, err)
	}
	defer func() { _ = volume.Free() }()
	if content == nil {
		return nil
	}
	if err := s.upload(volume, content); err != nil {
		return fmt.Errorf("upload volume %s: %w", name, err)
	}
	return nil
}

func (s *session) upload(volume *libvirt.StorageVol, content []byte) error {
	stream, err := s.conn.NewStream(0)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Free() }()
	if err := volume.Upload(stream, 0, uint64(len(content)), 0); err != nil {
		return err
	}
	for len(content) > 0 {
		if err := s.ctx.Err(); err != nil {
			_ = stream.Abort()
			return err
		}
		sent, err := stream.Send(content[:min(len(content), 256<<10)])
		if err != nil {
			_ = stream.Abort()
			return err
		}
		content = content[sent:]
	}
	return stream.Finish()
}

// deleteVolume removes a volume of the node pool if it is there.
func (s *session) deleteVolume(name string) error {
	volume, err := s.volume(nodePool, name)
	if volume == nil || err != nil {
		return err
	}
	defer func() { _ = volume.Free() }()
	if err := volume.Delete(0); err != nil && !errors.Is(err, libvirt.ERR_NO_STORAGE_VOL) {
		return fmt.Errorf("delete volume %s: %w", name, err)
	}
	return nil
}

func poolDir(pool *libvirt.StoragePool) (string, error) {
	document, err := pool.GetXMLDesc(0)
	if err != nil {
		return "", err
	}
	var description libvirtxml.StoragePool
	if err := description.Unmarshal(document); err != nil {
		return "", fmt.Errorf("description of storage pool: %w", err)
	}
	if description.Target == nil || !path.IsAbs(description.Target.Path) {
		return "", errors.New("storage pool has no directory")
	}
	return description.Target.Path, nil
}

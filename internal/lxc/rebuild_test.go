// SPDX-License-Identifier: Apache-2.0

//go:build cgo && libvirt_dlopen

package lxc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/keelson/keelson/internal/fault"
)

// imageDir is where the host has its node images.
func (h *testHost) imageDir(tb testing.TB) string {
	tb.Helper()
	for line := range strings.Lines(read(tb, filepath.Join(h.state, "etc/hooks/keelson.conf"))) {
		if dir, found := strings.CutPrefix(strings.TrimSpace(line), "IMAGES="); found {
			return dir
		}
	}
	tb.Fatal("the host does not say where its images are")
	return ""
}

// otherImage gives the host a second image until the test ends: the first with
// a file /etc/edition that says which.
func (h *testHost) otherImage(tb testing.TB, edition string) string {
	tb.Helper()
	tree, err := os.MkdirTemp(h.imageDir(tb), "test-image-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(tree); err != nil {
			tb.Error(err)
		}
	})
	// Linked, not copied: trees of images are never changed.
	source := filepath.Join(h.imageDir(tb), h.image) + "/."
	if out, err := exec.Command("cp", "-al", source, tree).CombinedOutput(); err != nil {
		tb.Fatalf("cp: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(tree, "etc/edition"), []byte(edition+"\n"), 0o644); err != nil {
		tb.Fatal(err)
	}
	return filepath.Base(tree)
}

// next is the specification of the node's second root.
func (n *node) next(image string) Spec {
	spec := n.Spec
	spec.Image, spec.Revision = image, "template-2@"+image
	spec.Files = slices.Clone(n.Files)
	for i := range spec.Files {
		if f := &spec.Files[i]; f.Path == "/etc/docker/server-key.pem" {
			f.Content = []byte("the next key")
		}
	}
	return spec
}

// idle is a specification without a configuration for dockerd, which is not
// started then: such a node starts and stops in less time.
func (h *testHost) idle() Spec {
	spec := h.spec()
	spec.Files = slices.DeleteFunc(spec.Files, func(f File) bool { return f.Path == "/etc/docker/daemon.json" })
	return spec
}

// isNext checks that the node runs and has its second root, and that files of
// that root are nowhere else on the host.
func (n *node) isNext(tb testing.TB, edition string) {
	tb.Helper()
	n.findInit(tb)
	for file, want := range map[string]string{
		"/etc/edition":               edition,
		"/etc/docker/server-key.pem": "the next key",
		"/etc/hostname":              n.Name,
		"/var/lib/docker/kept":       "kept",
	} {
		if got := n.run(tb, "cat", file); got != want {
			tb.Errorf("%s has %q, not %q", file, got, want)
		}
	}
	if out, err := n.try(nil, "cat", "/root/data"); err == nil {
		tb.Errorf("/root/data of the old root is still there: %s", out)
	}
	n.hasNoArchive(tb)
}

func (n *node) hasNoArchive(tb testing.TB) {
	tb.Helper()
	if _, err := os.Stat(filepath.Join(n.host.state, "nodes", fileVolume(n.UUID))); !errors.Is(err, os.ErrNotExist) {
		tb.Errorf("the archive with the key is still on the host: %v", err)
	}
}

// leaveTraces writes something to the root and something where Docker stores.
func (n *node) leaveTraces(tb testing.TB) {
	tb.Helper()
	n.run(tb, "sh", "-c", "echo old > /root/data; mkdir -p /srv/a/b; ln -s / /srv/all; rm /etc/issue; echo kept > /var/lib/docker/kept")
}

// born tells one process of a number from a later one of the same.
func (n *node) born(tb testing.TB) string {
	tb.Helper()
	n.findInit(tb)
	stat := read(tb, fmt.Sprintf("/proc/%d/stat", n.init))
	return strconv.Itoa(n.init) + "@" + strings.Fields(stat[strings.LastIndex(stat, ")"):])[20]
}

func TestRebuildMakesANewRootAndKeepsWhatDockerStored(t *testing.T) {
	t.Parallel()
	h := sharedHost(t)
	first := h.spec()
	first.Revision = "template-1"
	n := h.start(t, first)
	n.busybox(t)
	n.leaveTraces(t)
	n.run(t, "docker", "swarm", "init", "--advertise-addr", n.Address.Addr().String())
	member := n.run(t, "docker", "info", "--format", "{{.Swarm.NodeID}} {{.Swarm.Cluster.ID}}")
	n.run(t, "docker", "volume", "create", "data")
	n.run(t, "docker", "run", "--rm", "--network", "none", "--volume", "data:/data", "busybox", "/bin/sh", "-c", "echo precious > /data/file")
	n.run(t, "docker", "run", "--detach", "--network", "none", "--name", "web", "--restart", "always", "--stop-signal", "KILL", "busybox", "/bin/sleep", "1000")

	spec := n.next(h.otherImage(t, "second"))
	before := n.born(t)
	if err := h.Rebuild(t.Context(), spec); err != nil {
		t.Fatal(errors.Unwrap(err), err)
	}
	after := n.born(t)
	if after == before {
		t.Fatal("the node was not stopped")
	}
	n.isNext(t, "second")
	if out := n.run(t, "ls", "-d", "/etc/issue"); out != "/etc/issue" {
		t.Errorf("what was deleted from the old root is missing from the new one: %s", out)
	}
	n.dockerAnswers(t)
	eventually(t, "the node is back in its swarm", func() error {
		out, err := n.try(nil, "docker", "node", "ls", "--format", "{{.ID}} {{.Status}} {{.ManagerStatus}}")
		if id, _, _ := strings.Cut(member, " "); err != nil || strings.TrimSpace(out) != id+" Ready Leader" {
			return fmt.Errorf("nodes are %q, %w", out, err)
		}
		return nil
	})
	if now := n.run(t, "docker", "info", "--format", "{{.Swarm.NodeID}} {{.Swarm.Cluster.ID}}"); now != member {
		t.Errorf("the node became %s of another swarm than %s", now, member)
	}
	if data := n.run(t, "docker", "run", "--rm", "--network", "none", "--volume", "data:/data", "busybox", "/bin/cat", "/data/file"); data != "precious" {
		t.Errorf("the volume has %q", data)
	}
	if running := n.run(t, "docker", "inspect", "--format", "{{.State.Running}}", "web"); running != "true" {
		t.Error("the container that always runs does not")
	}
	if address := n.run(t, "ip", "-4", "-o", "address", "show", "dev", "eth0"); !strings.Contains(address, " "+n.Address.String()+" ") {
		t.Errorf("eth0 has %q, not %s", address, n.Address)
	}
	if link := n.run(t, "cat", "/sys/class/net/eth0/address"); link != n.MAC {
		t.Errorf("eth0 is %s, not %s", link, n.MAC)
	}
	if limit := read(t, "/sys/fs/cgroup/memory"+groups(t, n.init)["memory"]+"/memory.limit_in_bytes"); limit != strconv.Itoa(n.MemoryMiB<<20) {
		t.Errorf("memory limit became %s", limit)
	}
	for _, file := range []string{"etc/edition", "etc/docker/server-key.pem", "var/lib/docker/kept"} {
		info, err := os.Stat(fmt.Sprintf("/proc/%d/root/%s", n.init, file))
		if err != nil {
			t.Fatal(err)
		}
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != n.IDBase {
			t.Errorf("%s belongs to %d on the host, not to %d", file, owner.Uid, n.IDBase)
		}
	}

	t.Run("and the second time nothing", func(t *testing.T) {
		n.run(t, "sh", "-c", "echo new > /root/written")
		if err := h.Rebuild(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		if now := n.born(t); now != after {
			t.Error("the node was restarted")
		}
		if err := h.Restart(t.Context(), n.UUID); err != nil {
			t.Fatal(err)
		}
		n.isNext(t, "second")
		if data := n.run(t, "cat", "/root/written"); data != "new" {
			t.Errorf("data on the root became %q", data)
		}
	})
	t.Run("but that it starts a node that does not run", func(t *testing.T) {
		n.stop(t)
		if err := h.Rebuild(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		n.isNext(t, "second")
		if data := n.run(t, "cat", "/root/written"); data != "new" {
			t.Errorf("data on the root became %q", data)
		}
	})
}

// stop ends the node as it would end itself.
func (n *node) stop(tb testing.TB) {
	tb.Helper()
	n.findInit(tb)
	if err := syscall.Kill(n.init, syscall.SIGKILL); err != nil {
		tb.Fatal(err)
	}
	eventually(tb, "the node has stopped", func() error {
		if state, err := n.host.State(tb.Context(), n.UUID); err != nil || state != StateStopped {
			return fmt.Errorf("it is %s, %w", state, err)
		}
		return nil
	})
}

// rebuildUpTo does the first steps of Rebuild, as a conductor that died there
// did, and after them what a failing host does.
func (n *node) rebuildUpTo(tb testing.TB, spec Spec, stages ...string) {
	tb.Helper()
	for _, stage := range stages {
		err := n.host.do(tb.Context(), n.UUID, "rebuild node up to "+stage, func(s *session) error {
			domain, err := s.domain(n.UUID)
			if err != nil {
				return err
			}
			defer func() { _ = domain.Free() }()
			switch stage {
			case "half uploaded":
				return s.halfUpload(&spec)
			case "uploaded":
				return s.uploadFiles(&spec)
			case "defined":
				redefined, err := s.define(&spec)
				if err != nil {
					return err
				}
				return redefined.Free()
			case "stopped":
				return s.kill(domain)
			case "files lost":
				return n.host.loseFiles(&spec)
			case "root half removed":
				return n.host.onDisk(n.UUID, "truncate --size 0 ready; rm -r upper/etc; rmdir upper/srv/a/b")
			case "booted": // the host starts the node, as it is defined then
				return domain.Create()
			}
			return errors.New("no such stage")
		})
		if err != nil {
			tb.Fatalf("%s: %v", stage, err)
		}
	}
}

func TestRebuildConvergesAfterACrashAtAnyStage(t *testing.T) {
	t.Parallel()
	h := sharedHost(t)
	second := h.otherImage(t, "second")
	for _, stages := range [][]string{
		{"half uploaded"},
		{"half uploaded", "stopped", "booted"},
		{"uploaded", "stopped", "booted"},
		{"defined"},
		{"defined", "stopped"},
		{"defined", "stopped", "booted"},
		{"defined", "stopped", "files lost"},
		{"defined", "stopped", "half uploaded"}, // a second try died, too
		{"defined", "stopped", "root half removed"},
		{"defined", "stopped", "root half removed", "booted"},
		{"defined", "stopped", "root half removed", "files lost"},
	} {
		t.Run(strings.Join(stages, ", "), func(t *testing.T) {
			n := h.start(t, h.idle())
			n.leaveTraces(t)
			spec := n.next(second)
			n.rebuildUpTo(t, spec, stages...)
			for range 2 {
				if err := h.Rebuild(t.Context(), spec); err != nil {
					t.Fatal(errors.Unwrap(err), err)
				}
			}
			n.isNext(t, "second")
		})
	}
}

// onDisk runs a shell command at the top of the disk of a node that stands still.
func (h *testHost) onDisk(id, command string) error {
	out, err := exec.Command("unshare", "--mount", "sh", "-euc", `mount -o loop "$1" /mnt; cd /mnt; `+command, "sh",
		filepath.Join(h.state, "nodes", diskVolume(id))).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func TestBootDuringARebuild(t *testing.T) {
	t.Parallel()
	h := sharedHost(t)
	n := h.start(t, h.idle())
	n.leaveTraces(t)
	spec := n.next(h.otherImage(t, "second"))

	t.Run("keeps the old root before the domain has changed", func(t *testing.T) {
		n.rebuildUpTo(t, spec, "uploaded", "stopped", "booted")
		n.findInit(t)
		if files := n.run(t, "cat", "/root/data", "/etc/docker/server-key.pem"); files != "old\nnot a real key" {
			t.Errorf("the root has %q", files)
		}
		n.hasNoArchive(t)
	})
	t.Run("makes the new root afterwards", func(t *testing.T) {
		n.rebuildUpTo(t, spec, "defined", "stopped", "booted")
		n.isNext(t, "second")
	})
	t.Run("does not use files that are lost", func(t *testing.T) {
		n.run(t, "sh", "-c", "echo new > /root/written")
		third := spec
		third.Revision = "template-3"
		n.rebuildUpTo(t, third, "defined", "stopped", "files lost")
		if err := h.do(t.Context(), n.UUID, "boot", func(s *session) error {
			domain, err := s.domain(n.UUID)
			if err != nil {
				return err
			}
			defer func() { _ = domain.Free() }()
			return domain.Create()
		}); !errors.Is(err, libvirt.ERR_HOOK_SCRIPT_FAILED) || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("got %v", err)
		}
		// Nor is the root lost that it has.
		if err := h.Rebuild(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		n.isNext(t, "second")
		if data := n.run(t, "cat", "/root/written"); data != "new" {
			t.Errorf("data on the root became %q", data)
		}
	})
}

// A rebuild that fails when the old root is gone already is taken back.
func TestRebuildBackToWhatItWas(t *testing.T) {
	t.Parallel()
	h := sharedHost(t)
	n := h.start(t, h.spec())
	n.leaveTraces(t)
	bad := n.next(h.otherImage(t, "second"))
	bad.Files = append(bad.Files, File{Path: "/etc/passwd/of", Mode: 0o644})
	for range 2 {
		if err := h.Rebuild(t.Context(), bad); err == nil || fault.IsPermanent(err) || !strings.Contains(err.Error(), "/etc/passwd is not a directory") {
			t.Errorf("got %v", err)
		}
	}
	if state, err := h.State(t.Context(), n.UUID); err != nil || state != StateStopped {
		t.Errorf("the node is %s, %v", state, err)
	}
	for range 2 {
		if err := h.Rebuild(t.Context(), n.Spec); err != nil {
			t.Fatal(errors.Unwrap(err), err)
		}
	}
	n.findInit(t)
	if files := n.run(t, "cat", "/etc/docker/server-key.pem", "/var/lib/docker/kept"); files != "not a real keykept" {
		t.Errorf("the node has %q", files)
	}
	for _, file := range []string{"/etc/edition", "/root/data"} {
		if out, err := n.try(nil, "cat", file); err == nil {
			t.Errorf("%s of another root is there: %s", file, out)
		}
	}
	n.dockerAnswers(t)
}

// What can be known to be in the way stops no node.
func TestRebuildThatCannotSucceedLeavesTheNodeAlone(t *testing.T) {
	t.Parallel()
	h := sharedHost(t)
	n := h.start(t, h.idle())
	n.leaveTraces(t)
	before := n.born(t)
	gone := h.otherImage(t, "gone")
	if _, err := h.Probe(t.Context(), gone); err != nil { // libvirt has seen it
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(h.imageDir(t), gone)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		spoil func(*Spec)
		want  string
	}{
		{"image that was removed", func(s *Spec) { s.Image = gone }, "node image " + gone + " is not on host test-host"},
		{"image that was never there", func(s *Spec) { s.Image = "no-such-image" }, "node image no-such-image is not on host test-host"},
		{"other ids", func(s *Spec) { s.IDBase += IDCount }, "another id range"},
		{"other disk", func(s *Spec) { s.DiskGiB++ }, "disk size"},
		{"wrong specification", func(s *Spec) { s.Revision = "?" }, "cannot be rebuilt as it is specified"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := n.next(h.image)
			c.spoil(&spec)
			for range 2 {
				err := h.Rebuild(t.Context(), spec)
				if reason := fault.Reason(err, ""); !fault.IsPermanent(err) || !strings.Contains(reason, c.want) {
					t.Errorf("got %v", err)
				}
			}
			if now := n.born(t); now != before {
				t.Error("the node was restarted")
			}
			if _, err := os.Stat(filepath.Join(h.state, "nodes", fileVolume(n.UUID))); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("files were uploaded: %v", err)
			}
		})
	}
	if err := h.Restart(t.Context(), n.UUID); err != nil {
		t.Fatal(err)
	}
	n.findInit(t)
	if data := n.run(t, "cat", "/root/data"); data != "old" {
		t.Errorf("data on the root became %q", data)
	}
}

// A hook from before there were revisions starts the old root whatever the
// domain says. That must not pass for a rebuilt node.
func TestHostWithAnOldHookDoesNotPassForRebuilding(t *testing.T) {
	h := ownHost(t)
	n := h.start(t, h.idle())
	n.leaveTraces(t)
	hook := filepath.Join(h.state, "etc/hooks/lxc")
	old := read(t, hook)
	for _, line := range []string{"    if not same:\n        return None\n", "        remove(node.files)\n"} {
		if !strings.Contains(old, line) {
			t.Fatalf("the hook has changed: no %q", line)
		}
		old = strings.Replace(old, line, "", 1)
	}
	if err := os.WriteFile(hook, []byte(old), 0o755); err != nil {
		t.Fatal(err)
	}
	spec := n.next(h.otherImage(t, "second"))
	for range 2 {
		err := h.Rebuild(t.Context(), spec)
		if reason := fault.Reason(err, ""); !fault.IsPermanent(err) || !strings.Contains(reason, "run templates/host/prepare.sh") {
			t.Errorf("got %v", err)
		}
		n.findInit(t)
		if data := n.run(t, "cat", "/root/data"); data != "old" {
			t.Errorf("data on the root became %q", data)
		}
	}
	h.prepareAgain(t)
	if err := h.Rebuild(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	n.isNext(t, "second")
}

func TestRebuildOfAMissingNodeMakesIt(t *testing.T) {
	t.Parallel()
	h := sharedHost(t)
	spec := h.idle()
	spec.Revision = "template-2"
	t.Cleanup(func() { h.remove(t, spec.UUID) })
	h.stage(t, spec, "disk only")
	n := &node{Spec: spec, host: h}
	var before string
	for i := range 2 {
		if err := h.Rebuild(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		if now := n.born(t); i == 1 && now != before {
			t.Error("the node was restarted")
		} else {
			before = now
		}
	}
	if key := n.run(t, "cat", "/etc/docker/server-key.pem"); key != "not a real key" {
		t.Errorf("the node's file has %q", key)
	}
}

// The name of an image may come to mean another tree. Nodes that are there get
// that with their next revision only.
func TestNodeKeepsItsTreeUntilItIsRebuilt(t *testing.T) {
	t.Parallel()
	h := sharedHost(t)
	name := "test-link-" + strconv.Itoa(os.Getpid())
	link := filepath.Join(h.imageDir(t), name)
	point := func(to string) {
		t.Helper()
		if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Remove(link) })
	point(h.otherImage(t, "first"))
	spec := h.idle()
	spec.Image, spec.Revision = name, "1"
	n := h.start(t, spec)
	edition := func() string {
		t.Helper()
		n.findInit(t)
		return n.run(t, "cat", "/etc/edition")
	}
	point(h.otherImage(t, "second"))

	later := spec
	later.Image, later.Revision = h.image, "2"
	n.stop(t)
	for _, again := range []func() error{
		func() error { return h.Ensure(t.Context(), spec) },
		func() error { return h.Ensure(t.Context(), later) }, // runs already
		func() error { return h.Restart(t.Context(), n.UUID) },
		func() error { n.stop(t); return h.Ensure(t.Context(), later) },
		func() error { return h.Rebuild(t.Context(), spec) },
		func() error { n.stop(t); return h.Rebuild(t.Context(), spec) },
	} {
		if err := again(); err != nil {
			t.Fatal(err)
		}
		if got := edition(); got != "first" {
			t.Fatalf("the node has the tree of the %s image", got)
		}
	}
	spec.Revision = "2"
	if err := h.Rebuild(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if got := edition(); got != "second" {
		t.Errorf("the node has the tree of the %s image", got)
	}
}

func TestNodeOfBeforeThereWereRevisions(t *testing.T) {
	t.Parallel()
	h := sharedHost(t)
	second := h.otherImage(t, "second")
	for _, c := range []struct{ name, image, revision string }{
		{"to another image", second, ""},
		{"to a revision", second, "template-2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := h.start(t, h.idle())
			n.leaveTraces(t)
			if err := h.do(t.Context(), n.UUID, "age", func(s *session) error {
				domain, err := s.domain(n.UUID)
				if err != nil {
					return err
				}
				defer func() { _ = domain.Free() }()
				document, err := domain.GetXMLDesc(libvirt.DOMAIN_XML_INACTIVE)
				if err != nil {
					return err
				}
				aged := strings.NewReplacer("<revision></revision>", "", "<revision/>", "").Replace(document)
				if aged == document {
					t.Errorf("the domain has no revision:\n%s", document)
				}
				redefined, err := s.conn.DomainDefineXML(aged)
				if err != nil {
					return err
				}
				defer func() { _ = redefined.Free() }()
				return s.kill(domain)
			}); err != nil {
				t.Fatal(err)
			}
			if err := h.onDisk(n.UUID, "sed -i 2,3d ready && [ $(wc -l <ready) = 1 ]"); err != nil {
				t.Fatal(err)
			}
			if err := h.Ensure(t.Context(), n.Spec); err != nil {
				t.Fatal(err)
			}
			n.findInit(t)
			if data := n.run(t, "cat", "/root/data"); data != "old" {
				t.Errorf("data on the root became %q", data)
			}
			spec := n.next(c.image)
			spec.Revision = c.revision
			if err := h.Rebuild(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			n.isNext(t, "second")
			before := n.born(t)
			if err := h.Rebuild(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			if now := n.born(t); now != before {
				t.Error("the second time it was restarted")
			}
		})
	}
}

// dockerd has time to stop cleanly, whatever its containers do. A node that has
// only begun to start need not be waited for as long.
func TestStopIsGentle(t *testing.T) {
	t.Parallel()
	h := sharedHost(t)
	n := h.start(t, h.spec())
	begin := time.Now()
	if err := h.Restart(t.Context(), n.UUID); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > stopTimeout {
		t.Errorf("it took %s to restart a node that had only begun", took)
	}
	n.findInit(t)
	n.busybox(t)
	n.run(t, "docker", "swarm", "init", "--advertise-addr", n.Address.Addr().String())
	n.run(t, "docker", "run", "--detach", "--network", "none", "busybox", "/bin/sleep", "1000") // deaf to SIGTERM
	if err := h.Restart(t.Context(), n.UUID); err != nil {
		t.Fatal(err)
	}
	n.findInit(t)
	if out, err := n.try(nil, "sh", "-c", "grep 'Daemon shutdown complete' /var/log/dockerd/*"); err != nil {
		t.Errorf("dockerd did not stop by itself: %v %s", err, out)
	}
}

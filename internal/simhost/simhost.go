// SPDX-License-Identifier: Apache-2.0

// Package simhost simulates the hosts that carry tenant nodes, for machines
// without libvirt, for tests of faults and for scale. A simulated node is a
// file in its host's directory; nothing runs.
//
// It keeps the rules of package lxc (repeating is success, a host that does
// not answer is a temporary error, a missing image a permanent one).
package simhost

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/lxc"
	"github.com/keelson/keelson/internal/mishap"
)

// Mishaps is the name of the file in a host's directory that makes calls go
// wrong by chance: see package mishap.
const Mishaps = "mishaps"

// Scheme is the scheme of a simulated host's URI: "sim:///var/lib/sim/host-1",
// whose path is the host's directory. A host exists while its directory does.
const Scheme = "sim"

// IsURI tells whether uri names a simulated host.
func IsURI(uri string) bool { return strings.HasPrefix(uri, Scheme+":") }

// Host is a simulated host. It may be used from several goroutines and
// processes at once.
type Host struct {
	dir string
	err error
	// Fault, if set, is asked before each call ("ensure", "rebuild", "start", "delete", "list", "probe")
	// and makes it fail, or hang until ctx ends.
	Fault func(ctx context.Context, call, node string) error
}

// Open returns the host behind the URI. A URI that is not one of a simulated
// host makes every call fail.
func Open(uri string) *Host {
	u, err := url.Parse(uri)
	if err == nil && (u.Scheme != Scheme || !filepath.IsAbs(u.Path)) {
		err = fmt.Errorf("%q is not the URI of a simulated host", uri)
	}
	if err != nil {
		return &Host{err: fault.Permanent(err, "the host's libvirt URI is wrong: the operator must correct it")}
	}
	return &Host{dir: filepath.Clean(u.Path)}
}

// Ensure makes the node. One that is there stays as it was made.
func (h *Host) Ensure(ctx context.Context, spec lxc.Spec) (err error) {
	lost, err := h.answers(ctx, "ensure", spec.UUID)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, lost()) }()
	if _, err := os.Stat(h.file(spec.UUID)); err == nil {
		return h.run(spec.UUID)
	}
	return h.write(spec)
}

// Rebuild makes the node anew, unless it was made from this image and revision.
func (h *Host) Rebuild(ctx context.Context, spec lxc.Spec) (err error) {
	lost, err := h.answers(ctx, "rebuild", spec.UUID)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, lost()) }()
	made, err := h.Node(spec.UUID)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && made.Image == spec.Image && made.Revision == spec.Revision {
		return nil
	}
	return h.write(spec)
}

// write makes the node as specified, if its image is on the host.
func (h *Host) write(spec lxc.Spec) error {
	if images, err := os.ReadDir(filepath.Join(h.dir, "images")); err == nil {
		if !slices.ContainsFunc(images, func(e fs.DirEntry) bool { return e.Name() == spec.Image }) {
			return fault.Permanent(nil, "node image %q is missing: the operator must put it on the host", spec.Image)
		}
	}
	spec.Files = nil // may be secret, and nothing reads them
	content, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("describing node %s: %w", spec.UUID, err)
	}
	file := h.file(spec.UUID)
	if err := os.WriteFile(file+".new", content, 0o600); err != nil {
		return fmt.Errorf("making node %s: %w", spec.UUID, err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return err
	}
	return h.run(spec.UUID)
}

// Start starts a node that stands still; one that is not there is a permanent
// error.
func (h *Host) Start(ctx context.Context, uuid string) (err error) {
	lost, err := h.answers(ctx, "start", uuid)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, lost()) }()
	if _, err := os.Stat(h.file(uuid)); err != nil {
		return fault.Permanent(err, "node %s is not on the host", uuid)
	}
	return h.run(uuid)
}

// run makes the node run.
func (h *Host) run(uuid string) error {
	if err := os.Remove(h.stopped(uuid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("starting node %s: %w", uuid, err)
	}
	return nil
}

// Stop makes the node stand still, as its own root user can.
func (h *Host) Stop(uuid string) error { return os.WriteFile(h.stopped(uuid), nil, 0o600) }

// Delete removes the node; one that is gone is success.
func (h *Host) Delete(ctx context.Context, uuid string) (err error) {
	lost, err := h.answers(ctx, "delete", uuid)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, lost()) }()
	if err := os.Remove(h.file(uuid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing node %s: %w", uuid, err)
	}
	return h.run(uuid)
}

// List returns the nodes on the host.
func (h *Host) List(ctx context.Context) ([]lxc.Info, error) {
	if _, err := h.answers(ctx, "list", ""); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	stopped := make(map[string]bool)
	var nodes []lxc.Info
	for _, e := range entries {
		if uuid, ok := strings.CutSuffix(e.Name(), ".stopped"); ok {
			stopped[uuid] = true
		} else if uuid, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			nodes = append(nodes, lxc.Info{UUID: uuid, State: lxc.StateRunning})
		}
	}
	for i := range nodes {
		if stopped[nodes[i].UUID] {
			nodes[i].State = lxc.StateStopped
		}
	}
	return nodes, nil
}

// Probe tells whether the host answers.
func (h *Host) Probe(ctx context.Context) error {
	_, err := h.answers(ctx, "probe", "")
	return err
}

// Nodes returns the uuids of the nodes on the host, sorted.
func (h *Host) Nodes() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(h.dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var nodes []string
	for _, f := range files {
		nodes = append(nodes, strings.TrimSuffix(filepath.Base(f), ".json"))
	}
	slices.Sort(nodes)
	return nodes, nil
}

// Node returns how the node was made, without its files; fs.ErrNotExist if it
// is not on the host.
func (h *Host) Node(uuid string) (lxc.Spec, error) {
	var made lxc.Spec
	content, err := os.ReadFile(h.file(uuid))
	if err == nil {
		err = json.Unmarshal(content, &made)
	}
	if err != nil {
		return lxc.Spec{}, fmt.Errorf("reading node %s: %w", uuid, err)
	}
	return made, nil
}

func (h *Host) file(uuid string) string { return filepath.Join(h.dir, filepath.Base(uuid)+".json") }

// stopped is the file that is there while the node stands still.
func (h *Host) stopped(uuid string) string {
	return filepath.Join(h.dir, filepath.Base(uuid)+".stopped")
}

// answers tells whether the host takes the call. What lost returns is what the
// caller is told when the call has been done.
func (h *Host) answers(ctx context.Context, call, node string) (lost func() error, err error) {
	if h.err != nil {
		return nil, h.err
	}
	if h.Fault != nil {
		if err := h.Fault(ctx, call, node); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(h.dir); err != nil {
		return nil, fault.Temporary(err, "the host does not answer")
	}
	if lost, err = mishap.Play(ctx, filepath.Join(h.dir, Mishaps), call); err != nil {
		return nil, err
	}
	return lost, ctx.Err()
}

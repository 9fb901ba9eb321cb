// SPDX-License-Identifier: Apache-2.0

//go:build cgo && libvirt_dlopen

package lxc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keelson/keelson/internal/fault"
)

// stage does the first steps of Ensure, as a conductor that died there did.
func (h *testHost) stage(tb testing.TB, spec Spec, upTo string) {
	tb.Helper()
	err := h.do(tb.Context(), spec.UUID, "begin node", func(s *session) error {
		if err := s.createDisk(&spec); err != nil {
			return err
		}
		switch upTo {
		case "files half uploaded":
			return s.halfUpload(&spec)
		case "defined", "disk half made", "defined, files lost":
			domain, err := s.define(&spec)
			if err == nil {
				err = domain.Free()
			}
			return err
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	if upTo == "disk half made" { // a file system is there, the mark is not
		if out, err := exec.Command("mkfs.ext4", "-q", "-F", filepath.Join(h.state, "nodes", diskVolume(spec.UUID))).CombinedOutput(); err != nil {
			tb.Fatalf("mkfs: %v\n%s", err, out)
		}
	}
	if upTo == "defined, files lost" {
		if err := h.loseFiles(&spec); err != nil {
			tb.Fatal(err)
		}
	}
}

func (s *session) halfUpload(spec *Spec) error {
	pool, err := s.pool(nodePool)
	if err != nil {
		return err
	}
	defer func() { _ = pool.Free() }()
	return s.createVolume(pool, fileVolume(spec.UUID), 100000, []byte("cut o"))
}

// loseFiles does to an upload what a power failure does that comes before it
// has reached the disk: the file has its size and reads as zeroes.
func (h *testHost) loseFiles(spec *Spec) error {
	file := filepath.Join(h.state, "nodes", fileVolume(spec.UUID))
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	return errors.Join(os.Truncate(file, 0), os.Truncate(file, info.Size()))
}

func TestEnsureConvergesAfterACrashAtAnyStage(t *testing.T) {
	h := sharedHost(t)
	for _, stage := range []string{"disk only", "files half uploaded", "defined", "disk half made", "defined, files lost"} {
		t.Run(stage, func(t *testing.T) {
			spec := h.spec()
			t.Cleanup(func() { h.remove(t, spec.UUID) })
			h.stage(t, spec, stage)
			n := h.start(t, spec)
			n.dockerAnswers(t)
			init := n.init
			if err := h.Ensure(t.Context(), spec); err != nil { // runs already
				t.Fatal(err)
			}
			if n.findInit(t); n.init != init {
				t.Error("Ensure restarted a node that ran")
			}
			if key := n.run(t, "cat", "/etc/docker/server-key.pem"); key != "not a real key" {
				t.Errorf("the node's file has %q", key)
			}
			if _, err := os.Stat(filepath.Join(h.state, "nodes", fileVolume(spec.UUID))); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the archive with the key is still on the host: %v", err)
			}
		})
		t.Run("delete after "+stage, func(t *testing.T) {
			spec := h.spec()
			h.stage(t, spec, stage)
			for range 2 {
				if err := h.Delete(t.Context(), spec.UUID); err != nil {
					t.Fatal(err)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(h.state, "nodes", spec.UUID+"*")); len(left) != 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

func TestManyCallsForOneNodeAtOnce(t *testing.T) {
	h := sharedHost(t)
	spec := h.spec()
	t.Cleanup(func() { h.remove(t, spec.UUID) })
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if err := h.Ensure(t.Context(), spec); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for range 6 {
		wg.Go(func() {
			if err := h.Delete(t.Context(), spec.UUID); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if state, err := h.State(t.Context(), spec.UUID); err != nil || state != StateGone {
		t.Errorf("the node is %s, %v", state, err)
	}
}

func TestNodesMadeAtOnce(t *testing.T) {
	h := sharedHost(t)
	var wg sync.WaitGroup
	specs := []Spec{h.spec(), h.spec(), h.spec(), h.spec(), h.spec(), h.spec()}
	for _, spec := range specs {
		t.Cleanup(func() { h.remove(t, spec.UUID) })
		wg.Go(func() {
			if err := h.Ensure(t.Context(), spec); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, spec := range specs {
		n := &node{Spec: spec, host: h}
		n.findInit(t)
		n.dockerAnswers(t)
	}
}

func TestMissingImageIsPermanentAndNamed(t *testing.T) {
	h := sharedHost(t)
	spec := h.spec()
	spec.Image = "no-such-image"
	_, probeErr := h.Probe(t.Context(), "no-such-image")
	for what, err := range map[string]error{"Ensure": h.Ensure(t.Context(), spec), "Probe": probeErr} {
		reason := fault.Reason(err, "")
		if !fault.IsPermanent(err) || !strings.Contains(reason, "no-such-image") || !strings.Contains(reason, "test-host") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if state, err := h.State(t.Context(), spec.UUID); err != nil || state != StateGone {
		t.Errorf("the node is %s, %v", state, err)
	}
}

func TestWrongSpecificationIsPermanent(t *testing.T) {
	h := sharedHost(t)
	spec := h.spec()
	spec.IDBase = 0 // root of the host
	if err := h.Ensure(t.Context(), spec); !fault.IsPermanent(err) {
		t.Errorf("got %v", err)
	}
}

func TestStartOfAMissingNodeIsPermanent(t *testing.T) {
	h := sharedHost(t)
	if err := h.Restart(t.Context(), h.spec().UUID); !fault.IsPermanent(err) {
		t.Errorf("got %v", err)
	}
	if err := h.Start(t.Context(), h.spec().UUID); !fault.IsPermanent(err) {
		t.Errorf("start: %v", err)
	}
}

func TestUnreachableHostIsTemporary(t *testing.T) {
	sharedHost(t) // needs the client library
	dir := t.TempDir()
	silent, err := net.Listen("unix", filepath.Join(dir, "silent"))
	if err != nil {
		t.Fatal(err)
	}
	pool, err := NewPool(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = silent.Close() // ends the call that waits for it
		_ = pool.Close()
	})
	for _, name := range []string{"absent", "silent"} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			host := pool.Host("far-away", "lxc:///system?socket="+filepath.Join(dir, name))
			begin := time.Now()
			_, err := host.State(ctx, "00000000-0000-4000-8000-000000000000")
			if err == nil || fault.IsPermanent(err) || !strings.Contains(fault.Reason(err, ""), "far-away") {
				t.Errorf("got %v", err)
			}
			if took := time.Since(begin); took > 2*time.Second {
				t.Errorf("it took %s to say so", took)
			}
		})
	}
}

func TestLifeGoesOnWhenLibvirtdDies(t *testing.T) {
	h := ownHost(t)
	n := h.start(t, h.spec())
	n.dockerAnswers(t)

	daemon, err := strconv.Atoi(read(t, filepath.Join(h.state, "libvirtd.pid")))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(daemon, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "calls fail for a while", func() error {
		if _, err := h.State(t.Context(), n.UUID); err == nil || fault.IsPermanent(err) {
			return fmt.Errorf("State says %w", err)
		}
		return nil
	})
	n.dockerAnswers(t)
	h.prepareAgain(t)
	eventually(t, "the host answers again", func() error {
		state, err := h.State(t.Context(), n.UUID)
		if err == nil && state != StateRunning {
			err = errors.New(string(state))
		}
		return err
	})
	before := n.init
	if n.findInit(t); n.init != before {
		t.Error("the node was restarted")
	}
	for range 2 {
		if err := h.Delete(t.Context(), n.UUID); err != nil {
			t.Fatal(err)
		}
	}
	if devices := h.loopDevices(t, n.UUID); len(devices) != 0 {
		t.Errorf("%q still there", devices)
	}
}

func TestNodeKilledWhileLibvirtdIsDown(t *testing.T) {
	h := ownHost(t)
	n := h.start(t, h.spec())
	daemon, err := strconv.Atoi(read(t, filepath.Join(h.state, "libvirtd.pid")))
	if err != nil {
		t.Fatal(err)
	}
	n.run(t, "sh", "-c", "echo kept > /root/data; sync")
	for _, pid := range []int{daemon, n.init} {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	h.prepareAgain(t)
	eventually(t, "the node runs again", func() error { return h.Ensure(t.Context(), n.Spec) })
	n.findInit(t)
	n.dockerAnswers(t)
	if data := n.run(t, "cat", "/root/data"); data != "kept" {
		t.Errorf("data on the root became %q", data)
	}
}

func TestHostWithoutHookTakesNoNode(t *testing.T) {
	h := ownHost(t)
	if err := os.Remove(filepath.Join(h.state, "etc/hooks/lxc")); err != nil {
		t.Fatal(err)
	}
	err := h.do(t.Context(), "", "refresh", func(s *session) error { // as a restart of libvirtd would
		pool, err := s.pool(hookPool)
		if err != nil {
			return err
		}
		defer func() { _ = pool.Free() }()
		return pool.Refresh(0)
	})
	if err != nil {
		t.Fatal(err)
	}
	err = h.Ensure(t.Context(), h.spec())
	if reason := fault.Reason(err, ""); !fault.IsPermanent(err) || !strings.Contains(reason, "lxc hook") {
		t.Errorf("got %v", err)
	}
}

func TestHostForgottenByItsOperatorCanBePreparedAgain(t *testing.T) {
	h := ownHost(t)
	h.start(t, h.spec())
	env := append(os.Environ(), "KEELSON_STATE="+h.state)
	for range 2 {
		runScript(t, env, "unprepare.sh") // with a node running
	}
	if _, err := net.InterfaceByName(h.bridge); err == nil {
		t.Error("the bridge is left")
	}
	if _, err := h.Probe(t.Context()); err == nil || fault.IsPermanent(err) {
		t.Errorf("got %v", err)
	}
	if err := os.MkdirAll(h.state, 0o755); err != nil {
		t.Fatal(err)
	}
	h.prepareAgain(t)
	h.start(t, h.spec()).dockerAnswers(t)
}

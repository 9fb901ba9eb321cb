// SPDX-License-Identifier: Apache-2.0

package swarm_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/conformance"
	"github.com/keelson/keelson/internal/lxc"
	"github.com/keelson/keelson/internal/testenv"
)

// lxcMachines are real nodes on the host that the environment names. Others
// may have nodes there, so only its own ones are listed.
type lxcMachines struct {
	host    *lxc.Host
	bridge  string
	network netip.Prefix
	image   string
	cluster string
	first   uint32 // number of the first node: of its address and its ids

	mu      sync.Mutex
	numbers map[string]uint32 // by node id
}

// firstNumbers counts up from a number of this process's own, in the upper
// half of the network.
var firstNumbers atomic.Uint32

func init() { firstNumbers.Store(256 * (128 + rand.Uint32N(64))) }

// newLXC returns machines; those that are left at the end of the test are
// deleted.
func newLXC(tb testing.TB) *lxcMachines {
	tb.Helper()
	uri := testenv.Require(tb, testenv.Libvirt)
	pool, err := lxc.NewPool(slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		tb.Fatal(err)
	}
	m := &lxcMachines{
		host:    pool.Host("test-host", uri),
		bridge:  testenv.Require(tb, testenv.Bridge),
		network: netip.MustParsePrefix(testenv.Require(tb, testenv.BridgeCIDR)),
		image:   testenv.Require(tb, testenv.NodeImage),
		cluster: uuid.NewString(),
		first:   firstNumbers.Add(128),
		numbers: map[string]uint32{},
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for id := range m.numbers {
			if err := m.host.Delete(ctx, id); err != nil {
				tb.Errorf("delete node %s: %v", id, err)
			}
		}
		if err := pool.Close(); err != nil {
			tb.Error(err)
		}
	})
	return m
}

func (m *lxcMachines) Address(i int) netip.Addr {
	network := m.network.Masked().Addr().As4()
	var address [4]byte
	binary.BigEndian.PutUint32(address[:], binary.BigEndian.Uint32(network[:])+m.first+uint32(i))
	return netip.AddrFrom4(address)
}

func (m *lxcMachines) Start(ctx context.Context, node drivers.Node, revision string, files []drivers.File) error {
	return m.host.Ensure(ctx, m.spec(node, revision, files))
}

func (m *lxcMachines) Rebuild(ctx context.Context, node drivers.Node, revision string, files []drivers.File) error {
	return m.host.Rebuild(ctx, m.spec(node, revision, files))
}

func (m *lxcMachines) spec(node drivers.Node, revision string, files []drivers.File) lxc.Spec {
	address := netip.MustParseAddr(node.Address)
	bytes := address.As4()
	number := binary.BigEndian.Uint32(bytes[:]) & 0xffff
	m.mu.Lock()
	m.numbers[node.ID] = number
	m.mu.Unlock()
	spec := lxc.Spec{
		UUID:      node.ID,
		Name:      node.Name,
		Image:     m.image,
		Revision:  revision,
		VCPUs:     2,
		MemoryMiB: 1024,
		DiskGiB:   5,
		Cluster:   m.cluster,
		IDBase:    (1 + number%60000) * lxc.IDCount,
		Bridge:    m.bridge,
		MAC:       fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", bytes[0], bytes[1], bytes[2], bytes[3]),
		Address:   netip.PrefixFrom(address, m.network.Bits()),
		Gateway:   m.network.Addr(),
	}
	for _, f := range files {
		spec.Files = append(spec.Files, lxc.File{Path: f.Path, Mode: f.Mode, Content: f.Content})
	}
	return spec
}

func (m *lxcMachines) Delete(ctx context.Context, nodeID string) error {
	if err := m.host.Delete(ctx, nodeID); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.numbers, nodeID)
	return nil
}

func (m *lxcMachines) List(ctx context.Context) ([]string, error) {
	all, err := m.host.List(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var own []string
	for _, node := range all {
		if _, ok := m.numbers[node.UUID]; ok && node.State != lxc.StateGone {
			own = append(own, node.UUID)
		}
	}
	return own, nil
}

var _ conformance.Machines = (*lxcMachines)(nil)

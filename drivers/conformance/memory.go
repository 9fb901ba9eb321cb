// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/keelson/keelson/drivers"
)

// Memory is machines that exist in name only, for drivers that need no more.
type Memory struct {
	mu    sync.Mutex
	nodes map[string]memoryNode
}

type memoryNode struct {
	revision string
	files    []drivers.File
}

// NewMemory returns no machines yet.
func NewMemory() *Memory { return &Memory{nodes: map[string]memoryNode{}} }

// Address returns addresses of the network set aside for documentation.
func (m *Memory) Address(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 51, byte(100 + i/250), byte(1 + i%250)})
}

// Start notes the machine and its files.
func (m *Memory) Start(_ context.Context, node drivers.Node, revision string, files []drivers.File) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.nodes[node.ID]; !ok {
		m.nodes[node.ID] = memoryNode{revision, files}
	}
	return nil
}

// Rebuild notes the machine's new files.
func (m *Memory) Rebuild(_ context.Context, node drivers.Node, revision string, files []drivers.File) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nodes[node.ID].revision != revision {
		m.nodes[node.ID] = memoryNode{revision, files}
	}
	return nil
}

// Delete forgets the machine.
func (m *Memory) Delete(_ context.Context, nodeID string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.nodes, nodeID)
	return nil
}

// List returns the nodes that were started and not deleted.
func (m *Memory) List(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.nodes)), nil
}

// Files returns what the node was started with.
func (m *Memory) Files(nodeID string) []drivers.File {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nodes[nodeID].files
}

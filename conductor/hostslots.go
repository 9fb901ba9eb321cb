// SPDX-License-Identifier: Apache-2.0

package conductor

import (
	"sync"
	"time"
)

// startPause is how soon a node asks again whether its host has time for it.
const startPause = 250 * time.Millisecond

// hostSlots bounds how many nodes are made at once on each host: to make one
// takes its disk and its libvirt, and beyond a few all get slower.
type hostSlots struct {
	most  int // 0: no bound
	mu    sync.Mutex
	taken map[string]int // by host uuid; no zeros
}

// begin takes a slot of the host, if one is free; end gives it back.
func (s *hostSlots) begin(host string) (end func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.most > 0 && s.taken[host] >= s.most {
		return nil, false
	}
	s.taken[host]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.taken[host]--; s.taken[host] == 0 {
			delete(s.taken, host)
		}
	}, true
}

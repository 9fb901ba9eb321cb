// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// BrokerState is what one broker of a transport_url said.
type BrokerState struct {
	Address string // host and port
	Err     error  // nil: it takes the user into the virtual host
}

// Probe connects once to each broker that transportURL names, all at once, and
// says what became of it. There are none with memory://. It fails only on a bad
// URL or unreadable TLS files; like these, no error holds a password.
func Probe(ctx context.Context, transportURL string, o Options) ([]BrokerState, error) {
	t, err := parseTransportURL(transportURL)
	if err != nil {
		return nil, fmt.Errorf("transport_url: %w", err)
	}
	if t.memory {
		return nil, nil
	}
	tlsConfig, err := t.tls.config()
	if err != nil {
		return nil, fmt.Errorf("transport_url: %w", err)
	}
	l := newLink("probe", t, tlsConfig, o.withDefaults())
	states := make([]BrokerState, len(t.hosts))
	var asking sync.WaitGroup
	for i, b := range t.hosts {
		asking.Go(func() {
			conn, err := l.dial(ctx, b)
			if err == nil {
				_ = conn.CloseDeadline(time.Now().Add(closeTimeout))
			}
			states[i] = BrokerState{b.address(), err}
		})
	}
	asking.Wait()
	return states, nil
}

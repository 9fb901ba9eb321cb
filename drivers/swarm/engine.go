// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/fault"
)

// How long engines are given. Calls that look are quick; init and join end
// when the node is part of the swarm, which the daemon itself bounds by 20 s.
const (
	lookTimeout = 3 * time.Second
	joinTimeout = 15 * time.Second
	waitTimeout = time.Second // a step's own wait, before it asks to be called again
	waitPause   = 25 * time.Millisecond
	againPause  = 100 * time.Millisecond
)

// engine is the Docker API of one node. Close it after use.
type engine struct {
	*client.Client
	node *drivers.Node
}

// connect returns the API of a node. Nothing is sent yet.
func (d *Driver) connect(ctx context.Context, job *drivers.Job, node *drivers.Node) (*engine, error) {
	if node.Address == "" {
		return nil, fault.Temporary(nil, "node %s has no address yet", node.Name)
	}
	dial, err := d.dialTLS(ctx, job.Services.Certificates)
	if err != nil {
		return nil, err
	}
	// The host goes first: it sets a proxy and a dialer that are not wanted.
	api, err := client.New(
		client.WithHost("tcp://"+net.JoinHostPort(node.Address, apiPort)),
		client.WithHTTPClient(&http.Client{
			Transport:     &http.Transport{DialTLSContext: dial},
			CheckRedirect: client.CheckRedirect,
		}),
		client.WithScheme("https"),
		client.WithUserAgent("keelson"),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to Docker on %s: %w", node.Name, err)
	}
	return &engine{api, node}, nil
}

// look asks the engine for its state.
func (e *engine) look(ctx context.Context) (*system.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	result, err := e.Info(ctx, client.InfoOptions{})
	if err != nil {
		return nil, e.failed(err)
	}
	return &result.Info, nil
}

func (e *engine) pings(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	_, err := e.Ping(ctx, client.PingOptions{})
	return err == nil
}

// failed says for the user that the engine did not do what it was asked.
func (e *engine) failed(err error) error {
	switch {
	case isUntrusted(err):
		return fault.Temporary(err, "what answers for Docker at %s is not node %s: its certificate is not the node's", e.node.Address, e.node.Name)
	case isUnreachable(err):
		return fault.Temporary(err, "Docker on node %s (%s) does not answer", e.node.Name, e.node.Address)
	}
	return fault.Temporary(err, "Docker on node %s (%s) reports an error", e.node.Name, e.node.Address)
}

// isUntrusted tells whether somebody answered who is not the node.
func isUntrusted(err error) bool {
	var untrusted *tls.CertificateVerificationError
	return errors.As(err, &untrusted)
}

func isUnreachable(err error) bool {
	return !isUntrusted(err) && (client.IsErrConnectionFailed(err) || errors.Is(err, context.DeadlineExceeded))
}

// awaken connects to a node that may just be starting and returns its engine
// with its state. A nil engine and no error mean: not yet.
func (d *Driver) awaken(ctx context.Context, job *drivers.Job, node *drivers.Node) (*engine, *system.Info, error) {
	e, err := d.connect(ctx, job, node)
	if err != nil {
		return nil, nil, err
	}
	var info *system.Info
	if _, err = wait(ctx, func() (bool, error) {
		info, err = e.look(ctx)
		if err != nil && isUnreachable(err) {
			return false, nil
		}
		return true, err
	}); err != nil || info == nil {
		e.Close()
		return nil, nil, err
	}
	return e, info, nil
}

// ownID asks a node that may be dead for its id in the swarm: empty when it
// has none or does not answer.
func (d *Driver) ownID(ctx context.Context, job *drivers.Job, node *drivers.Node) string {
	e, err := d.connect(ctx, job, node)
	if err != nil {
		return ""
	}
	defer e.Close()
	info, err := e.look(ctx)
	if err != nil {
		return ""
	}
	return info.Swarm.NodeID
}

// wait calls done every few milliseconds until it says so or fails, for about
// a second: what ends sooner needs no further call of the step.
func wait(ctx context.Context, done func() (bool, error)) (bool, error) {
	limit := time.NewTimer(waitTimeout)
	defer limit.Stop()
	tick := time.NewTicker(waitPause)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return ok, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-limit.C:
			return false, nil
		case <-tick.C:
		}
	}
}

// errNoManager is in the chain when no manager can be asked.
var errNoManager = errors.New("no manager of the swarm answers")

// manager returns a manager of the cluster's swarm that answers, with its
// state, passing over the nodes in except. No manager is a temporary error.
func (d *Driver) manager(ctx context.Context, job *drivers.Job, except ...*drivers.Node) (*engine, *system.Info, error) {
	swarmID := loadState(job).SwarmID
	err, leaderless := errNoManager, false
	for i := range job.Nodes {
		n := &job.Nodes[i]
		if !n.Master() || n.Address == "" || slices.Contains(except, n) {
			continue
		}
		e, failure := d.connect(ctx, job, n)
		if failure != nil {
			return nil, nil, failure
		}
		info, failure := e.look(ctx)
		if failure == nil && isManager(info, swarmID) {
			return e, info, nil
		}
		if failure == nil {
			failure = fmt.Errorf("node %s does not manage the cluster's swarm: %s %s", n.Name, info.Swarm.LocalNodeState, info.Swarm.Error)
			leaderless = leaderless || info.Swarm.ControlAvailable && info.Swarm.Cluster == nil
		} else if errors.Is(failure, context.DeadlineExceeded) {
			// Where the majority is lost the engine lives, but waits for a
			// leader when it is asked for its state.
			leaderless = leaderless || e.pings(ctx)
		}
		err = errors.Join(err, failure)
		e.Close()
	}
	if leaderless {
		return nil, nil, fault.Temporary(err, "the swarm has no leader: most of its managers do not answer")
	}
	return nil, nil, fault.Temporary(err, "no manager of the swarm answers")
}

// isManager tells whether the engine manages that swarm, or any when the id is
// empty.
func isManager(info *system.Info, swarmID string) bool {
	s := info.Swarm
	return s.LocalNodeState == swarm.LocalNodeStateActive && s.ControlAvailable && s.Cluster != nil &&
		(swarmID == "" || s.Cluster.ID == swarmID)
}

// members lists the swarm's nodes.
func (e *engine) members(ctx context.Context) (members, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	result, err := e.NodeList(ctx, client.NodeListOptions{})
	if err != nil {
		return nil, e.failed(err)
	}
	return result.Items, nil
}

// update changes what the swarm wants of a node.
func (e *engine) update(ctx context.Context, m *swarm.Node, role swarm.NodeRole, availability swarm.NodeAvailability) error {
	if m.Spec.Role == role && m.Spec.Availability == availability {
		return nil
	}
	spec := m.Spec
	spec.Role, spec.Availability = role, availability
	return e.updateSpec(ctx, m, spec)
}

func (e *engine) updateSpec(ctx context.Context, m *swarm.Node, spec swarm.NodeSpec) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if _, err := e.NodeUpdate(ctx, m.ID, client.NodeUpdateOptions{Version: m.Version, Spec: spec}); err != nil {
		return e.failed(err)
	}
	return nil
}

// leave takes the engine out of whatever swarm it is in.
func (e *engine) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	if _, err := e.SwarmLeave(ctx, client.SwarmLeaveOptions{Force: true}); err != nil {
		return e.failed(err)
	}
	return nil
}

// members are the nodes that a swarm knows.
type members []swarm.Node

// find returns the node as the swarm knows it, nil if it does not. Of several
// entries, left from former lives of the node, the one that is ready counts.
func (ms members) find(n *drivers.Node) *swarm.Node {
	var found *swarm.Node
	for i := range ms {
		if m := &ms[i]; isEntryOf(m, n) && (found == nil || m.Status.State == swarm.NodeStateReady) {
			found = m
		}
	}
	return found
}

func isEntryOf(m *swarm.Node, n *drivers.Node) bool {
	return m.Description.Engine.Labels[labelNode] == n.ID || n.COEID != "" && m.ID == n.COEID
}

// entries returns all that the swarm has of a node. One that crashed while it
// joined has no labels yet and may be known by its address.
func (ms members) entries(n *drivers.Node) []*swarm.Node {
	var found []*swarm.Node
	for i := range ms {
		m := &ms[i]
		nameless := m.Description.Engine.Labels[labelNode] == "" && m.Status.Addr == n.Address
		if isEntryOf(m, n) || nameless {
			found = append(found, m)
		}
	}
	return found
}

// byID returns the member with the swarm's id, nil if there is none.
func (ms members) byID(id string) *swarm.Node {
	for i := range ms {
		if ms[i].ID == id {
			return &ms[i]
		}
	}
	return nil
}

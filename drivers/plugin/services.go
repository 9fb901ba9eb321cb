// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"sync"

	"github.com/keelson/keelson/drivers"
	pb "github.com/keelson/keelson/drivers/plugin/proto"
	"github.com/keelson/keelson/internal/fault"
)

// callsAtOnce is how many calls of one stream are under way; more wait.
const callsAtOnce = 16

// jobServices are the services of one job, at Keelson's end of a stream. They
// reach nothing but the cluster of that job, and nothing at all when the stream
// has ended.
type jobServices struct {
	job    *drivers.Job
	answer func(*pb.Answer)
	slots  chan struct{}

	mu     sync.Mutex
	failed map[uint32]error // by number of the call
	all    sync.WaitGroup
}

func newJobServices(job *drivers.Job, answer func(*pb.Answer)) *jobServices {
	return &jobServices{job: job, answer: answer, slots: make(chan struct{}, callsAtOnce), failed: map[uint32]error{}}
}

// begin answers the call in a goroutine of its own: see wait.
func (s *jobServices) begin(ctx context.Context, call *pb.Call) {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	s.all.Go(func() {
		defer func() { <-s.slots }()
		a, err := s.do(ctx, call)
		if err != nil {
			s.mu.Lock()
			s.failed[call.GetNumber()] = err
			s.mu.Unlock()
			a = &pb.Answer{Answer: &pb.Answer_Failure{Failure: toDriver(err, call.GetNumber())}}
		}
		a.Number = call.GetNumber()
		s.answer(a)
	})
}

// wait returns when no call is under way any more.
func (s *jobServices) wait() { s.all.Wait() }

// failure returns the error that the call was answered with, or nil.
func (s *jobServices) failure(call uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed[call]
}

func (s *jobServices) do(ctx context.Context, call *pb.Call) (a *pb.Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.Permanent(fmt.Errorf("service panicked: %v", p), "Keelson failed in a call of the driver")
		}
	}()
	nodes, certificates, records := s.job.Services.Nodes, s.job.Services.Certificates, s.job.Services.Records
	switch c := call.GetCall().(type) {
	case *pb.Call_Place:
		return outcome(nodes.Place(ctx, c.Place.GetNodeId()))
	case *pb.Call_Start:
		files := filesFrom(c.Start.GetFiles())
		if err := checkFiles(files); err != nil {
			return nil, err
		}
		return outcome(nodes.Start(ctx, c.Start.GetNodeId(), files))
	case *pb.Call_Rebuild:
		files := filesFrom(c.Rebuild.GetFiles())
		if err := checkFiles(files); err != nil {
			return nil, err
		}
		return outcome(nodes.Rebuild(ctx, c.Rebuild.GetNodeId(), files))
	case *pb.Call_DeleteNode:
		return outcome(nodes.Delete(ctx, c.DeleteNode.GetNodeId()))
	case *pb.Call_Authority:
		authority, err := certificates.Authority(ctx)
		return certificate(authority, nil, nil, err)
	case *pb.Call_NodeCertificate:
		m := c.NodeCertificate
		if err := s.known(m.GetNodeId()); err != nil {
			return nil, err
		}
		address, err := netip.ParseAddr(m.GetAddress())
		if err != nil {
			return nil, fault.Permanent(err, "the driver asked for a certificate of a node without an address")
		}
		cert, key, err := certificates.Node(ctx, m.GetNodeId(), m.GetName(), address)
		return certificate(nil, cert, key, err)
	case *pb.Call_ClientCertificate:
		cert, key, err := certificates.Client(ctx)
		return certificate(nil, cert, key, err)
	case *pb.Call_OtherAuthority:
		return certificate(certificates.Other(ctx))
	case *pb.Call_Joined:
		if err := s.known(c.Joined.GetNodeId()); err != nil {
			return nil, err
		}
		return recorded(records.Joined(ctx, c.Joined.GetNodeId(), c.Joined.GetCoeId()))
	case *pb.Call_Observed:
		o := c.Observed
		return recorded(records.Observed(ctx, drivers.Observed{
			StackID: o.GetStackId(), APIAddress: o.GetApiAddress(), COEVersion: o.GetCoeVersion(), ContainerVersion: o.GetContainerVersion(),
		}))
	case *pb.Call_SaveState:
		return recorded(records.SaveState(ctx, c.SaveState.GetState()))
	}
	return nil, fault.Permanent(nil, "the driver asked for something that this release of Keelson does not have")
}

// known refuses nodes that are not the job's.
func (s *jobServices) known(nodeID string) error {
	if s.job.Node(nodeID) == nil {
		return fault.Permanent(nil, "the driver named a node that is not one of the cluster")
	}
	return nil
}

// checkFiles refuses files that could not be within a node's root.
func checkFiles(files []drivers.File) error {
	for _, f := range files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || fs.FileMode(f.Mode)&^fs.ModePerm != 0 {
			return fault.Permanent(fmt.Errorf("file %q, mode %o", f.Path, f.Mode), "the driver gave a node a file whose path is not absolute and plain, or whose mode is not permission bits")
		}
	}
	return nil
}

func outcome(o drivers.Outcome, err error) (*pb.Answer, error) {
	return &pb.Answer{Answer: &pb.Answer_Outcome{Outcome: outcomeTo(o)}}, err
}

func certificate(authority, cert, key []byte, err error) (*pb.Answer, error) {
	return &pb.Answer{Answer: &pb.Answer_Certificate{Certificate: &pb.Certificate{Authority: authority, Certificate: cert, Key: key}}}, err
}

func recorded(err error) (*pb.Answer, error) {
	return &pb.Answer{Answer: &pb.Answer_Recorded{Recorded: &pb.Recorded{}}}, err
}

// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync"

	"google.golang.org/grpc"

	"github.com/keelson/keelson/drivers"
	pb "github.com/keelson/keelson/drivers/plugin/proto"
)

// server is a driver behind the protocol, in the driver's process.
type server struct {
	pb.UnimplementedDriverServer
	driver drivers.Driver
}

// usage is the power to tell what workloads have reserved.
const usage = "usage"

// Info implements the protocol.
func (s *server) Info(context.Context, *pb.InfoRequest) (*pb.InfoReply, error) {
	var powers []string
	if _, ok := s.driver.(drivers.UsageReporter); ok {
		powers = append(powers, usage)
	}
	return infoTo(s.driver.Info(), powers), nil
}

// ValidateTemplate implements the protocol.
func (s *server) ValidateTemplate(_ context.Context, m *pb.ValidateTemplateRequest) (*pb.ValidateReply, error) {
	return verdict(s.driver.ValidateTemplate(templateFrom(m.GetTemplate()))), nil
}

// ValidateCluster implements the protocol.
func (s *server) ValidateCluster(_ context.Context, m *pb.ValidateClusterRequest) (*pb.ValidateReply, error) {
	return verdict(s.driver.ValidateCluster(templateFrom(m.GetTemplate()), clusterFrom(m.GetCluster()), groupsFrom(m.GetGroups()))), nil
}

func verdict(err error) *pb.ValidateReply {
	var unsupported *drivers.UnsupportedError
	if err == nil {
		return &pb.ValidateReply{}
	}
	return &pb.ValidateReply{Refusal: err.Error(), Unsupported: errors.As(err, &unsupported)}
}

// Plan implements the protocol.
func (s *server) Plan(ctx context.Context, m *pb.PlanRequest) (*pb.PlanReply, error) {
	var steps []drivers.Step
	err := guarded(func() (err error) {
		steps, err = s.driver.Plan(ctx, jobFrom(m.GetJob()))
		return err
	})
	if err != nil {
		return &pb.PlanReply{Failure: toHost(err)}, nil
	}
	reply := &pb.PlanReply{}
	for _, step := range steps {
		reply.Steps = append(reply.Steps, stepTo(step))
	}
	return reply, nil
}

// Run implements the protocol.
func (s *server) Run(stream grpc.BidiStreamingServer[pb.FromHost, pb.FromDriver]) error {
	return converse(stream, func(ctx context.Context, job *drivers.Job, step drivers.Step) (*pb.FromDriver, error) {
		outcome, err := s.driver.Run(ctx, job, step)
		return &pb.FromDriver{Message: &pb.FromDriver_Outcome{Outcome: outcomeTo(outcome)}}, err
	})
}

// Health implements the protocol.
func (s *server) Health(stream grpc.BidiStreamingServer[pb.FromHost, pb.FromDriver]) error {
	return converse(stream, func(ctx context.Context, job *drivers.Job, _ drivers.Step) (*pb.FromDriver, error) {
		health, err := s.driver.Health(ctx, job)
		return &pb.FromDriver{Message: &pb.FromDriver_Health{Health: &pb.Health{Status: health.Status, Reasons: health.Reasons}}}, err
	})
}

// Usage implements the protocol.
func (s *server) Usage(stream grpc.BidiStreamingServer[pb.FromHost, pb.FromDriver]) error {
	reporter, ok := s.driver.(drivers.UsageReporter)
	if !ok {
		return s.UnimplementedDriverServer.Usage(stream)
	}
	return converse(stream, func(ctx context.Context, job *drivers.Job, _ drivers.Step) (*pb.FromDriver, error) {
		reserved, err := reporter.Usage(ctx, job)
		m := &pb.Usage{}
		for _, r := range reserved {
			m.Nodes = append(m.Nodes, &pb.Reserved{NodeId: r.NodeID, MilliCpu: r.MilliCPU, Memory: r.Memory})
		}
		return &pb.FromDriver{Message: &pb.FromDriver_Usage{Usage: m}}, err
	})
}

// converse does the work that a stream is for, with the services at its other
// end, and sends what became of it.
func converse(stream grpc.BidiStreamingServer[pb.FromHost, pb.FromDriver], work func(context.Context, *drivers.Job, drivers.Step) (*pb.FromDriver, error)) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	begin := first.GetBegin()
	if begin == nil {
		return errors.New("the first message of the stream does not begin anything")
	}
	host := &remoteServices{stream: stream, waiting: map[uint32]chan<- *pb.Answer{}, ended: make(chan struct{})}
	go host.listen() // until the stream ends, which is when this function returns
	job := jobFrom(begin.GetJob())
	job.Services = drivers.Services{Nodes: host, Certificates: host, Records: host}
	var last *pb.FromDriver
	err = guarded(func() (err error) {
		last, err = work(stream.Context(), job, stepFrom(begin.GetStep()))
		return err
	})
	if err != nil {
		last = &pb.FromDriver{Message: &pb.FromDriver_Failure{Failure: toHost(err)}}
	}
	return host.send(last)
}

// guarded makes a driver's panic an error for good.
func guarded(work func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = drivers.Permanent(fmt.Errorf("panic: %v\n%s", p, debug.Stack()), "the driver failed")
		}
	}()
	return work()
}

// remoteServices are Keelson's services at the other end of a stream.
type remoteServices struct {
	stream grpc.BidiStreamingServer[pb.FromHost, pb.FromDriver]
	ended  chan struct{} // closed when no answer comes any more

	sending sync.Mutex

	mu      sync.Mutex
	calls   uint32
	waiting map[uint32]chan<- *pb.Answer // by number of the call
}

var (
	_ drivers.Nodes        = (*remoteServices)(nil)
	_ drivers.Certificates = (*remoteServices)(nil)
	_ drivers.Records      = (*remoteServices)(nil)
)

func (s *remoteServices) send(m *pb.FromDriver) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	return s.stream.Send(m)
}

// listen hands answers to those who wait for them.
func (s *remoteServices) listen() {
	defer close(s.ended)
	for {
		m, err := s.stream.Recv()
		if err != nil {
			return
		}
		number := m.GetAnswer().GetNumber()
		s.mu.Lock()
		answered, ok := s.waiting[number]
		delete(s.waiting, number)
		s.mu.Unlock()
		if ok {
			answered <- m.GetAnswer()
		}
	}
}

// ask makes one call and waits for its answer.
func (s *remoteServices) ask(ctx context.Context, call *pb.Call) (*pb.Answer, error) {
	answered := make(chan *pb.Answer, 1)
	s.mu.Lock()
	s.calls++
	call.Number = s.calls
	s.waiting[call.Number] = answered
	s.mu.Unlock()
	if err := s.send(&pb.FromDriver{Message: &pb.FromDriver_Call{Call: call}}); err != nil {
		return nil, fmt.Errorf("calling Keelson: %w", err)
	}
	select {
	case a := <-answered:
		if f := a.GetFailure(); f != nil {
			return nil, fromHost(f)
		}
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.ended:
		return nil, errors.New("the call was ended by Keelson")
	}
}

func (s *remoteServices) askOutcome(ctx context.Context, call *pb.Call) (drivers.Outcome, error) {
	a, err := s.ask(ctx, call)
	if err != nil {
		return drivers.Outcome{}, err
	}
	return outcomeFrom(a.GetOutcome()), nil
}

func (s *remoteServices) askCertificate(ctx context.Context, call *pb.Call) (*pb.Certificate, error) {
	a, err := s.ask(ctx, call)
	return a.GetCertificate(), err
}

func (s *remoteServices) tell(ctx context.Context, call *pb.Call) error {
	_, err := s.ask(ctx, call)
	return err
}

// Place implements drivers.Nodes.
func (s *remoteServices) Place(ctx context.Context, nodeID string) (drivers.Outcome, error) {
	return s.askOutcome(ctx, &pb.Call{Call: &pb.Call_Place{Place: &pb.Place{NodeId: nodeID}}})
}

// Start implements drivers.Nodes.
func (s *remoteServices) Start(ctx context.Context, nodeID string, files []drivers.File) (drivers.Outcome, error) {
	return s.askOutcome(ctx, &pb.Call{Call: &pb.Call_Start{Start: &pb.Start{NodeId: nodeID, Files: filesTo(files)}}})
}

// Rebuild implements drivers.Nodes.
func (s *remoteServices) Rebuild(ctx context.Context, nodeID string, files []drivers.File) (drivers.Outcome, error) {
	return s.askOutcome(ctx, &pb.Call{Call: &pb.Call_Rebuild{Rebuild: &pb.Rebuild{NodeId: nodeID, Files: filesTo(files)}}})
}

// Delete implements drivers.Nodes.
func (s *remoteServices) Delete(ctx context.Context, nodeID string) (drivers.Outcome, error) {
	return s.askOutcome(ctx, &pb.Call{Call: &pb.Call_DeleteNode{DeleteNode: &pb.DeleteNode{NodeId: nodeID}}})
}

// Authority implements drivers.Certificates.
func (s *remoteServices) Authority(ctx context.Context) ([]byte, error) {
	c, err := s.askCertificate(ctx, &pb.Call{Call: &pb.Call_Authority{Authority: &pb.Authority{}}})
	return c.GetAuthority(), err
}

// Node implements drivers.Certificates.
func (s *remoteServices) Node(ctx context.Context, nodeID, name string, address netip.Addr) (cert, key []byte, err error) {
	c, err := s.askCertificate(ctx, &pb.Call{Call: &pb.Call_NodeCertificate{
		NodeCertificate: &pb.NodeCertificate{NodeId: nodeID, Name: name, Address: address.String()},
	}})
	return c.GetCertificate(), c.GetKey(), err
}

// Client implements drivers.Certificates.
func (s *remoteServices) Client(ctx context.Context) (cert, key []byte, err error) {
	c, err := s.askCertificate(ctx, &pb.Call{Call: &pb.Call_ClientCertificate{ClientCertificate: &pb.ClientCertificate{}}})
	return c.GetCertificate(), c.GetKey(), err
}

// Other implements drivers.Certificates.
func (s *remoteServices) Other(ctx context.Context) (authority, cert, key []byte, err error) {
	c, err := s.askCertificate(ctx, &pb.Call{Call: &pb.Call_OtherAuthority{OtherAuthority: &pb.OtherAuthority{}}})
	return c.GetAuthority(), c.GetCertificate(), c.GetKey(), err
}

// Joined implements drivers.Records.
func (s *remoteServices) Joined(ctx context.Context, nodeID, coeID string) error {
	return s.tell(ctx, &pb.Call{Call: &pb.Call_Joined{Joined: &pb.Joined{NodeId: nodeID, CoeId: coeID}}})
}

// Observed implements drivers.Records.
func (s *remoteServices) Observed(ctx context.Context, o drivers.Observed) error {
	return s.tell(ctx, &pb.Call{Call: &pb.Call_Observed{Observed: &pb.Observed{
		StackId: o.StackID, ApiAddress: o.APIAddress, CoeVersion: o.COEVersion, ContainerVersion: o.ContainerVersion,
	}}})
}

// SaveState implements drivers.Records.
func (s *remoteServices) SaveState(ctx context.Context, state []byte) error {
	return s.tell(ctx, &pb.Call{Call: &pb.Call_SaveState{SaveState: &pb.SaveState{State: state}}})
}

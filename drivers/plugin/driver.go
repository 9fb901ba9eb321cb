// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson/keelson/drivers"
	pb "github.com/keelson/keelson/drivers/plugin/proto"
	"github.com/keelson/keelson/internal/fault"
)

// validateTimeout bounds the calls that a user waits for.
const validateTimeout = 5 * time.Second

// remote is a driver in another process, as the rest of Keelson sees it. What
// goes wrong with the process is a temporary error; what the driver says has
// gone wrong is what it says.
type remote struct {
	process *process
	info    drivers.Info
}

var _ drivers.Driver = (*remote)(nil)

// measuring is a remote driver with the power to tell what is reserved.
type measuring struct{ *remote }

var _ drivers.UsageReporter = measuring{}

// newRemote returns the driver of a process that has said what it is.
func newRemote(p *process) drivers.Driver {
	r := &remote{process: p, info: infoFrom(p.info)}
	if slices.Contains(p.info.GetPowers(), usage) {
		return measuring{r}
	}
	return r
}

// Info implements drivers.Driver.
func (r *remote) Info() drivers.Info { return r.info }

// Listing implements drivers.Listed.
func (r *remote) Listing() drivers.Listing {
	return drivers.Listing{
		Info: r.info, Kind: drivers.Plugin, Path: r.process.program.path, Problem: r.process.trouble(),
		Capabilities: slices.Concat(r.info.Operations, r.process.info.GetPowers()),
	}
}

// ValidateTemplate implements drivers.Driver.
func (r *remote) ValidateTemplate(t *drivers.Template) error {
	return r.validate(t, func(ctx context.Context, d pb.DriverClient) (*pb.ValidateReply, error) {
		return d.ValidateTemplate(ctx, &pb.ValidateTemplateRequest{Template: templateTo(t)})
	})
}

// ValidateCluster implements drivers.Driver.
func (r *remote) ValidateCluster(t *drivers.Template, c *drivers.Cluster, groups []drivers.NodeGroup) error {
	return r.validate(t, func(ctx context.Context, d pb.DriverClient) (*pb.ValidateReply, error) {
		return d.ValidateCluster(ctx, &pb.ValidateClusterRequest{Template: templateTo(t), Cluster: clusterTo(c), Groups: groupsTo(groups)})
	})
}

func (r *remote) validate(t *drivers.Template, ask func(context.Context, pb.DriverClient) (*pb.ValidateReply, error)) error {
	ctx, cancel := context.WithTimeout(context.Background(), validateTimeout)
	defer cancel()
	d, err := r.process.client(ctx)
	if err != nil {
		return err
	}
	reply, err := ask(ctx, d)
	switch {
	case status.Code(err) == codes.Unimplemented:
		return nil
	case err != nil:
		return r.away(ctx, err)
	case reply.GetUnsupported():
		return unsupported(t, reply.GetRefusal())
	case reply.GetRefusal() != "":
		return errors.New(line(reply.GetRefusal()))
	}
	return nil
}

// Plan implements drivers.Driver.
func (r *remote) Plan(ctx context.Context, job *drivers.Job) ([]drivers.Step, error) {
	d, err := r.process.client(ctx)
	if err != nil {
		return nil, err
	}
	reply, err := d.Plan(ctx, &pb.PlanRequest{Job: jobTo(job)})
	if err != nil {
		return nil, r.away(ctx, err)
	}
	if f := reply.GetFailure(); f != nil {
		return nil, fromDriver(r.info.Name, job, f, func(uint32) error { return nil })
	}
	steps := make([]drivers.Step, 0, len(reply.GetSteps()))
	for _, m := range reply.GetSteps() {
		if !stepName.MatchString(m.GetName()) || m.GetTimeoutMs() < 0 || m.GetNodeId() != "" && job.Node(m.GetNodeId()) == nil {
			return nil, broken(r.info.Name, "step %q of node %q, timeout %d ms", clean(m.GetName(), 64), clean(m.GetNodeId(), 64), m.GetTimeoutMs())
		}
		steps = append(steps, stepFrom(m))
	}
	return steps, nil
}

var stepName = regexp.MustCompile(`^[a-z]+(\.[a-z]+)*$`)

// Run implements drivers.Driver.
func (r *remote) Run(ctx context.Context, job *drivers.Job, step drivers.Step) (drivers.Outcome, error) {
	begin := &pb.Begin{Job: jobTo(job), Step: &pb.Step{Name: step.Name, NodeId: step.NodeID}}
	last, err := r.converse(ctx, job, begin, pb.DriverClient.Run)
	if err != nil {
		return drivers.Outcome{}, err
	}
	m, ok := last.GetMessage().(*pb.FromDriver_Outcome)
	if !ok || m.Outcome.GetAfterMs() < 0 {
		return drivers.Outcome{}, broken(r.info.Name, "step %s ended with %T", step.Name, last.GetMessage())
	}
	return outcomeFrom(m.Outcome), nil
}

// Health implements drivers.Driver.
func (r *remote) Health(ctx context.Context, job *drivers.Job) (drivers.Health, error) {
	last, err := r.converse(ctx, job, &pb.Begin{Job: jobTo(job)}, pb.DriverClient.Health)
	if err != nil {
		return drivers.Health{}, err
	}
	m, ok := last.GetMessage().(*pb.FromDriver_Health)
	if !ok || !slices.Contains([]string{drivers.Healthy, drivers.Unhealthy, drivers.Unknown}, m.Health.GetStatus()) {
		return drivers.Health{}, broken(r.info.Name, "health ended with %T, status %q", last.GetMessage(), clean(last.GetHealth().GetStatus(), 64))
	}
	reasons := make(map[string]string, len(m.Health.GetReasons()))
	for k, v := range m.Health.GetReasons() {
		reasons[line(k)] = line(v)
	}
	return drivers.Health{Status: m.Health.GetStatus(), Reasons: reasons}, nil
}

// Usage implements drivers.UsageReporter.
func (r measuring) Usage(ctx context.Context, job *drivers.Job) ([]drivers.Reserved, error) {
	last, err := r.converse(ctx, job, &pb.Begin{Job: jobTo(job)}, pb.DriverClient.Usage)
	if err != nil {
		return nil, err
	}
	m, ok := last.GetMessage().(*pb.FromDriver_Usage)
	if !ok {
		return nil, broken(r.info.Name, "usage ended with %T", last.GetMessage())
	}
	all := make([]drivers.Reserved, 0, len(m.Usage.GetNodes()))
	for _, n := range m.Usage.GetNodes() {
		if job.Node(n.GetNodeId()) == nil || n.GetMilliCpu() < 0 || n.GetMemory() < 0 {
			return nil, broken(r.info.Name, "usage of node %q", clean(n.GetNodeId(), 64))
		}
		all = append(all, drivers.Reserved{NodeID: n.GetNodeId(), MilliCPU: n.GetMilliCpu(), Memory: n.GetMemory()})
	}
	return all, nil
}

// conversation opens one of the protocol's streams.
type conversation func(pb.DriverClient, context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[pb.FromHost, pb.FromDriver], error)

// converse has the driver do something, answers its calls for services, and
// returns its last message. When it returns no call is under way any more.
func (r *remote) converse(ctx context.Context, job *drivers.Job, begin *pb.Begin, open conversation) (*pb.FromDriver, error) {
	d, err := r.process.client(ctx)
	if err != nil {
		return nil, err
	}
	talk, cancel := context.WithCancel(ctx)
	stream, err := open(d, talk)
	if err != nil {
		cancel()
		return nil, r.away(ctx, err)
	}
	var sending sync.Mutex
	send := func(m *pb.FromHost) error {
		sending.Lock()
		defer sending.Unlock()
		return stream.Send(m)
	}
	services := newJobServices(job, func(a *pb.Answer) {
		if send(&pb.FromHost{Message: &pb.FromHost_Answer{Answer: a}}) != nil {
			cancel() // Recv says why
		}
	})
	defer services.wait()
	defer cancel()
	// An error of Send is io.EOF; Recv gives the true one.
	if err := send(&pb.FromHost{Message: &pb.FromHost_Begin{Begin: begin}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, r.away(ctx, err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, broken(r.info.Name, "it ended the stream without a last message")
		}
		if err != nil {
			return nil, r.away(ctx, err)
		}
		switch last := m.GetMessage().(type) {
		case *pb.FromDriver_Call:
			services.begin(talk, last.Call)
		case *pb.FromDriver_Failure:
			return nil, fromDriver(r.info.Name, job, last.Failure, services.failure)
		default:
			return m, nil
		}
	}
}

// away is the error of a call that was not answered.
func (r *remote) away(ctx context.Context, err error) error {
	err = fmt.Errorf("driver %s: %w", r.info.Name, err)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("driver %s: %w", r.info.Name, ctx.Err())
	case ctx.Err() != nil, status.Code(err) == codes.DeadlineExceeded: // gRPC may see it a moment before ctx does
		return fault.Temporary(err, "the driver %s did not answer in time", r.info.Name)
	}
	return fault.Temporary(err, "the driver %s has broken off its work", r.info.Name)
}

// checkInfo says what is wrong with what a driver says of itself.
func checkInfo(m *pb.InfoReply) error {
	switch {
	case !driverName.MatchString(m.GetName()):
		return fmt.Errorf("its name %q is not a lower case letter followed by lower case letters, digits, - and _, 32 at most", clean(m.GetName(), 64))
	case m.GetVersion() == "" || len(m.GetVersion()) > 64:
		return errors.New("its version is empty or longer than 64 bytes")
	case len(m.GetCoes()) == 0:
		return errors.New("it serves no coe")
	case len(m.GetServerTypes()) == 0:
		return errors.New("it serves no server_type")
	case m.GetStateVersion() < 0 || m.GetStateVersion() == math.MaxInt32:
		return fmt.Errorf("its state_version is %d", m.GetStateVersion())
	}
	for _, words := range [][]string{m.GetCoes(), m.GetServerTypes(), m.GetDistros(), m.GetNetworkDrivers(), m.GetVolumeDrivers(), m.GetOperations(), m.GetPowers()} {
		for _, word := range words {
			if !infoWord.MatchString(word) {
				return fmt.Errorf("%q is not a word of letters, digits, dots, - and _", clean(word, 64))
			}
		}
	}
	return nil
}

var (
	driverName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)
	infoWord   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"math"
	"time"

	"github.com/keelson/keelson/drivers"
	pb "github.com/keelson/keelson/drivers/plugin/proto"
)

// The contract's values as messages, and back.

func infoTo(i drivers.Info, powers []string) *pb.InfoReply {
	return &pb.InfoReply{
		Name: i.Name, Version: i.Version, Coes: i.COEs, ServerTypes: i.ServerTypes, Distros: i.Distros,
		NetworkDrivers: i.NetworkDrivers, VolumeDrivers: i.VolumeDrivers, Operations: i.Operations, Stub: i.Stub, Powers: powers,
	}
}

func infoFrom(m *pb.InfoReply) drivers.Info {
	return drivers.Info{
		Name: m.GetName(), Version: m.GetVersion(), COEs: m.GetCoes(), ServerTypes: m.GetServerTypes(), Distros: m.GetDistros(),
		NetworkDrivers: m.GetNetworkDrivers(), VolumeDrivers: m.GetVolumeDrivers(), Operations: m.GetOperations(), Stub: m.GetStub(),
	}
}

func templateTo(t *drivers.Template) *pb.Template {
	return &pb.Template{
		Id: t.ID, Name: t.Name, Driver: t.Driver, Coe: t.COE, ServerType: t.ServerType, ImageId: t.ImageID, Distro: t.Distro,
		NetworkDriver: t.NetworkDriver, VolumeDriver: t.VolumeDriver, DockerStorageDriver: t.DockerStorageDriver,
		TlsDisabled: t.TLSDisabled, MasterLbEnabled: t.MasterLBEnabled, RegistryEnabled: t.RegistryEnabled,
		InsecureRegistry: t.InsecureRegistry, HttpProxy: t.HTTPProxy, HttpsProxy: t.HTTPSProxy, NoProxy: t.NoProxy,
		DnsNameserver: t.DNSNameserver, Labels: t.Labels,
	}
}

func templateFrom(m *pb.Template) *drivers.Template {
	return &drivers.Template{
		ID: m.GetId(), Name: m.GetName(), Driver: m.GetDriver(), COE: m.GetCoe(), ServerType: m.GetServerType(), ImageID: m.GetImageId(), Distro: m.GetDistro(),
		NetworkDriver: m.GetNetworkDriver(), VolumeDriver: m.GetVolumeDriver(), DockerStorageDriver: m.GetDockerStorageDriver(),
		TLSDisabled: m.GetTlsDisabled(), MasterLBEnabled: m.GetMasterLbEnabled(), RegistryEnabled: m.GetRegistryEnabled(),
		InsecureRegistry: m.GetInsecureRegistry(), HTTPProxy: m.GetHttpProxy(), HTTPSProxy: m.GetHttpsProxy(), NoProxy: m.GetNoProxy(),
		DNSNameserver: m.GetDnsNameserver(), Labels: m.GetLabels(),
	}
}

func clusterTo(c *drivers.Cluster) *pb.Cluster {
	return &pb.Cluster{
		Id: c.ID, Name: c.Name, ProjectId: c.ProjectID, UserId: c.UserID, Labels: c.Labels, ApiAddress: c.APIAddress, State: c.State,
	}
}

func clusterFrom(m *pb.Cluster) *drivers.Cluster {
	return &drivers.Cluster{
		ID: m.GetId(), Name: m.GetName(), ProjectID: m.GetProjectId(), UserID: m.GetUserId(), Labels: m.GetLabels(),
		APIAddress: m.GetApiAddress(), State: m.GetState(),
	}
}

func groupsTo(groups []drivers.NodeGroup) []*pb.NodeGroup {
	all := make([]*pb.NodeGroup, 0, len(groups))
	for _, g := range groups {
		all = append(all, &pb.NodeGroup{Id: g.ID, Name: g.Name, Role: g.Role, NodeCount: int32(min(g.NodeCount, math.MaxInt32)), Labels: g.Labels})
	}
	return all
}

func groupsFrom(all []*pb.NodeGroup) []drivers.NodeGroup {
	groups := make([]drivers.NodeGroup, 0, len(all))
	for _, m := range all {
		groups = append(groups, drivers.NodeGroup{ID: m.GetId(), Name: m.GetName(), Role: m.GetRole(), NodeCount: int(m.GetNodeCount()), Labels: m.GetLabels()})
	}
	return groups
}

// jobTo leaves the services out: they are what the stream is for.
func jobTo(j *drivers.Job) *pb.Job {
	m := &pb.Job{
		Operation: &pb.Operation{
			Id: j.Operation.ID, Kind: j.Operation.Kind, Undo: j.Operation.Undo, Groups: j.Operation.Groups, Nodes: j.Operation.Nodes,
			MaxBatchSize: int32(min(j.Operation.MaxBatchSize, math.MaxInt32)),
		},
		Cluster:  clusterTo(&j.Cluster),
		Template: templateTo(&j.Template),
		Groups:   groupsTo(j.Groups),
		Nodes:    make([]*pb.Node, 0, len(j.Nodes)),
	}
	for i := range j.Nodes {
		n := &j.Nodes[i]
		m.Nodes = append(m.Nodes, &pb.Node{
			Id: n.ID, Name: n.Name, GroupId: n.GroupID, Role: n.Role, Index: int32(n.Index), State: string(n.State),
			Host: n.Host, Zone: n.Zone, Address: n.Address, CoeId: n.COEID, Stale: n.Stale,
		})
	}
	return m
}

func jobFrom(m *pb.Job) *drivers.Job {
	op := m.GetOperation()
	j := &drivers.Job{
		Operation: drivers.Operation{
			ID: op.GetId(), Kind: op.GetKind(), Undo: op.GetUndo(), Groups: op.GetGroups(), Nodes: op.GetNodes(), MaxBatchSize: int(op.GetMaxBatchSize()),
		},
		Cluster:  *clusterFrom(m.GetCluster()),
		Template: *templateFrom(m.GetTemplate()),
		Groups:   groupsFrom(m.GetGroups()),
		Nodes:    make([]drivers.Node, 0, len(m.GetNodes())),
	}
	for _, n := range m.GetNodes() {
		j.Nodes = append(j.Nodes, drivers.Node{
			ID: n.GetId(), Name: n.GetName(), GroupID: n.GetGroupId(), Role: n.GetRole(), Index: int(n.GetIndex()), State: drivers.NodeState(n.GetState()),
			Host: n.GetHost(), Zone: n.GetZone(), Address: n.GetAddress(), COEID: n.GetCoeId(), Stale: n.GetStale(),
		})
	}
	return j
}

func stepTo(s drivers.Step) *pb.Step {
	m := &pb.Step{Name: s.Name, NodeId: s.NodeID, TimeoutMs: s.Timeout.Milliseconds()}
	for _, need := range s.Needs {
		m.Needs = append(m.Needs, &pb.StepKey{Name: need.Name, NodeId: need.NodeID})
	}
	return m
}

func stepFrom(m *pb.Step) drivers.Step {
	s := drivers.Step{Name: m.GetName(), NodeID: m.GetNodeId(), Timeout: milliseconds(m.GetTimeoutMs())}
	for _, need := range m.GetNeeds() {
		s.Needs = append(s.Needs, drivers.StepKey{Name: need.GetName(), NodeID: need.GetNodeId()})
	}
	return s
}

// outcomeTo rounds up: what is to be looked at again in less than a millisecond
// is still not done.
func outcomeTo(o drivers.Outcome) *pb.Outcome {
	return &pb.Outcome{AfterMs: (o.After + time.Millisecond - 1).Milliseconds(), Message: o.Message}
}

func outcomeFrom(m *pb.Outcome) drivers.Outcome {
	return drivers.Outcome{After: milliseconds(m.GetAfterMs()), Message: line(m.GetMessage())}
}

func filesTo(files []drivers.File) []*pb.File {
	all := make([]*pb.File, 0, len(files))
	for _, f := range files {
		all = append(all, &pb.File{Path: f.Path, Mode: f.Mode, Content: f.Content})
	}
	return all
}

func filesFrom(all []*pb.File) []drivers.File {
	files := make([]drivers.File, 0, len(all))
	for _, m := range all {
		files = append(files, drivers.File{Path: m.GetPath(), Mode: m.GetMode(), Content: m.GetContent()})
	}
	return files
}

// milliseconds takes what does not fit for as long as there is.
func milliseconds(ms int64) time.Duration {
	return time.Duration(min(ms, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
}

// SPDX-License-Identifier: Apache-2.0

package config

// Swarm is the group [swarm]: Docker Swarms.
type Swarm struct {
	DockerRefusals bool
}

func (s *Swarm) declare() *group {
	g := &group{name: "swarm", help: "Clusters of Docker Swarm."}
	g.bool(&s.DockerRefusals, "docker_refusals", true,
		"The Docker Engines of nodes refuse what a node can not do (privileged containers, paths and devices of the node) with a code, the cause and the remedy. "+
			"It is for clusters without the label docker_refusals, and for nodes when they are made or rebuilt. It teaches, and protects nothing.")
	return g
}

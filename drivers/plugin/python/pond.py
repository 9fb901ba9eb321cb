#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A driver in Python, for a pretended COE whose members are files.

What the COE knows is coe/<cluster>/<node> beside the program, with the node's
name in it. The conformance suite takes this driver through all that a real one
goes through; see keelson_driver for the protocol.
"""

import os
import pathlib
import sys

import driver_pb2 as pb
from keelson_driver import Driver, Failed, serve

COE = pathlib.Path(sys.argv[0]).absolute().parent / "coe"


def member(job, node_id):
    """The file that is there while the node is a member."""
    return COE / os.path.basename(job.cluster.id) / os.path.basename(node_id)


def step(name, node=None, needs=()):
    return pb.Step(name=name, node_id=node.id if node else "", needs=[pb.StepKey(name=n.name, node_id=n.node_id) for n in needs])


class Pond(Driver):
    def info(self):
        return pb.InfoReply(name="pond", version="1.0", coes=["pond"], server_types=["vm", "bm"],
                            operations=["upgrade", "rotate-ca", "rebuild"], state_version=1)

    def validate_template(self, template):
        if template.volume_driver:
            return 'volume_driver "%s" is not supported for pond: leave it empty' % template.volume_driver

    def validate_cluster(self, template, cluster, groups):
        if sum(g.node_count for g in groups if g.role == "master") < 1:
            return "master_count must be at least 1"
        return self.validate_template(template)

    def plan(self, job):
        op, nodes = job.operation, list(job.nodes)
        leaving = [n for n in nodes if n.state == "leaving"]
        fresh = [n for n in nodes if n.state != "leaving" and (n.state != "ready" or op.kind == "create")]
        if op.kind == "delete" or op.kind == "create" and op.undo:
            return self.removal(nodes)
        if op.kind == "update" and op.undo:
            return self.removal(fresh) + [step("pond.restore", n) for n in leaving]
        if op.kind in ("create", "update"):
            return self.growth(fresh, leaving)
        if op.kind in ("upgrade", "rotate-ca", "rebuild"):
            return self.renewal(op, nodes)
        raise Failed('the pond driver knows no operation "%s"' % op.kind, permanent=True)

    @staticmethod
    def removal(nodes):
        steps = []
        for n in nodes:
            steps.append(step("pond.leave", n))
            steps.append(step("node.delete", n, steps[-1:]))
        return steps

    def growth(self, fresh, leaving):
        first = step("certificates")
        steps, joined = [first], [first]
        for n in fresh:
            place = step("node.place", n)
            start = step("node.start", n, [first, place])
            joined.append(step("pond.join", n, [start]))
            steps += [place, start, joined[-1]]
        removal = self.removal(leaving)
        return steps + removal + [step("cluster.record", needs=joined + removal)]

    @staticmethod
    def renewal(op, nodes):
        steps = [step("certificates")]
        for n in nodes:
            if (not op.groups or n.group_id in op.groups) and (not op.nodes or n.id in op.nodes):
                steps.append(step("node.rebuild", n, steps[-1:]))
        return steps + [step("cluster.record", needs=steps)]

    def run(self, job, step, services):
        nodes = {n.id: n for n in job.nodes}
        node = nodes.get(step.node_id)
        if step.name == "certificates":
            services.authority()
            services.client_certificate()
            return pb.Outcome(message="authority made")
        if step.name == "node.place":
            return services.place(step.node_id)
        if step.name == "pond.leave":
            member(job, step.node_id).unlink(missing_ok=True)
            return pb.Outcome(message="left")
        if step.name == "node.delete":
            return services.delete_node(step.node_id)
        if step.name == "cluster.record":
            return self.record(job, services)
        if step.name not in ("node.start", "node.rebuild", "pond.join", "pond.restore"):
            raise Failed('the pond driver knows no step "%s"' % step.name, permanent=True)
        if node is None:
            return pb.Outcome(message="the node is gone")
        if step.name == "node.start":
            return services.start(node.id, self.files(node, services))
        if step.name == "node.rebuild":
            return services.rebuild(node.id, self.files(node, services))
        if step.name == "pond.restore":
            if not member(job, node.id).exists():
                return services.delete_node(node.id)
            services.joined(node.id, "pond-" + node.id)
            return pb.Outcome(message="stays")
        member(job, node.id).parent.mkdir(parents=True, exist_ok=True)
        member(job, node.id).write_text(node.name)
        return pb.Outcome(message="joined")

    @staticmethod
    def files(node, services):
        made = services.node_certificate(node)
        return [pb.File(path="/etc/pond/cert.pem", mode=0o644, content=made.certificate),
                pb.File(path="/etc/pond/key.pem", mode=0o600, content=made.key)]

    @staticmethod
    def record(job, services):
        staying = [n for n in job.nodes if n.state != "leaving"]
        for n in staying:
            if n.state != "ready":
                services.joined(n.id, "pond-" + n.id)
        services.save_state(("%d nodes" % len(staying)).encode())
        services.observed(stack_id="pond-" + job.cluster.id, coe_version="1.0", container_version="1.0",
                          api_address="tcp://%s:2376" % next(n.address for n in staying if n.role == "master"))
        return pb.Outcome(message="cluster is complete")

    def health(self, job, services):
        health = pb.Health(status="HEALTHY", reasons={"api": "ok"})
        for n in job.nodes:
            if member(job, n.id).exists():
                health.reasons[n.name + ".Ready"] = "True"
            else:
                health.status = "UNHEALTHY"
                health.reasons[n.name + ".Ready"] = "False: it is not a member"
        return health


if __name__ == "__main__":
    serve(Pond())

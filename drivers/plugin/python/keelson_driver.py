# SPDX-License-Identifier: Apache-2.0
"""Serve a Keelson driver that is written in Python.

    import keelson_driver
    class Mine(keelson_driver.Driver): ...
    keelson_driver.serve(Mine())

The module speaks the protocol of driver.proto (docs/driver-protocol.md): it
needs grpcio, protobuf, cryptography, and driver_pb2, which protoc makes:

    protoc --python_out=. driver.proto

Copy it beside your driver, or pack all into one file with python3 -m zipapp.
"""

import base64
import concurrent.futures
import datetime
import os
import queue
import signal
import sys
import threading
import traceback

import driver_pb2 as pb
import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

COOKIE = "keelson-driver-v1"


class Failed(Exception):
    """A step, plan or look failed.

    reason is one sentence for the user; detail is for the operator's log. Only
    a permanent failure ends the operation: others are tried again. A service
    that fails raises it by itself; cause is then the number of the call.
    """

    def __init__(self, reason="", permanent=False, detail="", cause=0):
        super().__init__(reason or detail)
        self.message = pb.Failure(reason=reason, permanent=permanent, detail=detail, cause=cause)


class Driver:
    """What a driver answers; the messages are those of driver_pb2."""

    def info(self):
        """Return an InfoReply, always the same."""
        raise NotImplementedError

    def validate_template(self, template):
        """Return why the template is refused, or nothing."""

    def validate_cluster(self, template, cluster, groups):
        """Return why the cluster is refused, or nothing."""

    def plan(self, job):
        """Return the Steps that take the cluster to where the operation wants it."""
        raise NotImplementedError

    def run(self, job, step, services):
        """Take one step; return an Outcome, or raise Failed."""
        raise NotImplementedError

    def health(self, job, services):
        """Look at the cluster; return a Health, or raise Failed."""
        raise NotImplementedError


class Services:
    """What Keelson does for the cluster of the job, while the call lasts."""

    def __init__(self, outgoing, answers):
        self._outgoing, self._answers, self._number = outgoing, answers, 0

    def _call(self, **what):
        self._number += 1
        self._outgoing.put(pb.FromDriver(call=pb.Call(number=self._number, **what)))
        try:
            answer = next(self._answers).answer
        except StopIteration:
            raise Failed(detail="Keelson ended the call") from None
        if answer.HasField("failure"):
            f = answer.failure
            raise Failed(f.reason, f.permanent, f.detail, cause=self._number)
        return getattr(answer, answer.WhichOneof("answer"))

    def place(self, node_id):
        return self._call(place=pb.Place(node_id=node_id))

    def start(self, node_id, files):
        return self._call(start=pb.Start(node_id=node_id, files=files))

    def rebuild(self, node_id, files):
        return self._call(rebuild=pb.Rebuild(node_id=node_id, files=files))

    def delete_node(self, node_id):
        return self._call(delete_node=pb.DeleteNode(node_id=node_id))

    def authority(self):
        return self._call(authority=pb.Authority())

    def node_certificate(self, node):
        return self._call(node_certificate=pb.NodeCertificate(node_id=node.id, name=node.name, address=node.address))

    def client_certificate(self):
        return self._call(client_certificate=pb.ClientCertificate())

    def other_authority(self):
        return self._call(other_authority=pb.OtherAuthority())

    def joined(self, node_id, coe_id):
        self._call(joined=pb.Joined(node_id=node_id, coe_id=coe_id))

    def observed(self, **fields):
        self._call(observed=pb.Observed(**fields))

    def save_state(self, state):
        self._call(save_state=pb.SaveState(state=state))


class _Protocol:
    """The gRPC side: which call goes to which method of the driver."""

    def __init__(self, driver):
        self._driver = driver

    def handlers(self):
        def unary(answer, request):
            return grpc.unary_unary_rpc_method_handler(
                answer, request_deserializer=request.FromString, response_serializer=lambda m: m.SerializeToString())

        def stream(take):
            return grpc.stream_stream_rpc_method_handler(
                lambda incoming, _: self._converse(take, incoming),
                request_deserializer=pb.FromHost.FromString, response_serializer=lambda m: m.SerializeToString())

        return grpc.method_handlers_generic_handler("keelson.driver.v1.Driver", {
            "Info": unary(lambda m, _: self._driver.info(), pb.InfoRequest),
            "ValidateTemplate": unary(self._validate_template, pb.ValidateTemplateRequest),
            "ValidateCluster": unary(self._validate_cluster, pb.ValidateClusterRequest),
            "Plan": unary(self._plan, pb.PlanRequest),
            "Run": stream(lambda begin, services: pb.FromDriver(outcome=self._driver.run(begin.job, begin.step, services))),
            "Health": stream(lambda begin, services: pb.FromDriver(health=self._driver.health(begin.job, services))),
        })

    def _validate_template(self, m, _):
        return pb.ValidateReply(refusal=self._driver.validate_template(m.template) or "")

    def _validate_cluster(self, m, _):
        return pb.ValidateReply(refusal=self._driver.validate_cluster(m.template, m.cluster, m.groups) or "")

    def _plan(self, m, _):
        try:
            return pb.PlanReply(steps=self._driver.plan(m.job))
        except Failed as failed:
            return pb.PlanReply(failure=failed.message)

    @staticmethod
    def _converse(take, incoming):
        """Run take in a thread of its own, and pass on what it sends."""
        outgoing = queue.Queue()
        begin = next(incoming).begin

        def work():
            try:
                last = take(begin, Services(outgoing, incoming))
            except Failed as failed:
                last = pb.FromDriver(failure=failed.message)
            except Exception:  # of a driver with a mistake: it goes on with other work
                last = pb.FromDriver(failure=pb.Failure(detail=traceback.format_exc()))
            outgoing.put(last)

        threading.Thread(target=work, daemon=True).start()
        while True:
            message = outgoing.get()
            yield message
            if not message.HasField("call"):
                return


def _certificate():
    """A key and a certificate of this run, which Keelson learns from the handshake."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.utcnow()
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5)).not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256()))
    return key, certificate


def serve(driver):
    """Serve the driver until Keelson ends this process."""
    if os.environ.get("KEELSON_DRIVER_COOKIE") != COOKIE:
        sys.exit("This is a driver for Keelson, which starts it by itself. See docs/writing-a-driver.md.")
    key, certificate = _certificate()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=64))
    server.add_generic_rpc_handlers([_Protocol(driver).handlers()])
    credentials = grpc.ssl_server_credentials(
        [(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
          certificate.public_bytes(serialization.Encoding.PEM))],
        root_certificates=os.environ["PLUGIN_CLIENT_CERT"].encode(), require_client_auth=True)
    socket = os.path.join(os.environ["PLUGIN_UNIX_SOCKET_DIR"], "driver")
    server.add_secure_port("unix:" + socket, credentials)
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(grace=0))
    shown = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode().rstrip("=")
    print("1|1|unix|%s|grpc|%s" % (socket, shown), flush=True)
    server.wait_for_termination()

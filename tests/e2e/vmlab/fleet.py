# SPDX-License-Identifier: Apache-2.0
"""Brokers of one machine as hosts of a fleet: the etcd between them, and whoever writes to a guest on
whichever of them it is.
"""

import os
import shutil
import socket
import subprocess

from . import SOURCE, Broker, Child, Holder, Skip, Wire, equal, operator_tenant, tenant, wait_until
from .broker import flow

TTL_MS = 120000  # of a lease: longer than a migration on a loaded machine
OURS = "this host has the guest"
MAKE_KEYS = os.path.join(SOURCE, "deploy", "fleet", "make-keys")


class Side:
    """A lab as one of its hosts sees it: run/ and state/ are its own."""

    def __init__(self, lab, host):
        self.lab = lab
        self.host = host
        for folder in ("run", "state"):
            subprocess.run(["mkdir", "-p", self.path(folder)], check=True)

    def __getattr__(self, name):
        return getattr(self.lab, name)

    def path(self, *parts):
        if parts[0] in ("run", "state"):
            return self.lab.path(parts[0], self.host, *parts[1:])
        return self.lab.path(*parts)

    def log(self, name):
        return self.lab.log(f"{self.host}-{name}")


def free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Etcd:
    """So many members. `keys`: all that speak with them, and they with each other, need a
    certificate of the fleet's authority, as deploy/fleet has it."""

    def __init__(self, lab, members=1, keys=False):
        if not shutil.which("etcd"):
            raise Skip("etcd is not installed")
        self.lab = lab
        self.keys = lab.path("pki", "etcd") if keys else None
        self.names = [f"m{number + 1}" for number in range(members)]
        scheme = "https" if keys else "http"
        ports = free_ports(2 * members)
        self.urls = [f"{scheme}://127.0.0.1:{port}" for port in ports[:members]]
        self.peers = [f"{scheme}://127.0.0.1:{port}" for port in ports[members:]]
        self.children = [None] * members
        if keys:
            self.make_keys("authority")
        for number in range(members):
            self.start(number)

    def make_keys(self, *words):
        subprocess.run([MAKE_KEYS, self.keys, *words], check=True, timeout=60)

    def _key_arguments(self, name):
        if not self.keys:
            return []
        self.make_keys("member", name, "127.0.0.1")
        files = (f"{self.keys}/ca.pem", f"{self.keys}/{name}.pem", f"{self.keys}/{name}.key")
        arguments = []
        for prefix in ("", "peer-"):
            arguments += [f"--{prefix}client-cert-auth", f"--{prefix}trusted-ca-file", files[0],
                          f"--{prefix}cert-file", files[1], f"--{prefix}key-file", files[2]]
        return arguments

    def start(self, number):
        """Also one that was killed, with what it had."""
        name, url, peer = self.names[number], self.urls[number], self.peers[number]
        cluster = ",".join(f"{n}={p}" for n, p in zip(self.names, self.peers))
        self.children[number] = self.lab.own(Child(
            ["etcd", "--name", name, "--data-dir", self.lab.path("tmp", f"etcd-{name}"),
             "--listen-client-urls", url, "--advertise-client-urls", url,
             "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
             "--initial-cluster", cluster, *self._key_arguments(name)],
            self.lab.log(f"etcd-{name}")))

    def kill(self, number):
        self.children[number].kill()

    def config(self, host, urls=None):
        """The part of `fleet` that says how the host reaches it."""
        text = f"etcd: {flow(urls or self.urls)}"
        if self.keys:
            self.make_keys("host", host)
            text += (f", ca: {self.keys}/ca.pem, cert: {self.keys}/{host}.pem, "
                     f"key: {self.keys}/{host}.key")
        return text


class Host:
    """A broker that is one host's. `served` is the part of its configuration that says what it
    serves, `urls` are where it finds etcd if that is not where it is."""

    def __init__(self, lab, name, etcd, served, urls=None, ttl="5s"):
        self.name = name
        self.lab = Side(lab, name)
        fleet = (f"fleet: {{name: test, host: {name}, {etcd.config(name, urls)}, ttl: {ttl}, "
                 "margin: 100ms, timeout: 1s, allow_old_etcd: yes}\n")
        self.broker = Broker(self.lab, [], [operator_tenant(ttl_max="300s"), tenant(),
                                            tenant("root", role="admin")], served=served + fleet)
        self.holder = Holder(self.broker)

    def logged(self, message):
        return sum(message in record.get("msg", "") for record in self.broker.records())

    def wait_log(self, message, count=1, timeout=90):
        wait_until(f"{self.name} says '{message}'", lambda: self.logged(message) >= count, timeout)

    def admin(self, *words):
        """What vmsigctl says to an administrator."""
        return subprocess.run(
            [self.lab.program("vmsigctl"), "--socket", self.broker.admin_socket, "--identity",
             self.broker.identity("admin/root"), *words],
            check=True, capture_output=True, text=True, timeout=60).stdout

    def operator(self, *words, names=None):
        """vmsigctl as an operator: its exit status, and what it says."""
        done = subprocess.run(
            [self.lab.program("vmsigctl"), *words], capture_output=True, text=True, timeout=60,
            check=False, env={**os.environ, "VMSIG_IDENTITY": self.broker.identity("operator/ops"),
                              "VMSIG_SOCKET": self.broker.socket,
                              "VMSIG_WRITE_SOCKET": self.broker.write_socket,
                              "VMSIG_UNDO_DIR": self.lab.path("tmp", "undo"), **(names or {})})
        return done.returncode, done.stdout + done.stderr

    def word(self, guest, address):
        return int.from_bytes(self.holder.read(guest, address, 8, phys=True), "little")


class Counter:
    """Whoever writes 1, 2, 3... into a word of the guest, one number a write, and tells them apart
    by their sequence numbers; each is sent until it has an outcome.
    """

    def __init__(self, host, guest, address):
        self.address = address
        self.count = 0
        self.wire = Wire(host.broker)
        words = self.wire.must("acquire", guest, TTL_MS)
        self.lease, self.token, self.epoch, self.endpoint = words
        self.source = self.endpoint  # as its first host calls it

    def send(self, count):
        return self.wire.do("write", self.lease, self.token, self.epoch, self.endpoint, count,
                            hex(self.address), count)

    def write(self):
        """Whether the next number was taken."""
        answer = self.send(self.count + 1)
        if answer == "ok":
            self.count += 1
        return answer

    def must(self, times):
        for _ in range(times):
            equal(self.write(), "ok", f"write {self.count + 1}")

    def until_refused(self):
        """Writes for as long as that goes."""
        answer = self.write()
        while answer == "ok":
            answer = self.write()
        return answer

    def follow(self, host):
        """Goes on with the same lease on another host."""
        self.wire = Wire(host.broker)
        words = self.wire.must("resume", self.lease, self.token)
        equal(words[:2], [self.lease, self.token], "the lease that was resumed")
        equal(words[2], self.epoch, "the epoch of the lease on the other host")
        self.endpoint = words[3]

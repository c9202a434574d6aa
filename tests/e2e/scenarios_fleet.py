#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two brokers as two hosts with a real etcd between them, and a guest that is migrated from one to
the other while somebody writes to it.
"""

import shutil
import signal
import socket
import subprocess

import vmlab
from vmlab import Broker, Child, Guest, Holder, Sensor, Wire, check, equal, wait_until

MEMORY = "256M"
UUID = "6f1f2c1e-0000-4000-8000-0000000000aa"
TTL_MS = 120000  # of the lease: longer than a migration on a loaded machine
OURS = "this host has the guest"


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


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_etcd(lab):
    if not shutil.which("etcd"):
        raise vmlab.Skip("etcd is not installed")
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    lab.own(Child(["etcd", "--name", "m1", "--data-dir", lab.path("tmp", "etcd"),
                   "--listen-client-urls", client, "--advertise-client-urls", client,
                   "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                   "--initial-cluster", f"m1={peer}"], lab.log("etcd")))
    return client


class Host:
    """One host: its broker, and the QEMU that a guest runs in or comes to."""

    def __init__(self, lab, number, etcd):
        self.name = f"host{number}"
        self.lab = Side(lab, self.name)
        self.guest_name = f"vm{number}"
        endpoint = vmlab.qemu_endpoint(lab, self.guest_name, writable=True, uuid=UUID)
        served = (f"endpoints: [{vmlab.broker.flow(endpoint)}]\n"
                  f"fleet: {{name: test, host: {self.name}, etcd: ['{etcd}'], ttl: 5s, "
                  "margin: 100ms, timeout: 1s, allow_old_etcd: yes}\n")
        self.broker = Broker(self.lab, [], [vmlab.operator_tenant(ttl_max="300s"),
                                            vmlab.tenant(), vmlab.tenant("root", role="admin")],
                             served=served)
        self.holder = Holder(self.broker)
        self.guest = None

    def qemu(self, *extra):
        self.guest = Guest(self.lab, self.guest_name, memory=MEMORY, cpu="qemu64", extra=extra)
        return self.guest

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

    def word(self, address):
        return int.from_bytes(self.holder.read(self.guest_name, address, 8, phys=True), "little")


class Counter:
    """Whoever writes 1, 2, 3... into a word of the guest, one number a write, and tells them apart
    by their sequence numbers; each is sent until it has an outcome.
    """

    def __init__(self, host, address):
        self.address = address
        self.count = 0
        self.wire = Wire(host.broker)
        words = self.wire.must("acquire", host.guest_name, TTL_MS)
        self.lease, self.token, self.epoch, self.endpoint = words

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


def boot(host):
    """A guest with a page to write to: its address."""
    guest = host.qemu()
    guest.boot()
    guest.console.run("guest-tool page /run/shared >/run/page.txt")
    guest.console.run("dd if=/dev/zero of=/run/shared bs=4096 count=1 conv=notrunc")
    host.holder.wait_ready(host.guest_name)
    host.wait_log(OURS)
    return int(guest.console.run("cat /run/page.txt").split()[1], 16)


def migration(qmp):
    return qmp.execute("query-migrate").get("status")


def begin(source, target, bandwidth=None):
    """A migration into a QEMU that waits for it."""
    path = f"unix:{target.lab.path('tmp', 'migration')}"
    target.guest.qmp.execute("migrate-incoming", uri=path)
    if bandwidth is not None:
        source.guest.qmp.execute("migrate-set-parameters", **{"max-bandwidth": bandwidth})
    source.guest.qmp.execute("migrate", uri=path)


def awaits(target):
    target.qemu("-incoming", "defer")
    wait_until("the target waits", lambda: "incoming migration" in target.holder.endpoint(
        target.guest_name)["detail"], 60, 0.2)


def inside(guest):
    """The word as a program in the guest reads it."""
    text = guest.console.run("head -c 8 /run/shared | hexdump -v -e '1/1 \"%02x\"'; echo")
    return int.from_bytes(bytes.fromhex(text.strip()), "little")


def cancelled(here, there, counter):
    """A migration that is cancelled, and one whose target dies: the source goes on as before."""
    awaits(there)
    begin(here, there, 1 << 16)
    check(counter.until_refused().startswith("BUSY"), "writes during a migration")
    here.guest.qmp.execute("migrate_cancel")
    wait_until("writes go on", lambda: counter.write() == "ok", 60)
    counter.must(5)
    there.guest.kill()
    awaits(there)
    begin(here, there, 1 << 16)
    check(counter.until_refused().startswith("BUSY"), "writes during the next migration")
    there.guest.kill()
    wait_until("it has failed", lambda: migration(here.guest.qmp) == "failed", 60)
    wait_until("writes go on", lambda: counter.write() == "ok", 60)
    counter.must(5)
    equal(there.logged(OURS), 0, "times that the target had the guest")


def fleet_migrated(lab):
    """Cancelled, failed, done; then brokers are killed in the middle: whoever writes goes on where
    the guest goes on, and nothing is lost or done twice."""
    etcd = start_etcd(lab)
    here, there = Host(lab, 1, etcd), Host(lab, 2, etcd)
    counter = Counter(here, boot(here))
    counter.must(20)
    cancelled(here, there, counter)

    sensor = Sensor(here.holder)
    awaits(there)
    begin(here, there, 0)
    check(counter.until_refused().startswith("BUSY"), "writes during the migration")
    moved = sensor.wait("where the guest went", lambda event: event["event"] == "moved", 120)
    check("host2" in moved["detail"], f"the reason: {moved}")
    equal(here.holder.endpoint("vm1")["state"], "moved", "the state that is listed")
    equal(counter.wire.must("ended"), [counter.lease, "MOVED", "host2"], "the end of the lease")
    there.holder.wait_ready("vm2", int(counter.epoch))
    equal(there.holder.endpoint("vm2")["epoch"], int(counter.epoch), "the epoch on the target")
    there.wait_log("what came with the guest is here")
    source = counter.wire
    counter.follow(there)
    # What has an outcome is told again, and not done again.
    equal(counter.send(counter.count), "ok replayed", "a write of before, repeated")
    equal(there.word(counter.address), counter.count, "the word after a repeated write")
    counter.must(20)
    equal(inside(there.guest), counter.count, "what a program in the guest sees")
    equal(there.word(counter.address), counter.count, "the word")
    # Nothing can be had at the source any more.
    answer = source.do("acquire", "vm1", TTL_MS)
    check(answer.startswith("BUSY") and "host2" in answer, f"a lease at the source: {answer}")
    check("OWNED" in there.admin("fleet", "ls"), there.admin("fleet", "ls"))
    here.guest.kill()
    there.broker.stop()
    here.broker.stop()


def only(host, other):
    """The one has the guest and gives leases, the other has not and does not."""
    wait_until(f"{host.name} gives a lease", lambda: Wire(host.broker).do(
        "acquire", host.guest_name, 1000).startswith("ok"), 90, 1)
    answer = Wire(other.broker).do("acquire", other.guest_name, 1000)
    check(not answer.startswith("ok"), f"a lease of {other.name} too: {answer}")
    check("OWNED" in host.admin("fleet", "ls"), host.admin("fleet", "ls"))


def finish(source):
    source.guest.qmp.execute("migrate-set-parameters", **{"max-bandwidth": 0})
    wait_until("it is complete", lambda: migration(source.guest.qmp) == "completed", 120)


def fleet_killed(lab):
    """Brokers that are killed while a guest is on its way: it is one host's in the end."""
    etcd = start_etcd(lab)
    here, there = Host(lab, 1, etcd), Host(lab, 2, etcd)
    boot(here)
    # The source's: its right runs out, and the target takes the guest over.
    awaits(there)
    begin(here, there, 1 << 16)
    here.wait_log("being migrated away")
    here.broker.crash()
    finish(here)
    there.wait_log(OURS)
    here.broker.start()
    only(there, here)
    # The target's, on the way back: it finds what was offered.
    here.guest.kill()
    awaits(here)
    begin(there, here, 1 << 16)
    there.wait_log("being migrated away")
    here.broker.crash()
    finish(there)
    there.wait_log("is offered")
    here.broker.start()
    here.wait_log(OURS)
    only(here, there)
    here.broker.stop()
    there.broker.stop()


if __name__ == "__main__":
    vmlab.main({"fleet_killed": fleet_killed, "fleet_migrated": fleet_migrated})

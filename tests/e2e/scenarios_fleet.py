#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two brokers as two hosts with a real etcd between them, and a guest that is migrated from one to
the other while somebody writes to it.
"""

import vmlab
from vmlab import Guest, Sensor, Wire, check, equal, wait_until
from vmlab import fleet
from vmlab.fleet import OURS, TTL_MS, Counter, Etcd

MEMORY = "256M"
MOVED = 16  # how vmsigctl ends
UUID = "6f1f2c1e-0000-4000-8000-0000000000aa"


class Host(fleet.Host):
    """One with the QEMU that a guest runs in or comes to."""

    def __init__(self, lab, number, etcd):
        self.guest_name = f"vm{number}"
        endpoint = vmlab.qemu_endpoint(lab, self.guest_name, writable=True, uuid=UUID)
        super().__init__(lab, f"host{number}", etcd,
                         f"endpoints: [{vmlab.broker.flow(endpoint)}]\n")
        self.guest = None

    def qemu(self, *extra):
        self.guest = Guest(self.lab, self.guest_name, memory=MEMORY, cpu="qemu64", extra=extra)
        return self.guest


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
    """Cancelled, failed, done while a member of etcd is gone: whoever writes goes on where the guest
    goes on, and nothing is lost or done twice."""
    etcd = Etcd(lab, members=3, keys=True)
    here, there = Host(lab, 1, etcd), Host(lab, 2, etcd)
    counter = Counter(here, here.guest_name, boot(here))
    counter.must(20)
    cancelled(here, there, counter)

    sensor = Sensor(here.holder)
    awaits(there)
    etcd.kill(0)
    begin(here, there, 0)
    check(counter.until_refused().startswith("BUSY"), "writes during the migration")
    moved = sensor.wait("where the guest went", lambda event: event["event"] == "moved", 120)
    check("host2" in moved["detail"], f"the reason: {moved}")
    equal(here.holder.endpoint("vm1")["state"], "moved", "the state that is listed")
    check("vm1: the guest has moved to the host 'host2'" in here.admin("status"),
          here.admin("status"))
    check("vmsig_fleet_moved{host=\"host2\"}" in here.admin("stats"), here.admin("stats"))
    equal(counter.wire.must("ended"), [counter.lease, "MOVED", "host2"], "the end of the lease")
    there.holder.wait_ready("vm2", int(counter.epoch))
    equal(there.holder.endpoint("vm2")["epoch"], int(counter.epoch), "the epoch on the target")
    there.wait_log("what came with the guest is here")
    source = counter.wire
    counter.follow(there)
    # What has an outcome is told again, and not done again.
    equal(counter.send(counter.count), "ok replayed", "a write of before, repeated")
    equal(there.word("vm2", counter.address), counter.count, "the word after a repeated write")
    counter.must(20)
    equal(inside(there.guest), counter.count, "what a program in the guest sees")
    equal(there.word("vm2", counter.address), counter.count, "the word")
    # Nothing can be had at the source any more, and whoever asks there hears where to go.
    answer = source.do("acquire", "vm1", TTL_MS)
    check(answer.startswith("MOVED") and "host2" in answer, f"a lease at the source: {answer}")
    answer = source.do("write", counter.lease, counter.token, counter.epoch, counter.source, 1 << 20,
                       hex(counter.address), 1)
    check(answer.startswith("MOVED") and "host2" in answer, f"a write at the source: {answer}")
    lease = {"VMSIG_LEASE": counter.lease, "VMSIG_TOKEN": counter.token}
    write = ("write", "vm1", hex(counter.address), "--phys", "--u64", "1")
    for words, names in ((write, lease), (write, {}), (("read", "vm1", "0", "8", "--phys"), {}),
                         (("ps", "vm1"), {}),
                         (("lease", "acquire", "vm1", "--", "true"), {}),
                         (("lease", "resume", counter.lease, "--", "true"),
                          {**lease, "VMSIG_LEASE_ENDPOINT": "vm1"})):
        code, said = here.operator(*words, names=names)
        check(code == MOVED and "host2" in said, f"{words} at the source: {code}, {said}")
    check("OWNED" in there.admin("fleet", "ls"), there.admin("fleet", "ls"))
    equal(here.operator("fleet", "where", "vm1"), (0, "host2\n"), "what an operator hears at the source")
    # As a command, too, a lease goes on where its guest is.
    counter.wire.child.kill()
    code, said = there.operator(
        "lease", "resume", counter.lease, "--", "sh", "-c",
        f"exec {lab.program('vmsigctl')} write vm2 {counter.address:#x} --phys --u64 77",
        names=lease)
    check(code == 0, f"lease resume: {code}, {said}")
    equal(there.word("vm2", counter.address), 77, "the word after `lease resume`")
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
    etcd = Etcd(lab)
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

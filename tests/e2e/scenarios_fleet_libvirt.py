#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two libvirtd as two hosts of a fleet, and a domain that libvirt migrates from one to the other."""

import vmlab
from vmlab import Child, Sensor, Skip, Wire, check, equal, wait_until
from vmlab.broker import flow
from vmlab.fleet import OURS, TTL_MS, Counter, Etcd, Host
from vmlab.libvirt import Libvirt, endpoint

FREE = 0x50000  # Linux keeps the first MiB for firmware
UUID = "11111111-2222-3333-4444-555555555555"
SLOW = 1  # MiB/s


def host_of(lab, libvirt, name, etcd):
    served = flow(endpoint("vm1", libvirt=libvirt.uri, domain=UUID, pids=libvirt.pids,
                           writable=True, uuid=UUID))
    return Host(lab, name, etcd, f"endpoints: [{served}]\n")


class Migration:
    """virsh at work on it; slowly, until it is told to hurry."""

    def __init__(self, lab, here, there):
        self.here = here
        self.child = lab.own(Child(
            ["virsh", "-q", "-c", here.uri, "migrate", "--live", "vm1", there.uri, "--bandwidth",
             str(SLOW), "--migrateuri", f"unix://{lab.path('tmp', 'migration')}"],
            lab.log("migrate")))

    def check_runs(self):
        if self.child.is_alive():
            return
        if "'detach' is unexpected" in self.child.text():
            raise Skip("this libvirt is too old to have this QEMU migrate")
        raise RuntimeError(f"virsh migrate: {self.child.text()}")

    def hurry(self):
        self.here.virsh("migrate-setspeed", "vm1", "1000")
        equal(self.child.wait(120), 0, f"virsh migrate: {self.child.text()}")

    def cancel(self):
        self.here.virsh("domjobabort", "vm1")
        check(self.child.wait(60), "a migration that was cancelled has succeeded")


def refused(counter, migration):
    """What a write says once libvirt has begun."""
    def probe():
        migration.check_runs()
        answer = counter.write()
        return answer if answer != "ok" else None
    return wait_until("writes are refused", probe, 60, 0.02)


def libvirt_fleet(lab):
    """Cancelled, then done: the source refuses writes from its beginning on; the epoch, the lease
    and what became of writes go along."""
    etcd = Etcd(lab)
    here, there = Libvirt(lab), Libvirt(lab, "there")
    here.define("vm1", uuid=UUID)
    here.virsh("start", "vm1")
    here.truth("vm1")
    source, target = host_of(lab, here, "host1", etcd), host_of(lab, there, "host2", etcd)
    source.holder.wait_ready("vm1")
    source.wait_log(OURS)
    counter = Counter(source, "vm1", FREE)
    counter.must(5)

    migration = Migration(lab, here, there)
    check(refused(counter, migration).startswith("BUSY"), "writes during a migration")
    migration.cancel()
    wait_until("writes go on", lambda: counter.write() == "ok", 60)
    counter.must(5)
    equal(target.logged(OURS), 0, "times that the target had the guest")

    sensor = Sensor(source.holder)
    migration = Migration(lab, here, there)
    check(refused(counter, migration).startswith("BUSY"), "writes during the next migration")
    migration.hurry()
    moved = sensor.wait("where the guest went", lambda event: event["event"] == "moved", 120)
    check("host2" in moved["detail"], f"the reason: {moved}")
    equal(counter.wire.must("ended"), [counter.lease, "MOVED", "host2"], "the end of the lease")
    target.holder.wait_ready("vm1", int(counter.epoch))
    equal(target.holder.endpoint("vm1")["epoch"], int(counter.epoch), "the epoch on the target")
    target.wait_log("what came with the guest is here")
    counter.follow(target)
    equal(counter.send(counter.count), "ok replayed", "a write of before, repeated")
    counter.must(5)
    equal(target.word("vm1", FREE), counter.count, "the word")
    answer = Wire(source.broker).do("acquire", "vm1", TTL_MS)
    check(answer.startswith("MOVED") and "host2" in answer, f"a lease at the source: {answer}")
    target.broker.stop()
    source.broker.stop()


if __name__ == "__main__":
    vmlab.main({"libvirt_fleet": libvirt_fleet})

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What becomes of a domain of libvirt, or of libvirtd, while sensors and operators are at it."""

import signal

import vmlab
from vmlab import Broker, Child, Holder, Operator, Sensor, Skip, check, equal, wait_until
from vmlab.libvirt import Libvirt, discovery, endpoint, found, prove

FREE = 0x50000  # Linux keeps the first MiB for firmware
UUID = "11111111-2222-3333-4444-555555555555"


class Scene:
    """A domain, a broker, a sensor that watches, an operator with a lease."""

    def __init__(self, lab):
        self.libvirt = Libvirt(lab)
        self.libvirt.define("vm1", uuid=UUID)
        self.libvirt.virsh("start", "vm1")
        self.truth = self.libvirt.truth("vm1")
        self.broker = Broker(lab, [endpoint("vm1", writable=True, qmp_timeout="2s")],
                             [vmlab.tenant(), vmlab.operator_tenant(quiesce="2s", ttl_max="1h")])
        self.holder = Holder(self.broker)
        self.epoch = prove(self.holder, "vm1", self.truth, 1)
        self.sensor = Sensor(self.holder)
        self.sensor.wait_context(self.truth.kcr3)
        self.operator = Operator(self.broker)
        self.operator.must("acquire", 3600000)
        self.written = 0

    def write(self, *how):
        """A leased write, as soon as the broker lets one pass; it is read back."""
        self.written += 1
        word = self.written.to_bytes(8, "little")

        def probe():
            answer = self.operator.do("write", hex(FREE), word.hex(), *how)
            return None if answer.startswith("BUSY") else answer
        equal(wait_until("a write", probe, 60, 0.1), "ok", "a write")
        equal(self.holder.read("vm1", FREE, 8, phys=True), word, "what was written")

    def state(self):
        return self.libvirt.virsh("domstate", "vm1").strip()

    def goes_on(self):
        wait_until("the domain runs", lambda: self.state() == "running", 60)

    def same_epoch(self, after):
        equal(prove(self.holder, "vm1", self.truth, self.epoch), self.epoch, f"epoch after {after}")
        check(not any(event["event"] == "invalidated" for event in self.sensor.history()),
              f"{after}: {self.sensor.history()}")

    def unreachable(self):
        wait_until("it is told", lambda: self.holder.endpoint("vm1")["state"] == "unreachable", 60)
        answer = self.operator.do("write", hex(FREE), "00" * 8)
        check(answer.startswith("BUSY"), f"a write out of contact: {answer}")


def libvirt_written(lab):
    """Writes that stop the domain, which runs, or is paused, or whose broker dies meanwhile."""
    scene = Scene(lab)
    events = lab.own(Child(["virsh", "-c", scene.libvirt.uri, "qemu-monitor-event", "--loop", "vm1"],
                           lab.log("events")))

    def stops():
        scene.write("quiesce")
        return "STOP" in events.text()
    wait_until("virsh hears of them", stops, 60)
    scene.goes_on()
    scene.same_epoch("writes that stop the domain")

    scene.libvirt.virsh("suspend", "vm1")
    seen = events.text().count("RESUME")
    scene.write("quiesce")
    # What is asked for over the same monitor now comes after whatever the write would have done.
    scene.libvirt.virsh("qemu-monitor-command", "vm1", '{"execute": "query-status"}')
    equal(scene.state(), "paused", "a domain that was paused before")
    equal(events.text().count("RESUME"), seen, "how often it was continued")
    scene.libvirt.virsh("resume", "vm1")
    scene.same_epoch("suspend and resume")

    scene.operator.must("release")
    scene.operator.must("acquire")
    for _ in range(2):
        scene.operator.start("pair", hex(FREE + 16), hex(FREE + 24), 100000, "quiesce")
        before = events.text().count("STOP")
        wait_until("a stop", lambda n=before: events.text().count("STOP") > n + 3, 60, 0.01)
        scene.broker.crash()
        scene.goes_on()
        scene.operator.child.stop()
        scene.broker.start()
        scene.holder.wait_ready("vm1")
        scene.operator = Operator(scene.broker)
        scene.operator.must("acquire")
    equal(scene.holder.endpoint("vm1")["epoch"], scene.epoch, "the epoch of a guest that lives on")
    scene.write("quiesce")
    events.stop()


def libvirt_lost(lab):
    """libvirtd is killed, stands still, is started anew; then the domain loses its definition,
    its life and its name.
    """
    scene = Scene(lab)
    scene.libvirt.kill()
    scene.unreachable()
    scene.libvirt.start()
    scene.same_epoch("a libvirtd that was killed")
    scene.write("quiesce")

    scene.libvirt.signal(signal.SIGSTOP)
    scene.unreachable()
    scene.libvirt.signal(signal.SIGCONT)
    scene.same_epoch("a libvirtd that stood still")
    scene.write("quiesce")

    scene.libvirt.daemon.stop()
    scene.unreachable()
    scene.libvirt.start()
    scene.same_epoch("a libvirtd that was started anew")
    scene.write()

    scene.libvirt.virsh("undefine", "vm1")
    scene.write("quiesce")
    scene.same_epoch("undefine")
    scene.libvirt.virsh("destroy", "vm1")
    scene.sensor.wait("the end is told", lambda event: event["event"] == "invalidated")
    equal(scene.operator.must("lost"), ["STALE_EPOCH"], "why the lease was lost")
    check(scene.holder.endpoint("vm1")["epoch"] > scene.epoch, "the epoch outlived its QEMU")

    # By its UUID it is found again under another name; and nobody waits for a libvirtd at the end.
    scene.broker.endpoints = [endpoint("vm1", domain=UUID)]
    scene.broker.write_config()
    scene.broker.restart()
    scene.libvirt.define("vm1", uuid=UUID)
    scene.libvirt.virsh("domrename", "vm1", "vm2")
    scene.libvirt.virsh("start", "vm2")
    prove(scene.holder, "vm1", scene.libvirt.truth("vm1", 2), scene.epoch + 1)
    scene.libvirt.signal(signal.SIGSTOP)
    scene.broker.restart()
    wait_until("it is told who is silent", lambda: "libvirtd does not answer" in
               scene.holder.endpoint("vm1")["detail"], 60)
    scene.broker.stop()
    scene.libvirt.signal(signal.SIGCONT)


def libvirt_migrated(lab):
    """A domain moves to another host while it runs: the session ends at the first one, and begins
    at the other one, whose endpoint has the name as soon as it is free.
    """
    here, there = Libvirt(lab), Libvirt(lab, "there")
    here.define("vm1")
    here.virsh("start", "vm1")
    truth = here.truth("vm1")
    tenants = [vmlab.tenant(host, endpoints=[f"label:host={host}"]) for host in ("here", "there")]
    broker = Broker(lab, [], [*tenants, vmlab.operator_tenant(ttl_max="1h")],
                    discover=[discovery(here, writable=True, labels={"host": "here"}),
                              discovery(there, writable=True, labels={"host": "there"})])
    source, target = (Holder(broker, f"sensor/{host}") for host in ("here", "there"))
    found(source, "vm1")
    prove(source, "vm1", truth, 1)
    found(target)
    sensor = Sensor(source)
    sensor.wait_context(truth.kcr3)
    operator = Operator(broker)
    operator.must("acquire", 3600000)
    try:
        here.virsh("migrate", "--live", "vm1", there.uri, "--migrateuri",
                   f"unix://{lab.path('tmp', 'migration')}")
    except RuntimeError as error:
        if "'detach' is unexpected" in str(error):
            raise Skip("this libvirt is too old to have this QEMU migrate") from error
        raise
    equal(operator.must("lost"), ["STALE_EPOCH"], "why the lease was lost")
    sensor.wait("why it ended", lambda event: "was migrated away" in event.get("detail", ""))
    found(target, "vm1")
    prove(target, "vm1", truth, 1)
    found(source)


if __name__ == "__main__":
    vmlab.main({"libvirt_written": libvirt_written, "libvirt_lost": libvirt_lost,
                "libvirt_migrated": libvirt_migrated})

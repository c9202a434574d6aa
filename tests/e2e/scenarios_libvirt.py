#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Domains of a real libvirtd, seen through its monitors."""

import signal
import subprocess

import vmlab
from vmlab import Broker, Holder, Sensor, check, equal, wait_until
from vmlab.libvirt import Libvirt, discovery, endpoint, found, prove


def told(broker, name, words):
    """Waits until the broker has given the words as its reason."""
    wait_until(f"{name}: {words}",
               lambda: any(record.get("endpoint") == name and words in record.get("reason", "")
                           for record in broker.records()), 60, 0.2)


def libvirt_domain(lab):
    """One domain: started, reset, without libvirtd for a while, destroyed; and one not shared."""
    libvirt = Libvirt(lab)
    libvirt.define("vm1")
    libvirt.define("plain", memory="none")
    libvirt.virsh("start", "vm1")
    broker = Broker(lab, [endpoint("vm1"), endpoint("plain")], [vmlab.tenant()])
    holder = Holder(broker)
    told(broker, "plain", "is not running")
    libvirt.virsh("start", "--paused", "plain")
    told(broker, "plain", "<memoryBacking>")
    libvirt.virsh("destroy", "plain")
    first = prove(holder, "vm1", libvirt.truth("vm1"), 1)

    libvirt.virsh("reset", "vm1")
    second = prove(holder, "vm1", libvirt.truth("vm1", 2), first + 1)

    # The guest lives on, so its epoch does.
    libvirt.kill()
    wait_until("the loss is told",
               lambda: holder.endpoint("vm1")["state"] == "unreachable", 30, 0.2)
    libvirt.start()
    equal(prove(holder, "vm1", libvirt.truth("vm1", 2), second), second, "the epoch")

    libvirt.virsh("destroy", "vm1")
    wait_until("the end is told",
               lambda: holder.endpoint("vm1")["state"] not in ("ready", "unreachable"), 30, 0.2)
    check(holder.endpoint("vm1")["epoch"] > second, "the epoch outlived its QEMU")


def libvirt_reverted(lab):
    """A snapshot is taken of a domain that runs, which is then put back to it: in its process, or
    in another one, as libvirt's version likes.
    """
    disk = lab.path("tmp", "disk.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1G"], check=True)
    libvirt = Libvirt(lab)
    libvirt.define("vm1", disk=disk)
    libvirt.virsh("start", "vm1")
    broker = Broker(lab, [endpoint("vm1")], [vmlab.tenant()])
    holder = Holder(broker)
    sensor = Sensor(holder)
    truth = libvirt.truth("vm1")
    epoch = prove(holder, "vm1", truth, 1)
    libvirt.virsh("snapshot-create-as", "vm1", "one")
    libvirt.virsh("snapshot-revert", "vm1", "one", "--running")
    over = sensor.wait("the revert ends the epoch", lambda event:
                       event["event"] == "invalidated" and event["epoch"] > epoch)
    sensor.wait_context(truth.kcr3, over["epoch"] - 1)
    prove(holder, "vm1", truth, epoch + 1)
    broker.stop()


def libvirt_discovered(lab):
    """Domains come and go, each tenant sees those with its label, libvirtd's loss loses none."""
    libvirt = Libvirt(lab)
    libvirt.define("web", memory="file", labels="team=blue tier=front")
    libvirt.define("db", memory="numa", labels="team=red")
    libvirt.define("other")
    tenants = [vmlab.tenant("all"), vmlab.tenant("blue", endpoints=["label:team=blue"])]
    broker = Broker(lab, [], tenants, discover=[
        discovery(libvirt, domains="[!o]*")])
    everybody, blue = Holder(broker, "sensor/all"), Holder(broker, "sensor/blue")
    found(everybody)
    for name in ("web", "db", "other"):
        libvirt.virsh("start", name)
    found(everybody, "web", "db")
    found(blue, "web")
    web, db = (prove(everybody, name, libvirt.truth(name), 1) for name in ("web", "db"))

    # The guests are the same after it.
    libvirt.kill()
    wait_until("the loss is told",
               lambda: everybody.endpoint("db")["state"] == "unreachable", 30, 0.2)
    libvirt.start()
    for name, epoch in (("web", web), ("db", db)):
        equal(prove(everybody, name, libvirt.truth(name), epoch), epoch, "the epoch")

    libvirt.virsh("destroy", "db")
    found(everybody, "web")
    libvirt.virsh("start", "db")
    check(prove(everybody, "db", libvirt.truth("db", 2), 1) > db, "the epoch outlived its QEMU")

    # What is written comes before what is found.
    broker.endpoints = [endpoint("web")]
    broker.write_config()
    broker.child.signal(signal.SIGHUP)
    wait_until("the configured endpoint begins", lambda: any(
        record.get("msg") == "configuration reloaded" for record in broker.records()), 30)
    prove(everybody, "web", libvirt.truth("web"), web + 1)


if __name__ == "__main__":
    vmlab.main({"libvirt_domain": libvirt_domain, "libvirt_discovered": libvirt_discovered,
                "libvirt_reverted": libvirt_reverted})

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A guest and a broker that come and go under three sensors, one of which does not read."""

import os
import subprocess

import vmlab
from vmlab import Broker, Guest, Holder, Sensor, check, equal, history, number, wait_until

UIDS = (0, 65534, 64000)


class Watched:
    """A guest, a broker and a sensor of each of three tenants."""

    def __init__(self, lab, **options):
        self.lab = lab
        self.guest = Guest(lab, **options)
        self.broker = Broker(
            lab, [vmlab.qemu_endpoint(lab)],
            [vmlab.tenant(f"t{uid}", [uid], ["vm*"]) for uid in UIDS])
        self.holders = [Holder(self.broker, f"sensor/t{uid}", uid) for uid in UIDS]
        # Subscribed before there is a kernel: the first word is that it is booting (R5).
        self.sensors = [Sensor(holder) for holder in self.holders]
        self.epoch = 0
        self.roots = []

    def follow(self, sensors=None):
        """The guest has booted anew: sensors get its root in a newer epoch, and can read."""
        truth = self.guest.boot()
        for sensor in sensors or self.sensors:
            event = sensor.wait_context(truth.kcr3, self.epoch)
        self.epoch = event["epoch"]
        self.roots.append(truth.kcr3)
        self.prove(truth)
        return truth

    def prove(self, truth):
        holder = self.holders[0]
        info = holder.wait_ready(epoch=self.epoch)
        equal(number(info["kcr3"]), truth.kcr3, "kcr3 in `info`")
        equal(holder.read_text("vm1", truth.symbols["linux_banner"], 512).strip(), truth.version,
              "linux_banner through the new root")

    def settle(self):
        """All sensors have heard of the newest epoch, and every history keeps the rules."""
        newest = self.holders[0].endpoint()["epoch"]
        for sensor in self.sensors:
            sensor.wait_context(above=newest - 1)
            history.check(sensor.history())
            self._no_dead_root(sensor)
            equal(sensor.contexts()[-1]["epoch"], newest, "the last context's epoch")

    def _no_dead_root(self, sensor):
        """Roots came in the order of the guest's boots; none was of an earlier boot or made up."""
        boots = iter(self.roots)
        last = None
        for event in sensor.contexts():
            root = number(event["kcr3"])
            if root != last:
                check(root in boots, f"{root:#x} at epoch {event['epoch']} is not the root of the "
                      f"boot at hand; boots: {[hex(boot) for boot in self.roots]}; "
                      f"{sensor.contexts()}")
            last = root


def reset(lab):
    """system_reset while one of three sensors is stopped."""
    watched = Watched(lab)
    watched.follow()
    slow = watched.sensors[2]
    slow.pause()
    others = watched.sensors[:2]
    for _ in range(2):
        watched.guest.reset()
        for sensor in others:
            sensor.wait("the end of the epoch", lambda event: event["event"] == "invalidated" and
                        event["epoch"] > watched.epoch, 10)
        watched.follow(others)
    before = len(slow.contexts())
    equal(before, 1, "contexts that a stopped sensor printed")
    slow.resume()
    slow.wait_context(watched.roots[-1], watched.epoch - 1)
    watched.settle()
    # One MEMCTX may have been on its way when it stopped; epochs between are skipped.
    check(len(slow.contexts()) <= before + 2,
          f"a slow subscriber got every epoch: {slow.contexts()}")


def qemu_killed(lab):
    """SIGKILL of QEMU, then another QEMU at the same socket."""
    watched = Watched(lab)
    watched.follow()
    descriptors = watched.broker.descriptors()
    for remove in (True, False):
        watched.guest.kill()
        for sensor in watched.sensors:
            sensor.wait("the end of the epoch", lambda event: event["event"] == "invalidated" and
                        event["epoch"] > watched.epoch, 10)
        wait_until("vm1 is gone", lambda: watched.holders[0].endpoint()["state"] == "gone", 10)
        if remove:
            watched.guest.remove_ram()
        watched.guest.start()
        watched.follow()
    watched.settle()
    wait_until("descriptors are closed",
               lambda: watched.broker.descriptors() <= descriptors, 60)


def panic(lab):
    """The guest panics and reboots by itself."""
    watched = Watched(lab)
    watched.follow()
    watched.guest.panic()
    watched.follow()
    watched.settle()


def kexec(lab):
    """Another kernel is started without firmware: QEMU says nothing of it."""
    watched = Watched(lab, kexec=True, append="crashkernel=0")
    watched.follow()
    watched.guest.console.send("guest-tool kexec /next/vmlinuz /next/initramfs.cpio.gz")
    watched.follow()
    watched.settle()


def broker_restarted(lab):
    """The broker ends, or is killed, under a running guest: contexts stay right."""
    watched = Watched(lab)
    truth = watched.follow()
    for crash in (False, True):
        seen = [len(sensor.contexts()) for sensor in watched.sensors]
        watched.broker.restart(crash)
        # Whether the epoch goes on is the broker's choice; whether it is right is not.
        info = watched.holders[0].wait_ready(epoch=watched.epoch)
        equal(number(info["kcr3"]), truth.kcr3, "kcr3 after a restart of the broker")
        check(info["epoch"] >= watched.epoch, f"R3: {info['epoch']} after {watched.epoch}")
        for sensor, count in zip(watched.sensors, seen):
            wait_until("a sensor came back", lambda s=sensor, n=count: len(s.contexts()) > n, 20)
        watched.epoch = info["epoch"]
    watched.settle()
    # A guest that reset while nobody watched is in another epoch.
    watched.broker.crash()
    watched.guest.reset()
    truth = watched.guest.boot()
    watched.broker.start()
    info = watched.holders[0].wait_ready(epoch=watched.epoch + 1)
    equal(number(info["kcr3"]), truth.kcr3, "kcr3 after a reset without a broker")
    watched.roots.append(truth.kcr3)
    watched.settle()


def stop_cont(lab):
    """Stopped and continued, the kernel is the same: the context must be right afterwards."""
    watched = Watched(lab)
    truth = watched.follow()
    watched.guest.qmp.execute("stop")
    equal(watched.holders[0].read_text("vm1", truth.symbols["linux_banner"], 512).strip(),
          truth.version, "linux_banner of a stopped guest")
    watched.guest.qmp.execute("cont")
    watched.guest.console.run("true")
    wait_until("the context is back",
               lambda: watched.holders[0].endpoint()["state"] == "ready", 10)
    watched.prove(truth)
    watched.settle()


def snapshot(lab):
    """loadvm puts an earlier kernel's RAM in place; QEMU sends RESUME and no RESET."""
    disk = lab.path("tmp", "disk.qcow2")
    try:
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1G"], check=True)
    except OSError as error:
        raise vmlab.Skip("qemu-img is not installed (qemu-utils)") from error
    watched = Watched(lab, memory="256M", cpu="qemu64", extra=[
        "-blockdev",
        f"driver=qcow2,node-name=disk0,file.driver=file,file.filename={disk}"])
    first = watched.follow()
    watched.guest.qmp.job("snapshot-save", tag="one", vmstate="disk0", devices=["disk0"])
    watched.guest.reset()
    second = watched.follow()
    check(first.kcr3 != second.kcr3, "KASLR gave the same root twice")
    watched.guest.qmp.execute("stop")
    watched.guest.qmp.job("snapshot-load", tag="one", vmstate="disk0", devices=["disk0"])
    watched.guest.qmp.execute("cont")
    for sensor in watched.sensors:
        event = sensor.wait_context(first.kcr3, watched.epoch)
    watched.epoch = event["epoch"]
    watched.roots.append(first.kcr3)
    watched.prove(first)
    watched.settle()
    os.unlink(disk)


if __name__ == "__main__":
    vmlab.main({"reset": reset, "qemu_killed": qemu_killed, "panic": panic, "kexec": kexec,
                "broker_restarted": broker_restarted, "stop_cont": stop_cont,
                "snapshot": snapshot})

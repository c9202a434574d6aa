#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memory that goes back in time under the same QEMU, and a QEMU that is out of contact."""

import os
import signal
import subprocess
import time

import vmlab
from vmlab import Broker, Guest, Holder, Sensor, check, equal, history, number, wait_until


SNAPSHOT_YOUNG_S = 3  # one that may have been loaded within the slack of the clock


class Watched:
    """A guest with a disk for snapshots, a broker, and a sensor that was there all the time."""

    def __init__(self, lab, **options):
        extra = list(options.pop("extra", ()))
        if options.pop("disk", True):
            extra += ["-blockdev", "driver=qcow2,node-name=disk0,file.driver=file,"
                      f"file.filename={self._disk(lab)}"]
        self.guest = Guest(lab, memory="256M", cpu="qemu64", extra=extra, **options)
        self.broker = Broker(lab, [vmlab.qemu_endpoint(lab, qmp_timeout="1s")], [vmlab.tenant()])
        self.holder = Holder(self.broker)
        self.sensor = Sensor(self.holder)
        self.truth = self.guest.boot()
        self.epoch = self.sensor.wait_context(self.truth.kcr3)["epoch"]

    @staticmethod
    def _disk(lab):
        disk = lab.path("tmp", "disk.qcow2")
        try:
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1G"], check=True)
        except OSError as error:
            raise vmlab.Skip("qemu-img is not installed (qemu-utils)") from error
        return disk

    def expect_new_epoch(self, what):
        """The same kernel in a newer epoch, and holders were told that the old one is over."""
        over = self.sensor.wait(f"{what} ends the epoch", lambda event:
                                event["event"] == "invalidated" and event["epoch"] > self.epoch)
        event = self.sensor.wait_context(self.truth.kcr3, over["epoch"] - 1)
        self.epoch = self.holder.wait_ready(epoch=event["epoch"])["epoch"]

    def expect_same_epoch(self, what):
        """Nothing ends while the broker looks several times."""
        time.sleep(4 * vmlab.REPROVE_S)
        equal(self.holder.wait_ready()["epoch"], self.epoch, f"epoch after {what}")

    def settle(self):
        history.check(self.sensor.history())
        self.broker.stop()


def loadvm(lab):
    """HMP loadvm into a guest that runs, and into one that is paused."""
    watched = Watched(lab)
    guest = watched.guest
    guest.qmp.human("savevm one")
    watched.expect_same_epoch("savevm, which stops and continues as well")
    guest.qmp.human("loadvm one")
    watched.expect_new_epoch("loadvm")
    watched.expect_same_epoch("nothing")
    # QEMU tells nothing at all of this one: the guest stands still before and after.
    guest.qmp.execute("stop")
    watched.expect_same_epoch("stop")
    guest.qmp.human("loadvm one")
    watched.expect_new_epoch("loadvm while paused")
    guest.qmp.execute("cont")
    watched.expect_same_epoch("cont")
    watched.settle()


def loadvm_at_once(lab):
    """A snapshot that is loaded as soon as it was made."""
    watched = Watched(lab)
    watched.guest.qmp.human("savevm one")
    watched.guest.qmp.human("loadvm one")
    watched.expect_new_epoch("loadvm")
    watched.guest.qmp.human("savevm two")
    watched.guest.qmp.human("loadvm one")
    watched.expect_new_epoch("loadvm after another savevm")
    watched.settle()


def snapshot_jobs(lab):
    """snapshot-save keeps the epoch, snapshot-load does not, running or paused."""
    watched = Watched(lab)
    guest = watched.guest
    guest.qmp.job("snapshot-save", tag="one", vmstate="disk0", devices=["disk0"])
    watched.expect_same_epoch("snapshot-save")
    guest.qmp.job("snapshot-load", tag="one", vmstate="disk0", devices=["disk0"])
    watched.expect_new_epoch("snapshot-load")
    guest.qmp.execute("stop")
    guest.qmp.job("snapshot-load", tag="one", vmstate="disk0", devices=["disk0"])
    watched.expect_new_epoch("snapshot-load while paused")
    guest.qmp.execute("cont")
    watched.settle()


def stop_cont_with_snapshots(lab):
    """There is something to load, and the clock says that nothing was."""
    watched = Watched(lab)
    watched.guest.qmp.human("savevm one")
    watched.expect_same_epoch("savevm")
    time.sleep(SNAPSHOT_YOUNG_S)
    for _ in range(3):
        watched.guest.qmp.execute("stop")
        watched.guest.qmp.execute("cont")
        watched.expect_same_epoch("stop and cont")
    watched.settle()


def stop_cont_without_clock(lab):
    """Without an HPET a stop cannot be told from a restore once there is something to load."""
    watched = Watched(lab, machine="q35,hpet=off")
    watched.guest.qmp.execute("stop")
    watched.guest.qmp.execute("cont")
    watched.expect_same_epoch("stop and cont without a snapshot")
    watched.guest.qmp.human("savevm one")
    watched.expect_same_epoch("the first savevm")
    watched.guest.qmp.human("loadvm one")
    watched.expect_new_epoch("loadvm")
    watched.settle()


def incoming(lab):
    """A guest that is loaded from a file into a QEMU that a broker watches already."""
    source = Guest(lab, "source", memory="256M", cpu="qemu64")
    truth = source.boot()
    stream = lab.path("tmp", "stream")
    source.qmp.execute("migrate", uri=f"exec:cat >{stream}")
    wait_until("the guest is in the file", lambda: source.qmp.execute("query-migrate").get(
        "status") == "completed", 120)
    source.kill()
    guest = Guest(lab, memory="256M", cpu="qemu64", extra=["-incoming", "defer"])
    broker = Broker(lab, [vmlab.qemu_endpoint(lab)], [vmlab.tenant()])
    holder = Holder(broker)
    sensor = Sensor(holder)
    wait_until("it waits", lambda: "incoming migration" in holder.endpoint()["detail"], 60, 0.2)
    guest.qmp.execute("migrate-incoming", uri=f"exec:cat {stream}")
    event = sensor.wait_context(truth.kcr3)
    info = holder.wait_ready(epoch=event["epoch"])
    equal(holder.read_text("vm1", truth.symbols["linux_banner"], 512).strip(), truth.version,
          "linux_banner")
    equal(len(sensor.contexts()), 1, "contexts of memory that was not there yet")
    equal(info["system"]["release"], truth.release, "release")
    broker.stop()


def loadvm_without_broker(lab):
    """The broker is restarted, and the guest is another one of the same boot."""
    watched = Watched(lab)
    watched.guest.qmp.human("savevm one")
    watched.expect_same_epoch("savevm")
    watched.broker.crash()
    watched.guest.qmp.human("loadvm one")
    watched.broker.start()
    info = watched.holder.wait_ready(epoch=watched.epoch + 1)
    equal(number(info["kcr3"]), watched.truth.kcr3, "kcr3 after loadvm without a broker")
    watched.broker.stop()


def qemu_stopped(lab):
    """SIGSTOP of QEMU: unreachable, and the same epoch when it goes on; then it is killed."""
    watched = Watched(lab, disk=False)
    child = watched.guest.child
    for _ in range(2):
        seen = len(watched.sensor.history())
        child.signal(signal.SIGSTOP)
        watched.sensor.wait("it is unreachable", lambda event, n=seen:
                            event["event"] == "unreachable" and
                            event in watched.sensor.history()[n:])
        entry = watched.holder.endpoint()
        equal((entry["state"], entry["epoch"]), ("unreachable", watched.epoch), "`ls`")
        child.signal(signal.SIGCONT)
        info = watched.holder.wait_ready()
        equal(info["epoch"], watched.epoch, "epoch after a QEMU that stood still")
        equal(watched.holder.read_text("vm1", watched.truth.symbols["linux_banner"], 512).strip(),
              watched.truth.version, "linux_banner")
    check(not any(event["event"] == "invalidated" for event in watched.sensor.history()),
          f"nothing was reset: {watched.sensor.history()}")
    child.signal(signal.SIGSTOP)
    wait_until("it is unreachable",
               lambda: watched.holder.endpoint()["state"] == "unreachable", 20)
    watched.guest.kill()
    wait_until("it is gone", lambda: watched.holder.endpoint()["state"] == "gone", 20)
    check(watched.holder.endpoint()["epoch"] > watched.epoch, "the epoch of a dead QEMU goes on")
    watched.settle()


def ram_name_removed(lab):
    """rm of the RAM file under a QEMU that maps it: memory is where it was."""
    watched = Watched(lab, disk=False)
    os.unlink(watched.guest.ram_path)
    watched.expect_same_epoch("rm of the RAM file")
    equal(watched.holder.read_text("vm1", watched.truth.symbols["linux_banner"], 512).strip(),
          watched.truth.version, "linux_banner")
    watched.settle()


def shared_memory_device(lab):
    """An ivshmem device beside RAM is no RAM, and the guest's mapping of it changes nothing."""
    path = lab.path("ram", "ivshmem")
    watched = Watched(lab, disk=False, extra=[
        "-object", f"memory-backend-file,id=ivshmem,size=32M,mem-path={path},share=on",
        "-device", "ivshmem-plain,memdev=ivshmem"])
    check(" ivshmem" in watched.guest.qmp.human("info mtree -f"), "the BAR is not mapped")
    segments = watched.holder.json("info", "vm1")["segments"]
    equal(sum(int(number(segment["len"])) for segment in segments) <= 256 << 20, True,
          "RAM without the device")
    watched.expect_same_epoch("nothing")
    watched.settle()


if __name__ == "__main__":
    vmlab.main({"loadvm": loadvm, "loadvm_at_once": loadvm_at_once,
                "snapshot_jobs": snapshot_jobs, "incoming": incoming,
                "stop_cont_with_snapshots": stop_cont_with_snapshots,
                "stop_cont_without_clock": stop_cont_without_clock,
                "loadvm_without_broker": loadvm_without_broker, "qemu_stopped": qemu_stopped,
                "ram_name_removed": ram_name_removed,
                "shared_memory_device": shared_memory_device})

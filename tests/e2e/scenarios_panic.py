#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kernels that panic, and stay there: what they left in memory is what sensors want to see."""

import os
import time

import vmlab
from vmlab import (Broker, Guest, Holder, Operator, Sensor, check, equal, history, number,
                   wait_until)

LOOKS = 8  # at the broker's pace, after which it would have found out what is not there any more


class Patient:
    """A guest that does not reboot by itself when it panics, a page of its, and who watches it."""

    def __init__(self, lab, **options):
        self.lab = lab
        self.guest = Guest(lab, append="panic=0", **options)
        self.broker = Broker(lab, [vmlab.qemu_endpoint(lab, writable=True)],
                             [vmlab.operator_tenant(), vmlab.tenant()])
        self.holder = Holder(self.broker)
        self.operator = Operator(self.broker)
        self.sensor = Sensor(self.holder)
        self.truth = self.guest.boot()
        self.epoch = self.sensor.wait_context(self.truth.kcr3)["epoch"]
        self.page, self.bytes = self.guest.random_page()
        self.operator.must("acquire")

    def panic(self):
        """By sysrq; with what the kernel says last."""
        self.guest.console.run("echo 7 >/proc/sys/kernel/printk")
        mark = self.guest.console.mark()
        self.guest.panic()
        return mark

    def check_memory(self):
        """It is the memory of the kernel that panicked, by its own root."""
        info = self.holder.json("info", "vm1")
        equal((info["epoch"], number(info["kcr3"])), (self.epoch, self.truth.kcr3), "`info`")
        equal(self.holder.read_text("vm1", self.truth.symbols["linux_banner"], 512).strip(),
              self.truth.version, "linux_banner after the panic")
        equal(self.holder.read("vm1", self.page, 4096, phys=True), self.bytes,
              "a page of the guest after the panic")
        return info

    def check_panicked(self):
        wait_until("`ls` says so", lambda: self.holder.endpoint()["state"] == "panicked", 30)
        info = self.check_memory()
        equal(info["state"], "panicked", "`info`")
        # Who comes late gets the context, and what is the matter with it.
        late = Sensor(self.holder)
        late.wait_context(self.truth.kcr3, self.epoch - 1)
        late.wait("the panic", lambda event: event["event"] == "panicked" and
                  event["epoch"] == self.epoch)
        history.check(late.history())
        late.child.stop()

    def check_not_written(self):
        """What is evidence stays as it is."""
        answer = self.operator.do("write", hex(self.page), "efbeadde00000000")
        check(answer.startswith("NO_WRITE_PATH"), f"a write after the panic: {answer}")
        check("panicked" in answer, f"the reason of the refusal: {answer}")
        self.check_memory()

    def check_reset(self):
        """A reset is a new epoch, as before."""
        self.guest.reset()
        self.guest.qmp.execute("cont")
        truth = self.guest.boot()
        self.sensor.wait_context(truth.kcr3, self.epoch)
        wait_until("it is ready", lambda: self.holder.endpoint()["state"] == "ready", 30)
        history.check(self.sensor.history())
        equal([event["event"] for event in self.sensor.history()
               if event.get("epoch") == self.epoch and event["event"] == "invalidated"], [],
              "ends of the epoch before its reset")


def driver(lab):
    """The guest's driver for the device that tells QEMU; a kernel put there by hand has none."""
    if not os.path.exists(lab.guest_file("modules/pvpanic-pci.ko")):
        raise vmlab.Skip("the guest's kernel has no pvpanic modules with it")
    return "insmod /modules/pvpanic.ko && insmod /modules/pvpanic-pci.ko"


def panicked(lab):
    """QEMU is told by pvpanic, and pauses the guest."""
    load = driver(lab)
    patient = Patient(lab, extra=["-device", "pvpanic-pci", "-action",
                                  "panic=pause,shutdown=pause"])
    patient.guest.console.run(load)
    patient.panic()
    patient.sensor.wait("the panic", lambda event: event["event"] == "panicked" and
                        event["epoch"] == patient.epoch)
    equal(patient.guest.qmp.execute("query-status")["status"], "guest-panicked", "QEMU")
    patient.check_panicked()
    patient.check_not_written()
    # Also for a broker that was not there when it happened.
    for crash in (False, True):
        patient.broker.restart(crash)
        patient.check_panicked()
    patient.check_reset()


def panicked_runs(lab):
    """The same, and QEMU lets the guest go on in its panic."""
    load = driver(lab)
    patient = Patient(lab, extra=["-device", "pvpanic-pci", "-action", "panic=none"])
    patient.guest.console.run(load)
    patient.panic()
    patient.sensor.wait("the panic", lambda event: event["event"] == "panicked" and
                        event["epoch"] == patient.epoch)
    equal(patient.guest.qmp.execute("query-status")["status"], "running", "QEMU")
    patient.check_panicked()
    patient.check_not_written()
    patient.check_reset()


def panicked_alone(lab):
    """Nobody is told: the guest stays there, and so does its memory."""
    patient = Patient(lab)
    mark = patient.panic()
    patient.guest.console.expect("end Kernel panic", mark)
    for _ in range(LOOKS):
        time.sleep(vmlab.REPROVE_S)
        info = patient.check_memory()
        equal(info["state"], "ready", "`info`")
    patient.check_reset()


if __name__ == "__main__":
    vmlab.main({"panicked": panicked, "panicked_alone": panicked_alone,
                "panicked_runs": panicked_runs})

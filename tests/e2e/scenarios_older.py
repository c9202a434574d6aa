#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A kernel before 5.11, which says less of itself, and one that runs guests of its own."""

import os
import re

import vmlab
from vmlab import Broker, Guest, Holder, Sensor, check, equal, history, number, wait_until

NESTED_ROOT = 0x2000  # deploy/guest/guest-tool.c
LOOKS = 8  # of the broker, before a guest in a guest ends: more than it needs to give something up


class Watched:
    """An older guest, a broker, and a sensor that was there all the time."""

    def __init__(self, lab, **options):
        if not os.path.exists(lab.guest_file("older-vmlinuz")):
            raise vmlab.Skip("no kernel of Debian 11 could be downloaded when the guest was made")
        self.guest = Guest(lab, older=True, **options)
        self.broker = Broker(lab, [vmlab.qemu_endpoint(lab)], [vmlab.tenant()])
        self.holder = Holder(self.broker)
        self.sensor = Sensor(self.holder)
        self.epoch = 0

    def follow(self):
        truth = self.guest.boot()
        check(truth.release.startswith("5.10."), f"the kernel is {truth.release}")
        event = self.sensor.wait_context(truth.kcr3, self.epoch)
        self.epoch = event["epoch"]
        info = self.holder.wait_ready(epoch=self.epoch)
        system = info["system"]
        equal((system["os"], system["proof"], system["release"], number(info["kcr3"])),
              ("linux", "vmcoreinfo", truth.release, truth.kcr3), "`info`")
        equal(self.holder.read_text("vm1", truth.symbols["linux_banner"], 512).strip(),
              truth.version, "linux_banner")

    def settle(self):
        history.check(self.sensor.history())
        self.broker.stop()


def older_kernel(lab):
    """Linux 5.10: its note lacks the offset of a name; it is served, and followed over a reset."""
    watched = Watched(lab)
    watched.follow()
    watched.guest.reset()
    watched.follow()
    watched.settle()


def nested(lab):
    """The only vCPU spins in a guest of the guest's: neither mode of that ends anything."""
    watched = Watched(lab, memory="384M", cpu="EPYC,svm=on")
    watched.follow()
    console = watched.guest.console
    console.run("for m in irqbypass rng-core ccp kvm kvm-amd; do insmod /kvm/$m.ko; done; "
                "ls /dev/kvm")
    for mode in ("real", "long"):
        seen = len(watched.sensor.history())
        console.run(f"guest-tool nested {mode} {int(LOOKS * vmlab.REPROVE_S) + 2} "
                    f">/run/{mode} 2>&1 &")
        elsewhere = 0
        while not console.run(f"cat /run/{mode}").strip():
            registers = watched.guest.qmp.human("info registers")
            root = int(re.search(r"CR3=([0-9a-f]+)", registers)[1], 16)
            elsewhere += root == (NESTED_ROOT if mode == "long" else 0)
            equal(watched.holder.endpoint()["state"], "ready", "the state meanwhile")
        equal(console.run(f"cat /run/{mode}").strip(), "nested", "what ran")
        check(elsewhere, "the vCPU was never seen in the guest's guest")
        equal(watched.sensor.history()[seen:], [], "what was told")
        equal(watched.holder.wait_ready()["epoch"], watched.epoch, "epoch")
    watched.settle()


if __name__ == "__main__":
    vmlab.main({"older_kernel": older_kernel, "nested": nested})

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Guests whose RAM is in several files: what is in each of them, and what comes and goes."""

import os
import re

import vmlab
from vmlab import Broker, Guest, Holder, Operator, check, equal, number, wait_until

MIB = 1 << 20
FOUR_GIB = 1 << 32
PATTERN = "0123456789abcdef"


def backend(lab, ident, mib, **more):
    """-object of a RAM file; returns its arguments and its path."""
    path = lab.path("ram", f"vm1-{ident}")
    words = {"id": ident, "size": f"{mib}M", "mem-path": path, "share": "on", **more}
    return ["-object", "memory-backend-file," + ",".join(f"{k}={v}" for k, v in words.items())]


class World:
    """A guest, a broker with a write path, a holder, a sensor that watches, an operator."""

    def __init__(self, lab, **guest):
        self.lab = lab
        self.guest = Guest(lab, **guest)
        self.broker = Broker(lab, [vmlab.qemu_endpoint(lab, writable=True)],
                             [vmlab.operator_tenant(), vmlab.tenant()])
        self.holder = Holder(self.broker)
        self.sensor = vmlab.Sensor(self.holder, "vm1")
        self.truth = self.guest.boot()
        self.info = self.holder.wait_ready()
        self.operator = Operator(self.broker)

    @property
    def epoch(self):
        return self.info["epoch"]

    def ram(self):
        """What the guest's kernel calls RAM now: [(first, last)]."""
        text = self.guest.console.run("grep 'System RAM' /proc/iomem")
        return [(int(first, 16), int(last, 16))
                for first, last in re.findall(r"([0-9a-f]+)-([0-9a-f]+) : System RAM", text)]

    def covers(self, what):
        """Every byte that the kernel calls RAM is in a segment, and every segment in the files."""
        segments = [(number(s["gpa"]), number(s["len"]), number(s["offset"]))
                    for s in self.info["segments"]]
        for first, last in self.ram():
            at = first
            for gpa, length, _ in sorted(segments):
                if gpa <= at < gpa + length:
                    at = gpa + length
            check(at > last, f"{what}: {first:#x}-{last:#x} of /proc/iomem is not all in {segments}")
        size = sum(number(file["size"]) for file in self.info["files"])
        for gpa, length, offset in segments:
            check(offset + length <= size, f"{what}: {gpa:#x} lies beyond the files ({size:#x})")

    def same_memory(self, minimum, what):
        """A page that the guest filled at or above an address is read there; a leased write is
        seen by a program inside."""
        name = f"/run/{what}"
        self.guest.console.run(f"guest-tool page {name} {minimum:#x} >/run/page.txt", timeout=120)
        words = self.guest.console.run("cat /run/page.txt").split()
        address, offset = int(words[1], 16), int(words[3])
        check(address >= minimum, f"{what}: the page is at {address:#x}")
        text = self.guest.console.run(f"tail -c +{offset + 1} {name} | head -c 4096 | hexdump -v "
                                      "-e '1/1 \"%02x\"'; echo")
        wanted = bytes.fromhex(text.strip())
        equal(len(wanted), 4096, f"{what}: bytes in the guest")
        equal(self.holder.read("vm1", address, 4096, phys=True), wanted,
              f"{what}: the page at {address:#x}")
        self.operator.must("acquire")
        self.operator.must("write", hex(address + 64), PATTERN)
        seen = self.guest.console.run(f"tail -c +{offset + 65} {name} | head -c 8 | hexdump -v -e "
                                      "'1/1 \"%02x\"'; echo")
        equal(seen.strip(), PATTERN, f"{what}: what the guest sees of a leased write")
        equal(self.holder.read("vm1", address + 64, 8, phys=True).hex(), PATTERN,
              f"{what}: what a holder reads of it")
        self.operator.must("release")
        self.guest.console.run(f"rm {name}")
        return address

    def next_context(self, what):
        """Waits until the map of this moment is void and another context is there."""
        epoch = self.epoch
        self.sensor.wait(f"{what}: the old map is void", lambda event:
                         event["event"] == "invalidated" and event["epoch"] > epoch, 60)
        self.sensor.wait_context(self.truth.kcr3, above=epoch)
        self.info = self.holder.wait_ready(epoch=epoch + 1)
        equal(number(self.info["kcr3"]), self.truth.kcr3, f"{what}: kcr3")


def _exec_form(world, nfiles):
    """A program run by `exec` finds the files where VMSIG_FILES says, in one file where it does
    not: their inodes are those of the RAM files, and none can be written to."""
    env = world.holder.environment()
    files = [entry.split(":") for entry in env.get("VMSIG_FILES", "3:0x0").split(",")]
    equal(len(files), nfiles, f"files of {env}")
    equal([int(fd) for fd, _ in files], [3] + list(range(5, 4 + nfiles)), "their descriptors")
    listing = world.holder.ctl("exec", "vm1", "--", "sh", "-c",
                               "stat -L -c '%i %s' " +
                               " ".join(f"/proc/self/fd/{fd}" for fd, _ in files) +
                               "; ls /proc/self/fd | wc -l")
    lines = listing.decode().split("\n")
    inodes = {str(os.stat(world.lab.path("ram", name)).st_ino)
              for name in os.listdir(world.lab.path("ram"))}
    for (fd, size), line in zip(files, lines):
        inode, length = line.split()
        check(inode in inodes, f"descriptor {fd} is none of the RAM files")
        check(nfiles == 1 or int(size, 0) == int(length), f"size of descriptor {fd}: {line}")
    for fd, _ in files:
        status = world.holder.ctl("exec", "vm1", "--", "sh", "-c",
                                  f"(: >>/proc/self/fd/{fd}) 2>/dev/null && echo open || echo no")
        equal(status.strip(), b"no", f"writing through descriptor {fd}")


def numa(lab):
    """Two nodes with a memory backend each."""
    mib = 256
    world = World(lab, memory=f"{2 * mib}M", objects=[
        *backend(lab, "mem0", mib), *backend(lab, "mem1", mib),
        # Linux takes memory of the CPU's own node first.
        "-numa", "node,memdev=mem0", "-numa", "node,memdev=mem1,cpus=0"])
    equal(len(world.info["files"]), 2, "files")
    equal(world.info["guard"], "ro-mount", "the guard")
    world.covers("two nodes")
    equal(number(world.info["kcr3"]), world.truth.kcr3, "kcr3")
    world.same_memory(mib * MIB, "node1")
    _exec_form(world, 2)
    # The kernel's text and what it maps, wherever they lie.
    banner = world.truth.symbols["linux_banner"]
    equal(world.holder.read_text("vm1", banner, 512).strip(), world.truth.version, "linux_banner")
    world.guest.reset()
    truth = world.guest.boot()
    world.sensor.wait_context(truth.kcr3, above=world.epoch)
    vmlab.history.check(world.sensor.history())


def dimm(lab):
    """A DIMM is plugged while sensors are subscribed, and goes again where the guest lets it."""
    world = World(lab, memory="512M", memory_option="512M,slots=2,maxmem=2G")
    equal(len(world.info["files"]), 1, "files at first")
    _exec_form(world, 1)
    world.operator.must("acquire")
    size = 256
    world.guest.qmp.execute("object-add", **{
        "qom-type": "memory-backend-file", "id": "ram2", "size": size * MIB, "share": True,
        "mem-path": lab.path("ram", "vm1-dimm")})
    world.guest.qmp.execute("device_add", driver="pc-dimm", id="dimm1", memdev="ram2")
    world.next_context("a DIMM is plugged")
    check(world.operator.do("write", "0x1000", PATTERN).split()[0] != "ok",
          "the lease of the old map still writes")
    equal(len(world.info["files"]), 2, "files with the DIMM")
    world.guest.console.run("for b in /sys/devices/system/memory/memory*; do "
                            "grep -q offline $b/state && echo online_movable >$b/state; done; true",
                            timeout=120)
    wait_until("the guest has the DIMM", lambda: any(first >= FOUR_GIB for first, _ in world.ram()),
               60)
    world.covers("with a DIMM")
    world.same_memory(FOUR_GIB, "dimm")
    _exec_form(world, 2)

    world.guest.console.run(f"for b in /sys/devices/system/memory/memory*; do "
                            f"n=$((0x$(cat $b/phys_index) * "
                            f"0x$(cat /sys/devices/system/memory/block_size_bytes))); "
                            f"[ $n -lt {FOUR_GIB} ] || echo offline >$b/state; done; true",
                            timeout=120)
    world.guest.qmp.execute("device_del", id="dimm1")
    world.next_context("the DIMM is unplugged")
    equal(len(world.info["files"]), 1, "files without the DIMM")
    world.covers("without the DIMM")
    try:
        world.holder.read("vm1", FOUR_GIB, 8, phys=True)
        raise AssertionError("memory that is unplugged can be read")
    except vmlab.CtlError:
        pass
    world.same_memory(0, "again")
    vmlab.history.check(world.sensor.history())


def virtio_mem(lab):
    """virtio-mem grows: what it adds is read and written, in the context that was there."""
    if not os.path.exists(lab.guest_file("modules/virtio_mem.ko")):
        raise vmlab.Skip("no virtio_mem.ko: build/guest was made without its kernel's package")
    size = 512
    world = World(lab, memory="512M", memory_option="512M,maxmem=2G",
                  extra=[*backend(lab, "vmem0", size), "-device",
                         "virtio-mem-pci,id=vm0,memdev=vmem0,requested-size=0"])
    equal(len(world.info["files"]), 2, "files")
    for name in ("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev",
                 "virtio_pci", "virtio_mem"):
        world.guest.console.run(f"insmod /modules/{name}.ko")
    world.guest.console.run("echo online_movable >/sys/devices/system/memory/auto_online_blocks")
    epoch = world.epoch
    for requested in (128, 256):
        world.guest.qmp.execute("qom-set", path="/machine/peripheral/vm0",
                                property="requested-size", value=requested * MIB)
        wait_until(f"the guest has {requested} MiB of virtio-mem", lambda: requested * MIB ==
                   world.guest.qmp.execute("query-memory-devices")[0]["data"]["size"], 90)
        world.info = world.holder.wait_ready(epoch=epoch)
        world.covers(f"{requested} MiB")
    address = world.same_memory(FOUR_GIB, "vmem")
    check(address < FOUR_GIB + 2 * size * MIB, f"{address:#x} is not in virtio-mem")
    equal(world.holder.endpoint()["epoch"], epoch, "the epoch: the files are the same")
    vmlab.history.check(world.sensor.history())


if __name__ == "__main__":
    vmlab.main({"dimm": dimm, "numa": numa, "virtio_mem": virtio_mem})

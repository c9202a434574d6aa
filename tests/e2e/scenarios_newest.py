#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What QEMU has learned since the release's: run by tests/e2e/newest-qemu, skipped where an option is
not known.
"""

import subprocess

import vmlab
from scenarios_memory import FOUR_GIB, MIB, World
from vmlab import Broker, Guest, Holder, Sensor, Skip, equal, number, wait_until
from vmlab.guest import QEMU


def needs(what, *options):
    """Skips unless QEMU's help for the options has a word."""
    done = subprocess.run([QEMU, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    if what not in done.stdout:
        raise Skip(f"QEMU is too old for {what}")


def _one_backend(lab, kind, options):
    needs(kind, "-object", "help")
    world = World(lab, objects=["-object", f"{kind},id=ram,size=512M{options}",
                                "-machine", "memory-backend=ram"])
    equal(len(world.info["files"]), 1, "RAM files")
    equal(number(world.info["kcr3"]), world.truth.kcr3, "kcr3")
    world.covers(kind)
    world.same_memory(0, "page")
    world.guest.reset()
    truth = world.guest.boot()
    world.sensor.wait_context(truth.kcr3, above=world.epoch)
    vmlab.history.check(world.sensor.history())


def newest_shm(lab):
    """RAM of shm_open(3), which has no name any more."""
    _one_backend(lab, "memory-backend-shm", "")


def newest_ram(lab):
    """Anonymous memory that is shared."""
    _one_backend(lab, "memory-backend-ram", ",share=on")


def newest_offset(lab):
    """RAM and a DIMM in one file, and the DIMM's part of it comes first."""
    needs("offset=", "-object", "memory-backend-file,help")
    path = lab.path("ram", "both")
    with open(path, "wb") as file:
        file.truncate(768 * MIB)

    def part(ident, mib, offset):
        return ["-object", f"memory-backend-file,id={ident},size={mib}M,mem-path={path},"
                           f"offset={offset}M,share=on"]
    world = World(lab, memory_option="512M,slots=1,maxmem=2G", objects=[
        *part("ram", 512, 256), *part("more", 256, 0), "-machine", "memory-backend=ram",
        "-device", "pc-dimm,id=dimm1,memdev=more"])
    equal(number(world.info["kcr3"]), world.truth.kcr3, "kcr3")
    world.guest.console.run("for b in /sys/devices/system/memory/memory*; do "
                            "grep -q offline $b/state && echo online_movable >$b/state; done; true",
                            timeout=120)
    wait_until("the guest has the DIMM", lambda: any(first >= FOUR_GIB for first, _ in world.ram()),
               60)
    world.covers("both")
    world.same_memory(FOUR_GIB, "dimm")
    world.same_memory(0, "ram")
    vmlab.history.check(world.sensor.history())


def newest_mapped_ram(lab):
    """A guest is saved into a mapped-ram file, and goes on from there in another QEMU."""
    source = Guest(lab, "source", memory="256M", cpu="qemu64")
    mapped = {"capabilities": [{"capability": "mapped-ram", "state": True}]}
    if not any(one["capability"] == "mapped-ram"
               for one in source.qmp.execute("query-migrate-capabilities")):
        raise Skip("QEMU is too old for mapped-ram")
    broker = Broker(lab, [vmlab.qemu_endpoint(lab, "source"), vmlab.qemu_endpoint(lab)],
                    [vmlab.tenant()])
    holder = Holder(broker)
    sensor = Sensor(holder, "vm1")
    truth = source.boot()
    epoch = holder.wait_ready("source")["epoch"]
    stream = lab.path("tmp", "stream")
    source.qmp.execute("migrate-set-capabilities", **mapped)
    source.qmp.execute("migrate", uri=f"file:{stream}")
    wait_until("the guest is in the file", lambda: source.qmp.execute("query-migrate").get(
        "status") == "completed", 120)
    wait_until("its session is over", lambda: holder.endpoint("source")["epoch"] > epoch, 60)
    source.kill()
    guest = Guest(lab, memory="256M", cpu="qemu64", extra=["-incoming", "defer"])
    wait_until("it waits", lambda: "incoming migration" in holder.endpoint()["detail"], 60, 0.2)
    guest.qmp.execute("migrate-set-capabilities", **mapped)
    guest.qmp.execute("migrate-incoming", uri=f"file:{stream}")
    event = sensor.wait_context(truth.kcr3)
    holder.wait_ready(epoch=event["epoch"])
    equal(holder.read_text("vm1", truth.symbols["linux_banner"], 512).strip(), truth.version,
          "linux_banner")
    equal(len(sensor.contexts()), 1, "contexts of memory that was not there yet")
    broker.stop()


if __name__ == "__main__":
    vmlab.main({"newest_shm": newest_shm, "newest_ram": newest_ram,
                "newest_offset": newest_offset, "newest_mapped_ram": newest_mapped_ram})

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The guests of deploy/recipes are started as they are written there, and served."""

import os
import re
import shlex
import subprocess
import xml.etree.ElementTree as xml

import vmlab
from vmlab import Broker, Child, Holder, check, equal, wait_until
from vmlab.guest import QEMU
from vmlab.lab import SOURCE, _mount
from vmlab.libvirt import EMULATOR, Libvirt

RECIPES = os.path.join(SOURCE, "deploy", "recipes")
MIB = 256
HUGE_PAGES = MIB // 2 + 8
# Its name there, what it is started by, its guard, and how many RAM files it has.
BY_HAND = {"by-hand": ("qemu-file", "ro-mount", 1), "in-memfd": ("qemu-memfd", None, 1),
           "as-unit": ("vmsig-guest@.service", "ro-mount", 1)}
DOMAINS = {"file": ("libvirt-file.xml", "ro-mount", 1), "memfd": ("libvirt-memfd.xml", None, 1),
           "numa": ("libvirt-numa.xml", "ro-mount", 2),
           "huge": ("libvirt-hugepages.xml", None, 1)}


def recipe(name):
    with open(os.path.join(RECIPES, name), encoding="utf-8") as file:
        return file.read()


def boot_options(lab):
    """What a test's guest has instead of a disk."""
    return ["-accel", "tcg", "-nodefaults", "-display", "none",
            "-kernel", lab.guest_file("vmlinuz"), "-initrd", lab.initrd(),
            "-append", lab.guest_cmdline()]


def of_unit(text, name, memory, options):
    """The commands of a unit, as systemd would run them: before, and QEMU."""
    text = text.replace("\\\n", " ").replace("%i", name)
    before = re.findall(r"^ExecStartPre=\+(.*)$", text, re.MULTILINE)
    start = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)[1].replace("${MEMORY}", memory)
    argv = shlex.split(start.replace("$OPTIONS", ""))
    equal(argv[0], "/usr/bin/qemu-system-x86_64", "what the unit starts")
    return [shlex.split(command) for command in before], [QEMU, *argv[1:], *options]


def start_by_hand(lab, name):
    file = BY_HAND[name][0]
    env = {**os.environ, "MEMORY": f"{MIB}M", "QEMU": QEMU}
    if file.endswith(".service"):
        before, argv = of_unit(recipe(file), name, f"{MIB}M", boot_options(lab))
        for command in before:
            # There is no user of that name here.
            subprocess.run(" ".join(command).replace(f"-o {name} ", "").split(), check=True)
        os.mkdir(f"/run/vmsig-guest-{name}", 0o700)
    else:
        argv = [os.path.join(RECIPES, file), name, *boot_options(lab)]
    return lab.own(Child(argv, lab.log(name), env=env))


def define(lab, libvirt, name):
    """The recipe's domain with the test's kernel instead of a disk, smaller, and under TCG."""
    domain = xml.fromstring(recipe(DOMAINS[name][0]))
    domain.set("type", "qemu")
    domain.find("name").text = name
    cells = domain.findall("cpu/numa/cell")
    for cell in cells:
        cell.set("memory", str(MIB // len(cells)))
        cell.set("unit", "MiB")
    memory = domain.find("memory")
    memory.set("unit", "MiB")
    memory.text = str(MIB)
    system, devices = domain.find("os"), domain.find("devices")
    for tag, text in (("kernel", lab.guest_file("vmlinuz")), ("initrd", lab.initrd()),
                      ("cmdline", lab.guest_cmdline())):
        xml.SubElement(system, tag).text = text
    devices.remove(devices.find("disk"))
    xml.SubElement(devices, "emulator").text = EMULATOR
    path = lab.path("tmp", f"{name}.xml")
    xml.ElementTree(domain).write(path)
    libvirt.virsh("define", path)


class HugePages:
    """As many as a domain needs, as long as it runs; `there` is whether they could be had."""

    PATH = "/proc/sys/vm/nr_hugepages"

    def __init__(self):
        with open(self.PATH, encoding="ascii") as file:
            self.before = int(file.read())
        self._write(self.before + HUGE_PAGES)
        with open(self.PATH, encoding="ascii") as file:
            self.there = int(file.read()) >= self.before + HUGE_PAGES

    def _write(self, count):
        try:
            with open(self.PATH, "w", encoding="ascii") as file:
                file.write(str(count))
        except OSError:
            pass  # then there are none

    def stop(self):
        self._write(self.before)

    def signal(self, signum):
        """Nobody's."""


def recipes(lab):
    """Each is started in turn, and ended once its endpoint is ready."""
    huge = lab.own(HugePages())
    libvirt = Libvirt(lab, memory="/run/vmsig/ram/libvirt")
    os.makedirs("/run/vmsig/ram", exist_ok=True)
    _mount("vmsig-ram", "/run/vmsig/ram", "tmpfs", 0, "mode=0711")
    broker = Broker(lab, [], [vmlab.tenant()], served=recipe("endpoints.yaml"))
    holder = Holder(broker)
    if not huge.there:
        print("no huge pages can be had here: libvirt-hugepages.xml is not started")
        del DOMAINS["huge"]
    for name in DOMAINS:
        define(lab, libvirt, name)
    wanted = {**BY_HAND, **DOMAINS}
    for names in (list(wanted)[i:i + 2] for i in range(0, len(wanted), 2)):
        running = {}
        for name in names:
            if name in BY_HAND:
                running[name] = start_by_hand(lab, name)
            else:
                libvirt.virsh("start", name)
        for name in names:
            served(holder, name, *wanted[name][1:])
            if name in running:
                running[name].stop()
            else:
                libvirt.virsh("destroy", name)


def served(holder, name, guard, files):
    def probe():
        entry = holder.endpoints().get(name)
        return entry if entry and entry["state"] == "ready" else None
    entry = wait_until(f"{name} is ready", probe, 90, 0.2)
    info = holder.json("info", name)
    equal(len(info["files"]), files, f"RAM files of {name}")
    check(guard is None or entry["guard"] == guard, f"{name}: {entry}")


if __name__ == "__main__":
    vmlab.main({"recipes": recipes})

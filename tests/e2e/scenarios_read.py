#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a holder reads of one guest, against what the guest says about itself."""

import os
import struct
import subprocess

import vmlab
from vmlab import Broker, CtlError, Guest, Holder, check, equal, number

FOUR_GIB = 1 << 32
LA57 = 2


def _lab(lab, **options):
    guest = Guest(lab, **options)
    broker = Broker(lab, [vmlab.qemu_endpoint(lab)],
                    [vmlab.tenant(), vmlab.tenant("nobody", [65534])])
    truth = guest.boot()
    holder = Holder(broker)
    info = holder.wait_ready()
    return guest, broker, holder, truth, info


def _context(info, truth, levels):
    equal(number(info["kcr3"]), truth.kcr3, "kcr3")
    equal(info["levels"], levels, "levels")
    equal(truth.la57, levels == 5, "la57 in the guest")


def _segments(holder, truth):
    """Every range that the kernel calls RAM is in a segment; ranges above 4 GiB too."""
    env = holder.environment()
    text = env["VMSIG_SEGS"]
    segments = [[int(part, 0) for part in entry.split(":")] for entry in text.split(",") if entry]
    if not segments:
        segments = [[0, int(env["VMSIG_LOW"], 0), 0]]
    for first, last in truth.ram:
        check(any(gpa <= first and last < gpa + length for gpa, length, _ in segments),
              f"{first:#x}-{last:#x} of /proc/iomem is in no segment of {segments}")
    return segments


def _reads(holder, truth):
    banner = truth.symbols["linux_banner"]
    equal(holder.read_text("vm1", banner, 512).strip(), truth.version, "linux_banner")
    physical = truth.physical("linux_banner")
    equal(holder.read("vm1", physical, 64, phys=True), holder.read("vm1", banner, 64),
          "the banner's bytes by physical and by virtual address")
    page = holder.json("translate", "vm1", hex(banner))
    equal(number(page["gpa"]), physical, "translate linux_banner")
    check("w" not in page["prot"], f"linux_banner is mapped writable: {page}")
    uts = holder.read("vm1", truth.symbols["init_uts_ns"], 4096)
    check(truth.release.encode() in uts, "init_uts_ns has no release")
    # Longer than a page, over page borders, through 2 MiB pages.
    text = holder.read("vm1", truth.symbols["_stext"] + 1000, 300000)
    equal(len(text), 300000, "bytes read")


def _pmap(holder, truth):
    lines = holder.ctl("--json", "pmap", "vm1", "--start", hex(truth.symbols["_text"]),
                       "--end", hex(truth.symbols["init_uts_ns"])).splitlines()
    ranges = [vmlab.decode(line) for line in lines]

    def prot(symbol):
        address = truth.symbols[symbol]
        for entry in ranges:
            if number(entry["gva"]) <= address < number(entry["gva"]) + number(entry["len"]):
                return entry["prot"]
        raise AssertionError(f"pmap has no {symbol}: {ranges}")

    check("x" in prot("_stext") and "w" not in prot("_stext"), "text is not r-x")
    check("w" in prot("init_task") and "x" not in prot("init_task"), "data is not rw-")


def _scan(holder, truth):
    found = holder.ctl("--json", "scan", "vm1", "str:" + truth.version[:60], "--virt",
                       "--start", hex(truth.symbols["_text"])).splitlines()
    check(truth.symbols["linux_banner"] in [number(vmlab.decode(line)["addr"]) for line in found],
          f"a scan did not find linux_banner: {found}")


def _scan_page(guest, holder):
    """A random page is found where the guest says it is, and nothing is allocated by looking."""
    address, content = guest.random_page()
    equal(holder.read("vm1", address, 4096, phys=True), content, "a random page")
    before = _allocated(guest)
    found = holder.ctl("--json", "scan", "vm1", "hex:" + content[:32].hex()).splitlines()
    check(address in [number(vmlab.decode(line)["addr"]) for line in found],
          f"a scan did not find the random page at {address:#x}: {found}")
    grown = _allocated(guest) - before
    check(grown < 16 << 20, f"the scan allocated {grown} bytes of guest RAM")


def _allocated(guest):
    """Bytes of memory behind the guest's RAM."""
    if guest.backend == "file":
        return int(subprocess.check_output(["stat", "-c", "%b", guest.ram_path])) * 512
    return 0


def _errors(holder):
    for arguments, status in ((("read", "vm1", "0x8000000000000000", "8"), None),
                              (("read", "vm1", "0xfffffffff000", "8", "--phys"), None),
                              (("read", "vm2", "0", "8"), 3), (("read", "vm1", "x", "8"), 2)):
        try:
            holder.ctl(*arguments)
        except CtlError as error:
            check(status in (None, error.status), f"{error}, wanted exit {status}")
            check(error.stderr.startswith("vmsigctl"), f"not a clear message: {error}")
        else:
            raise AssertionError(f"{arguments} was no error")


def _exec(holder, truth):
    env = holder.environment()
    equal(int(env["VMSIG_KCR3"], 0), truth.kcr3, "VMSIG_KCR3")
    equal(env["VMSIG_ENDPOINT"], "vm1", "VMSIG_ENDPOINT")
    check(int(env["VMSIG_FLAGS"], 0) & 1, "VMSIG_MEMCTX_RDONLY is not set")
    equal(bool(int(env["VMSIG_FLAGS"], 0) & LA57), truth.la57, "VMSIG_MEMCTX_LA57")
    for fd in (3, 4):
        text = holder.ctl("exec", "vm1", "--", "cat", f"/proc/self/fdinfo/{fd}").decode()
        flags = int(next(line for line in text.splitlines() if line.startswith("flags:"))[6:], 8)
        equal(flags & 3, 0, f"R1: access mode of descriptor {fd}")
    magic = holder.ctl("exec", "vm1", "--", "head", "-c", "24", "/proc/self/fd/4")
    word, version, _, epoch = struct.unpack("<QIII", magic[:20])
    equal(word, 0x484F434749534D56, "magic of the coherence page")
    equal((version, epoch), (2, int(env["VMSIG_EPOCH"], 0)), "version and epoch in the page")


def _everything(holder, truth):
    _reads(holder, truth)
    _pmap(holder, truth)
    _scan(holder, truth)
    _exec(holder, truth)
    _errors(holder)


def q35_max(lab):
    guest, _, holder, truth, info = _lab(lab)
    entry = holder.endpoint()
    equal(entry["guard"], "ro-mount", "guard of a file on tmpfs")
    equal(entry["ram_bytes"], 512 << 20, "ram_bytes")
    _context(info, truth, 5)
    _segments(holder, truth)
    _everything(holder, truth)
    _scan_page(guest, holder)
    # The same from a uid without any privilege.
    nobody = Holder(holder.broker, "sensor/nobody", 65534)
    _reads(nobody, truth)


def pc_qemu64(lab):
    guest, _, holder, truth, info = _lab(lab, machine="pc", cpu="qemu64", backend="memfd")
    nobody = Holder(holder.broker, "sensor/nobody", 65534)
    equal(nobody.endpoint()["guard"], "mode", "guard of QEMU's memfd")
    equal(holder.endpoint()["guard"], "none", "the same towards root")
    _context(info, truth, 4)
    _segments(holder, truth)
    _everything(holder, truth)
    _scan_page(guest, holder)


def _high(lab, machine, low):
    guest, _, holder, truth, info = _lab(lab, machine=machine, memory="5G")
    _context(info, truth, 5)
    equal(number(info["low"]), low, "low")
    segments = _segments(holder, truth)
    equal(sum(length for _, length, _ in segments if length > 64 << 20), 5 << 30,
          f"bytes in {segments}")
    address, content = guest.random_page(FOUR_GIB)
    check(address >= FOUR_GIB, f"{address:#x} is not above 4 GiB")
    equal(holder.read("vm1", address, 4096, phys=True), content, "a page above 4 GiB")
    _reads(holder, truth)
    used = _allocated(guest)
    check(used < 2 << 30, f"{used} bytes of guest RAM are in use; most of it should be holes")
    _scan_page(guest, holder)


def q35_high(lab):
    _high(lab, "q35", 0x80000000)


def pc_high(lab):
    _high(lab, "pc", 0xC0000000)


def relative_ram(lab):
    """RAM is what QEMU maps: by a relative path, beside another file of its size, and renamed."""
    other = ("-object", "memory-backend-memfd,id=other,size=512M,share=on")
    guest, _, holder, truth, info = _lab(lab, backend="relative", extra=other)
    _context(info, truth, 5)
    os.rename(guest.ram_path, guest.ram_path + ".moved")
    _reads(holder, truth)
    equal(holder.wait_ready()["epoch"], info["epoch"], "epoch")
    os.unlink(guest.ram_path + ".moved")


def hugetlb(lab):
    with open("/proc/sys/vm/nr_hugepages", encoding="ascii") as file:
        before = file.read().strip()
    with open("/proc/meminfo", encoding="ascii") as file:
        free = next(int(line.split()[1]) for line in file if line.startswith("HugePages_Free"))
    wanted = 256 + 8
    try:
        if free < wanted:
            with open("/proc/sys/vm/nr_hugepages", "w", encoding="ascii") as file:
                file.write(str(int(before) + wanted - free))
            with open("/proc/sys/vm/nr_hugepages", encoding="ascii") as file:
                if int(file.read()) < int(before) + wanted - free:
                    raise vmlab.Skip("this machine gives no 512 MiB of huge pages")
        _, _, holder, truth, info = _lab(lab, backend="hugetlb")
        _context(info, truth, 5)
        _reads(holder, truth)
        _exec(holder, truth)
        lab.close()
    except OSError as error:
        raise vmlab.Skip(f"huge pages cannot be had: {error}") from error
    finally:
        lab.close()
        with open("/proc/sys/vm/nr_hugepages", "w", encoding="ascii") as file:
            file.write(before)


def isolation(lab):
    """Two guests, two tenants: neither learns that the other's guest exists."""
    guests = [Guest(lab, name=name, memory="256M", cpu="qemu64") for name in ("vm1", "vm2")]
    broker = Broker(lab, [vmlab.qemu_endpoint(lab, "vm1"), vmlab.qemu_endpoint(lab, "vm2")],
                    [vmlab.tenant("one", [0], ["vm1"]), vmlab.tenant("two", [65534], ["vm2"])])
    truths = [guest.boot() for guest in guests]
    one = Holder(broker, "sensor/one")
    two = Holder(broker, "sensor/two", 65534)
    for holder, mine, other, truth in ((one, "vm1", "vm2", truths[0]),
                                       (two, "vm2", "vm1", truths[1])):
        info = holder.wait_ready(mine)
        equal(number(info["kcr3"]), truth.kcr3, f"kcr3 of {mine}")
        equal(list(holder.endpoints()), [mine], "endpoints that are shown")
        answers = []
        for name in (other, "nothing"):
            try:
                holder.ctl("--wait", "1", "info", name)
                raise AssertionError(f"{holder.name} may see {name}")
            except CtlError as error:
                answers.append((error.status, error.stderr.replace(name, "NAME")))
        equal(answers[0], answers[1], "the answers for a foreign and for no endpoint")
    # A stolen key does not work from another uid.
    two.identity = broker.issue("sensor/one", 65534)
    try:
        two.endpoints()
    except CtlError:
        return
    raise AssertionError("sensor/one's certificate was accepted from uid 65534")


if __name__ == "__main__":
    vmlab.main({"q35_max": q35_max, "pc_qemu64": pc_qemu64, "q35_high": q35_high,
                "pc_high": pc_high, "hugetlb": hugetlb, "isolation": isolation,
                "relative_ram": relative_ram})

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Python package on a real guest: contexts across a reset, what is in the guest, leases, writes,
and the layer for Volatility, which stands in for itself here: a module with the class that handlers
derive from, and an opener of locations, are all that the layer sees of it."""

import hashlib
import os
import sys
import types
import urllib.request

import vmlab
from vmlab import Broker, Guest, Holder, check, equal

PAGE = "/run/shared"


def _import(build):
    sys.path.insert(0, os.path.join(build, "python"))
    import vmsig  # pylint: disable=import-outside-toplevel
    return vmsig


def _raises(kind, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except kind as error:
        return error
    raise AssertionError(f"{call} did not raise {kind}")


def _dumped(address):
    """Whether a core dump of this process would have what is mapped at that address."""
    inside = False
    with open("/proc/self/smaps", encoding="ascii") as lines:
        for line in lines:
            word = line.split(maxsplit=1)[0]
            if "-" in word:
                start, end = (int(number, 16) for number in word.split("-"))
                inside = start <= address < end
            elif inside and word == "VmFlags:":
                return "dd" not in line.split()
    raise AssertionError(f"nothing is mapped at {address:#x}")


def _look_around(vmsig, context, boot):
    banner = boot.symbols["linux_banner"]
    text = context.mem.read_virtual(banner, 60)
    equal(text.decode(), boot.version[:60], "linux_banner")
    page = context.mem.translate(banner)
    place = page.gpa + banner - page.gva
    equal(context.mem.read(place, 60), text, "the same by its physical address")
    equal(bytes(context.mem.view(place, 60)), text, "the same, as it lies in RAM")
    check(_raises(TypeError, context.mem.view(place, 60).__setitem__, 0, 0), "a view can be written")
    view = context.mem.view(place, 60)
    check(not _dumped(int(vmsig.ffi.ffi.cast("uintptr_t", vmsig.ffi.ffi.from_buffer(view)))),
          "a core dump has the guest's memory")
    equal(context.mem.scan(text, banner - 64, banner + 64, virtual=True), [banner], "scan")
    check(place in context.mem.scan(text), "a scan of RAM")
    equal(len(context.mem.pmap(limit=3)), 3, "ranges of a limited map")
    with context.mem.coherent():
        context.mem.read(place, 8)
    refused = _raises(vmsig.NotMapped, context.mem.read_virtual, 0x1000, 8)
    check("8 bytes at 0x1000" in str(refused), f"where is not said: {refused}")
    refused = _raises(vmsig.OutOfRange, context.mem.read, 1 << 45, 8)
    check(hex(1 << 45) in str(refused), f"where is not said: {refused}")
    check("0x1000" in str(_raises(vmsig.NotMapped, context.mem.translate, 0x1000)), "where is not said")
    _raises(vmsig.OutOfRange, context.mem.view, place, 1 << 45)


def _look_inside(vmsig, context, holder, boot):
    told = {process["pid"]: process for process in holder.json("ps", "vm1")}
    with vmsig.Guest(context) as guest:
        equal(guest.os, "linux", "the system")
        found = {process.pid: process for process in guest.processes()}
        lasting = {pid for pid in told if not told[pid]["name"].startswith("kworker")}
        check(lasting <= set(found), f"{lasting - set(found)} are missing")
        for pid in lasting:
            equal((found[pid].name, found[pid].parent), (told[pid]["name"], told[pid]["parent"]), pid)
        init = guest.process(1)
        check(guest.command_line(init), "init has no command line")
        check(any(entry.rights == "r-xp" for entry in guest.maps(init)), "init runs nothing")
        check(len(guest.files(init)) >= 3, "init has no files")
        equal([thread.pid for thread in guest.threads(init)], [1], "threads of init")
        equal(guest.symbol("linux_banner").address, boot.symbols["linux_banner"], "a symbol")
        equal(guest.symbol_at(boot.symbols["linux_banner"]).address, boot.symbols["linux_banner"], "")
        equal(guest.symbol("no_such_symbol"), None, "a symbol that is none")
        check("no process 99999" in str(_raises(vmsig.Gone, guest.process, 99999)), "which one is not said")
        _look_at_content(vmsig, guest, holder, init)
        elf = context.mem.read_virtual(guest.maps(init)[0].start, 4, init.root)
        equal(elf, b"\x7fELF", "the first bytes of init")


def _look_at_content(vmsig, guest, holder, init):
    """What is there beside processes, as vmsigctl says it."""
    equal([(mount.path, mount.type, mount.read_only) for mount in guest.mounts(init)],
          [(entry["path"], entry["type"], entry["read_only"]) for entry in holder.json("mounts", "vm1")],
          "mounts")
    told = holder.json("dmesg", "vm1")
    equal([record.text for record in guest.log()][:len(told)],
          [entry["text"] for entry in told][:len(guest.log())], "the log")
    check(not guest.sockets(init) and not guest.sockets(), "sockets where there is no network")
    kernel = {name.name: name.address for name in guest.exports()}
    equal(kernel["schedule"], guest.symbol("schedule").address, "what the kernel exports")
    module = next(module for module in guest.modules() if module.name == "pvpanic")
    equal({name.name: name.address for name in guest.sections(module)},
          {entry["name"]: int(entry["addr"], 16) for entry in holder.json("sections", "vm1", "pvpanic")},
          "sections")
    exported = {name.name for name in guest.exports(module)}
    check(exported and exported < {name.name for name in guest.module_symbols(module)}, exported)
    program, = [image for image in guest.images(init) if image.program]
    vdso, = [image for image in guest.images(init) if image.path == "[vdso]"]
    equal((program.path, guest.image_needed(init, program), len(guest.image_imports(init, program))),
          ("/bin/busybox", [], 0), "a static program")
    check(".text" in {name.name for name in guest.image_sections(init, program)}, "its sections")
    check("__vdso_time" in {name.name for name in guest.image_exports(init, vdso)}, "the vdso")
    file = guest.file(init, "/bin/busybox")
    digest = hashlib.md5(file.read()).hexdigest()
    equal(guest.program(init).size, file.size, "the program as a file")
    equal(hashlib.md5(holder.ctl("cat", "vm1", "/bin/busybox")).hexdigest(), digest, "a file")
    equal(file.resident(), list(range(-(-file.size // file.PAGE))), "its pages")
    where = guest.registers(guest.process(2)).values
    check(where["rsp"] >> 63 and "schedule" in guest.symbol_at(where["rip"]).name, where)
    check(guest.registers(init).values["cs"] == 0x33, "init was in its own program")
    _raises(vmsig.NotMapped, guest.file, init, "/no/such/file")
    _raises(vmsig.NotMapped, guest.open_file, init, 999)
    equal(list(guest.check()), [], "findings")


def _write(vmsig, writer, connection, page):
    with writer.lease("vm1", [(page, page + 0xfff)], ttl=30) as lease:
        check(lease.held and lease.remaining > 0, "a lease that was granted is not held")
        done = lease.write(page, b"\1" * 8, want_old=True)
        equal((done.old, done.written), (bytes(8), 8), "the first write")
        lease.write(page, b"\2" * 8, expect=b"\1" * 8)
        _raises(vmsig.CompareFailed, lease.write, page, b"\3" * 8, expect=b"\1" * 8)
        _raises(vmsig.OutOfRange, lease.write, page + 0x1000, b"\3")
        lease.write_batch([vmsig.Op(page + 16, b"\4" * 4), vmsig.Op(page + 24, b"\5" * 4)])
        lease.write_bulk(page + 32, b"\6" * 1000)
        writer.keep(0.01)
        other = _raises(vmsig.LeaseHeld, writer.lease, "vm1", [(page, page)], wait=False)
        equal(other.name, "LEASE_HELD", "the name of an error")
        got = connection.context("vm1").mem.read(page, 1032)
    equal(got, b"\2" * 8 + bytes(8) + b"\4" * 4 + bytes(4) + b"\5" * 4 + bytes(4) + b"\6" * 1000,
          "what was written")
    check(not lease.held, "a lease that was released is held")
    _raises(vmsig.LeaseOver, lease.write, page, b"\7")
    moved = vmsig.errors.error(-vmsig.errors.lib.VMSIG_ERR_MOVED,
                               "the guest runs on the host 'host2' now, and so does its lease")
    check(isinstance(moved, vmsig.Moved) and moved.host == "host2", f"where it went: {moved!r}")


def _take_over(vmsig, writer, heir, page):
    """As whoever goes on where the guest was migrated to."""
    lease = writer.lease("vm1", [(page, page + 0xfff)], ttl=3600)
    _raises(vmsig.LeaseOver, heir.resume, lease.id, lease.token + 1)
    with heir.resume(lease.id, lease.token) as taken:
        equal((taken.held, taken.id, taken.token), (True, lease.id, lease.token), "taken over")
        equal(taken.write(page, b"\1" * 8, want_old=True).old, b"\2" * 8, "a write under it")
    lease.close()


def _volatility(context):
    """As Volatility opens a location, with the handlers that derive from its class."""
    resources = types.ModuleType("volatility3.framework.layers.resources")
    resources.VolatilityHandler = type("VolatilityHandler", (urllib.request.BaseHandler,), {})
    layers = types.ModuleType("volatility3.framework.layers")
    layers.resources = resources
    sys.modules.update({"volatility3": types.ModuleType("volatility3"),
                        "volatility3.framework": types.ModuleType("volatility3.framework"),
                        "volatility3.framework.layers": layers,
                        "volatility3.framework.layers.resources": resources})
    from vmsig import volatility  # pylint: disable=import-outside-toplevel,unused-import

    handlers = resources.VolatilityHandler.__subclasses__()
    equal([scheme for handler in handlers for scheme in handler.non_cached_schemes()], ["vmsig"], "")
    page = context.mem.translate(0xffffffff80000000 | context.mem.pmap(0xffffffff80000000, limit=1)[0].gva)
    with urllib.request.build_opener(*handlers).open("vmsig://vm1") as file:
        file.seek(page.gpa)
        equal(file.read(64), context.mem.read(page.gpa, 64), "what Volatility reads")
        equal(file.seek(0, os.SEEK_END), 512 << 20, "the end of RAM")
        equal(file.read(16), b"", "behind the end")
        # Adapters' windows between RAM read as zeros.
        file.seek(0xa0000)
        equal(len(file.read(0x60000)), 0x60000, "a read over what is no RAM")


def python(lab):
    vmsig = _import(lab.build)
    guest = Guest(lab)
    broker = Broker(lab, [vmlab.qemu_endpoint(lab, writable=True)],
                    [vmlab.operator_tenant(), vmlab.tenant()])
    holder = Holder(broker)
    boot = guest.boot()
    guest.console.run("insmod /modules/pvpanic.ko")
    os.environ.update(VMSIG_IDENTITY=holder.identity, VMSIG_SOCKET=broker.socket)
    operator = broker.identity("operator/ops")
    with vmsig.Connection() as connection, \
            vmsig.Writer(operator, broker.write_socket) as writer:
        contexts = connection.contexts("vm*")
        context = next(contexts)
        equal((context.endpoint, context.os, context.kcr3), ("vm1", "linux", boot.kcr3), "the context")
        equal([entry.state for entry in connection.endpoints()], ["ready"], "endpoints")
        _look_around(vmsig, context, boot)
        _look_inside(vmsig, context, holder, boot)
        guest.console.run(f"guest-tool page {PAGE} >/run/page.txt")
        guest.console.run(f"dd if=/dev/zero of={PAGE} bs=4096 count=1 conv=notrunc")
        page = int(guest.console.run("cat /run/page.txt").split()[1], 16)
        with vmsig.Connection() as second:
            _write(vmsig, writer, second, page)
            with vmsig.Writer(operator, broker.write_socket) as heir:
                _take_over(vmsig, writer, heir, page)
            _raises(vmsig.NotReady, second.context, "nothing", timeout=0)
        _volatility(context)

        guest.reset()
        following = next(contexts)
        check(following.epoch > context.epoch, "a reset guest has an old epoch")
        _raises(vmsig.StaleEpoch, context.mem.read, 0x1000, 8)
        context.close()
        _raises(ValueError, context.mem.read, 0x1000, 8)
        following.close()


if __name__ == "__main__":
    vmlab.main({"python": python})

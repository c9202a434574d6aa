#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is found in a guest's memory, against what the guest's own /proc says."""

import base64
import ctypes
import errno
import hashlib
import json
import os
import re
import struct
import subprocess

import percept_check
import percept_content
import percept_forks
import percept_images
import percept_shim
import percept_truth
import percept_types
import vmlab
from vmlab import Broker, Child, CtlError, Guest, Holder, check, equal, number, wait_until

def _refusals(holder):
    for words, status in ((("maps", "vm1", "99999"), 3), (("maps", "vm1", "x"), 2),
                          (("symbols", "vm1", "no_such_symbol"), 3), (("ps", "nothing"), 3),
                          (("ps", "vm1", "--pid", "99999"), 3), (("ps", "vm1", "--pid", "x"), 2),
                          (("pmap", "vm1", "--symbol", "_text", "--start", "1"), 2),
                          (("scan", "vm1", "x", "--symbol", "_text", "--end", "1"), 2),
                          (("pmap", "vm1", "--symbol", "no_such_symbol"), 3),
                          (("maps", "vm1"), 2), (("maps", "vm1", "1", "--pid", "1"), 2)):
        try:
            holder.ctl(*words)
        except CtlError as error:
            equal(error.status, status, f"exit status of {words}")
        else:
            raise AssertionError(f"{words} did not fail")


def _sleeper(truth):
    """The process with an environment of its own."""
    return next(process for process in truth.processes.values()
                if process["command"] and process["command"][-1] == "100005")


def _by_pid(holder, truth):
    """Where a process is named, it alone is shown, however that is written."""
    sleeper = _sleeper(truth)
    pid, parent = str(sleeper["pid"]), str(sleeper["parent"])
    alone, = holder.json("ps", "--pid", pid, "vm1")
    equal((alone["pid"], alone["parent"]), (sleeper["pid"], sleeper["parent"]), "ps --pid")
    below = holder.ctl("ps", "--tree", "--pid", parent, "vm1").decode().splitlines()
    check(below[1].split()[0] == parent and any(line.split()[0] == pid for line in below[2:]),
          f"a tree from {parent} on: {below}")
    check(all(line.split()[0] != "2" for line in below[1:]), f"others are in the tree: {below}")
    for command in ("threads", "maps", "files", "environ"):
        equal(holder.json(command, "--pid", pid, "vm1"), holder.json(command, "vm1", pid), command)


def _by_descriptor(lab, guest, holder, boot):
    """The library by a bare descriptor of the guest's memory, without a broker."""
    lib = ctypes.CDLL(os.path.join(lab.build, "clients", "package", "libvmsig.so"))
    lib.vmsig_os_symbol_count.restype = ctypes.c_size_t
    os_handle, error = ctypes.c_void_p(), ctypes.create_string_buffer(256)
    low = os.stat(guest.ram_path).st_size  # it is all below where devices are
    with open(guest.ram_path, "rb") as ram:
        status = lib.vmsig_linux_open_ro_fd(
            ctypes.byref(os_handle), ram.fileno(), ctypes.c_uint64(low), ctypes.c_uint64(boot.kcr3),
            5 if boot.la57 else 4, error, ctypes.c_size_t(len(error)))
    equal((status, error.value), (0, b""), "by a bare descriptor")
    equal(lib.vmsig_os_symbol_count(os_handle), len(holder.ctl("symbols", "vm1").splitlines()),
          "symbols by a bare descriptor")
    lib.vmsig_os_close.restype = ctypes.c_void_p
    lib.vmsig_os_close(os_handle)


def _places(holder, truth, boot):
    """Symbols by name, memory of processes by pid."""
    banner = holder.ctl("read", "vm1", "256", "--symbol", "linux_banner", "--format", "str")
    equal(banner.decode().strip(), boot.version, "linux_banner by its name")
    page = holder.json("translate", "vm1", "--symbol", "_text+0x1000")
    equal(number(page["gva"]), boot.symbols["_text"] + 0x1000, "_text+0x1000")
    place = holder.json("scan", "vm1", "Linux version", "--symbol", "linux_banner", "--limit", "1")
    equal((number(place["addr"]), place["space"]), (boot.symbols["linux_banner"], "virtual"),
          "the first banner from its symbol on")
    beyond = hex(boot.symbols["linux_banner"] + 4095)
    none = holder.ctl("scan", "vm1", boot.version[:60], "--symbol", "linux_banner+1", "--end", beyond)
    equal(none, b"", "a banner behind its beginning")
    begins = holder.ctl("pmap", "vm1", "--symbol", "_text").decode().splitlines()[0]
    equal(int(begins.split("-")[0], 16), boot.symbols["_text"], "pmap from a symbol on")
    sleeper = _sleeper(truth)
    pid = str(sleeper["pid"])
    first = sleeper["maps"][0]
    elf = holder.json("read", "vm1", hex(first["start"]), "4", "--pid", pid)
    equal(elf["hex"], "7f454c46", "the first bytes of a program")
    found = holder.ctl("scan", "vm1", "PERCEPT=seen", "--pid", pid, "--limit", "1").decode()
    check(int(found, 0) >> 40 == 0x7f, f"the environment is at {found}, which is no stack")
    mapped = holder.ctl("pmap", "vm1", "--pid", pid, "--end", "0x7fffffffffff").decode()
    check(f"{first['start']:016x}-" in mapped, f"pmap of a process has no {first['start']:#x}")


PATIENT = ("-iex", "set remotetimeout 60")  # two seconds are few on a loaded machine


def _tool(*argv):
    """What another program makes of a dump."""
    if argv[0] == "gdb":
        argv = ("gdb", *PATIENT, *argv[1:])
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    equal(done.returncode, 0, f"{argv[0]}: {done.stderr}")
    return done.stdout


def _loads(path):
    with open(path, "rb") as file:
        head = file.read(1 << 20)
    count = struct.unpack_from("<H", head, 56)[0]
    return [struct.unpack_from("<IIQQQQQQ", head, 64 + 56 * i) for i in range(count)]


def _dump_elf(lab, holder, boot):
    path = lab.path("vm1.core")
    told = holder.json("dump", "vm1", "-o", path)
    check(told["coherent"], f"nobody wrote, and yet: {told}")
    stat = os.stat(path)
    equal((stat.st_mode & 0o777, stat.st_size), (0o600, told["size"]), "mode and size of a dump")
    check(stat.st_blocks * 512 < stat.st_size, "a dump without holes")
    loads = [load for load in _loads(path) if load[0] == 1]
    physical = [load[4] for load in loads]
    equal(physical, sorted(physical), "p_paddr ascend")
    for load, following in zip(loads, loads[1:]):
        check(load[4] + load[6] <= following[4], "loads overlap")
    check("VMCOREINFO" in _tool("readelf", "-nW", path), "no VMCOREINFO among the notes")
    script = ("import drgn, sys; p = drgn.Program(); p.set_core_dump(sys.argv[1]); "
              "print(p.read(int(sys.argv[2], 0), 64).decode())")
    banner = _tool("/usr/bin/python3", "-c", script, path, hex(boot.symbols["linux_banner"]))
    check(banner.startswith(boot.version[:60]), f"drgn reads: {banner}")
    try:
        holder.ctl("dump", "vm1", "-o", path)
    except CtlError as error:
        equal(error.status, 1, "a dump over a file")
    else:
        raise AssertionError("a file was written over")
    os.unlink(path)


def _dump_kcore(lab, holder, boot, truth):
    path = lab.path("vm1.kcore")
    holder.ctl("dump", "vm1", "-o", path, "--format", "elf-kcore")
    module = truth.modules["pvpanic"][0]
    told = _tool("gdb", "-nx", "-batch", "-ex", f"x/s {boot.symbols['linux_banner']:#x}",
                 "-ex", f"x/4xb {module:#x}", "-c", path)
    check(boot.version[:60] in told, f"gdb reads: {told}")
    wanted = holder.json("read", "vm1", hex(module), "4")["hex"]
    found = "".join(word[2:] for word in re.findall(r"0x[0-9a-f]{2}\b", told)[-4:])
    equal(found, wanted, "the first bytes of a module, as gdb reads them")
    os.unlink(path)


def _gdb(holder, boot):
    """A live guest in gdb, which can change nothing."""
    target = "target remote | " + " ".join(holder.argv("gdb", "vm1"))
    banner = boot.symbols["linux_banner"]
    told = _tool("gdb", "-nx", "-batch", "-ex", target, "-ex", f"x/s {banner:#x}",
                 "-ex", f"x/2i {boot.symbols['_stext']:#x}",
                 "-ex", "maintenance packet Qqemu.PhyMemMode:1",
                 "-ex", f"x/s {boot.physical('linux_banner'):#x}", "-ex", "detach")
    equal(told.count(boot.version[:60]), 2, f"banners in what gdb says: {told}")
    check("(bad)" not in told, f"gdb disassembles: {told}")
    done = subprocess.run(["gdb", *PATIENT, "-nx", "-batch", "-ex", target,
                           "-ex", f"set var *(char *){banner:#x} = 0"],
                          capture_output=True, text=True, timeout=120)
    check("Cannot access memory" in done.stderr, f"gdb could write: {done.stderr}")


CONNECT = ("import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(60); "
           "s.connect(sys.argv[1]); s.sendall(b'$?#3f'); print(s.recv(16))")
LIST = "import os, sys; print(os.listdir(sys.argv[1]))"


def _as_stranger(script, path):
    """What somebody else gets there."""
    done = subprocess.run(["/usr/bin/python3", "-c", script, path], capture_output=True, text=True,
                          timeout=120, user=65534, group=65534, extra_groups=[])
    return done.stdout + done.stderr


def _gdb_socket(lab, guest, holder, boot):
    """A socket in place of the pipe: for its owner alone, for one gdb after another, and of the
    guest as it is when that comes."""
    path, banner = lab.path("vm1.gdb"), boot.symbols["linux_banner"]
    child = lab.own(Child(holder.argv("gdb", "vm1", "--listen", path), lab.log("gdb")))
    wait_until("it listens", lambda: f"target remote {path}" in child.text(), 60)
    equal(os.stat(path).st_mode & 0o777, 0o600, "mode of the socket")
    asked = ("gdb", "-nx", "-batch", "-ex", f"target remote {path}", "-ex", f"x/s {banner:#x}")
    for end in ("detach", "disconnect", "kill"):
        told = _tool(*asked, "-ex", end)
        check(boot.version[:60] in told, f"gdb reads by a socket: {told}")
    check("PermissionError" in _as_stranger(CONNECT, path), "somebody else may connect")
    os.chmod(path, 0o666)
    for _ in range(3):
        told = _as_stranger(CONNECT, path)
        check("S05" not in told and "$" not in told, f"somebody else is answered: {told}")
    check("65534 may not" in child.text(), f"of a stranger: {child.text()}")
    again = subprocess.run(holder.argv("gdb", "vm1", "--listen", path), capture_output=True,
                           text=True, timeout=60, check=False)
    equal(again.returncode, 1, "exit status where a socket is already")
    check("there already" in again.stderr, f"where a socket is already: {again.stderr}")
    epoch = holder.json("info", "vm1")["epoch"]
    guest.reset()
    holder.wait_ready(epoch=epoch + 1)
    told = _tool(*asked[:-1], "x/xb $rsp", "-ex", "detach")
    check("0xff" in told, f"after a reset: {told}")
    child.signal(15)
    equal(child.wait(), 0, "exit status of what was told to end")
    check(not os.path.exists(path), "the socket is there still")


def _gdb_registers(holder, boot, elf):
    """What was saved of tasks that do not run."""
    target = "target remote | " + " ".join(holder.argv("gdb", "vm1"))
    told = _tool("gdb", "-nx", "-batch", elf, "-ex", target, "-ex", "info symbol $pc",
                 "-ex", "x/2i $pc", "-ex", "info registers rax rsp", "-ex", "detach")
    check("schedule" in told and "(bad)" not in told, f"where kthreadd went to sleep: {told}")
    check("<unavailable>" in told and re.search(r"rsp +0xff", told), f"its registers: {told}")
    pid = next(str(entry["pid"]) for entry in holder.json("ps", "vm1") if entry["name"] == "loaded")
    code = next(entry for entry in holder.json("maps", "vm1", pid)
                if entry["path"].endswith("libc.so.6") and "x" in entry["prot"])
    target = "target remote | " + " ".join(holder.argv("gdb", "vm1", "--pid", pid))
    told = _tool("gdb", "-nx", "-batch", "-ex", target, "-ex", "p/x $pc", "-ex", "p/x $cs",
                 "-ex", "x/2xb $pc-2", "-ex", "detach")
    place = int(re.search(r"\$1 = (0x[0-9a-f]+)", told)[1], 16)
    check(number(code["start"]) <= place < number(code["end"]), f"where it waits: {told}")
    check("$2 = 0x33" in told and "0x0f\t0x05" in told, f"behind its system call: {told}")


def _operate(lab, broker, operator, *arguments):
    environment = {**os.environ, "VMSIG_SOCKET": broker.socket, "VMSIG_IDENTITY": operator.identity}
    done = subprocess.run([lab.program("vmsigctl"), *arguments], env=environment, check=True,
                          capture_output=True, text=True, timeout=60)
    return done.stdout


def _write_by_name(lab, guest, broker, holder):
    """Where a symbol of the kernel is, or under a process' root; seen inside, and taken back."""
    operator = Holder(broker, "operator/ops")
    os.environ.update(VMSIG_WRITE_SOCKET=broker.write_socket, VMSIG_UNDO_DIR=lab.path("undo"))
    show = "cat /proc/sys/kernel/panic"
    before = guest.console.run(show).strip()
    _operate(lab, broker, operator, "write", "vm1", "--symbol", "panic_timeout", "--u32", "4711")
    equal(guest.console.run(show).strip(), "4711", "what the guest sees by the symbol")
    _operate(lab, broker, operator, "undo")
    equal(guest.console.run(show).strip(), before, "what it sees when that was taken back")
    first = holder.json("maps", "vm1", "1")[0]["start"]
    told = _operate(lab, broker, operator, "write", "vm1", first, "--pid", "1", "--hex", "7f454c46",
                    "--expect", "7f454c46", "--show-old")
    check("7f 45 4c 46" in told, f"what process 1 has at {first}: {told}")


def _gdb_writes(lab, guest, broker, elf):
    """As an operator; it is seen inside, leased, audited, and taken back."""
    operator = Holder(broker, "operator/ops")
    os.environ.update(VMSIG_WRITE_SOCKET=broker.write_socket, VMSIG_UNDO_DIR=lab.path("undo"))
    words = guest.console.run("guest-tool page /run/gdb").split()
    page, offset = int(words[1], 16), int(words[3])
    show = f"tail -c +{offset + 1} /run/gdb | head -c 8 | hexdump -v -e '1/1 \"%02x\"'; echo"
    before = guest.console.run(show).strip()
    wanted = f"set var *(unsigned long *){page:#x} = 0x1122334455667788"
    target = "target remote | " + " ".join(operator.argv("gdb", "vm1", "--write"))
    physical = ("-ex", "maintenance packet Qqemu.PhyMemMode:1")
    _tool("gdb", "-nx", "-batch", "-ex", target, *physical, "-ex", wanted, "-ex", "detach")
    equal(guest.console.run(show).strip(), "8877665544332211", "what the guest sees")
    _operate(lab, broker, operator, "undo")
    equal(guest.console.run(show).strip(), before, "what the guest sees when it was taken back")
    done = subprocess.run(["gdb", *PATIENT, "-nx", "-batch", elf, "-ex", target, "-ex", "break *&schedule",
                           "-ex", "continue"], capture_output=True, text=True, timeout=120)
    check("Cannot insert breakpoint" in done.stderr, f"a breakpoint: {done.stdout}{done.stderr}")
    records = subprocess.run(
        [lab.program("vmsigctl"), "--identity", broker.identity("admin/root"), "--socket",
         broker.admin_socket, "--json", "audit", "ls", "--kind", "write-result"],
        capture_output=True, text=True, check=True, timeout=60).stdout
    check(f"{page:x}" in records and records.count("ops") >= 2, f"records of writes: {records}")


def _drgn_with_types(holder, core, vmlinux):
    script = ("import sys, drgn; from drgn.helpers.linux.pid import for_each_task; "
              "p = drgn.Program(); p.set_core_dump(sys.argv[1]); p.load_debug_info([sys.argv[2]]); "
              "print(*sorted(t.pid.value_() for t in for_each_task(p)))")
    told = _tool("/usr/bin/python3", "-c", script, core, vmlinux)
    lasting = {entry["pid"] for entry in holder.json("ps", "vm1")
               if not entry["name"].startswith("kworker")}
    check(lasting <= {int(pid) for pid in told.split()}, f"drgn lists {told}, there are {lasting}")


def _crash_with_types(holder, boot, core, vmlinux):
    done = subprocess.run(["crash", "-s", vmlinux, core], capture_output=True, text=True, timeout=600,
                          input="sys\nmod\nrd linux_banner 2\np init_task.comm\nstruct list_head\n"
                                "exit\n")
    told = done.stdout
    for wanted in (boot.release, "Linux version 6.", "swapper/0", "pvpanic_pci", "SIZE: 16"):
        check(wanted in told, f"crash does not say {wanted}: {told}{done.stderr}")
    module = next(entry for entry in holder.json("modules", "vm1") if entry["name"] == "pvpanic")
    check(re.search(rf"pvpanic +{number(module['base']):x} +{module['size']} ", told),
          f"crash has another idea of {module}: {told}")


def _symbol_files(lab, guest, broker, holder, boot):
    """Symbols and types out of the guest, as debuggers and Volatility take them."""
    elf, banner = lab.path("vm1.elf"), boot.symbols["linux_banner"]
    holder.ctl("symbols", "vm1", "--elf", elf)
    equal(os.stat(elf).st_mode & 0o777, 0o600, "mode of a symbol file")
    target = "target remote | " + " ".join(holder.argv("gdb", "vm1"))
    told = _tool("gdb", "-nx", "-batch", elf, "-ex", target, "-ex", "x/s &linux_banner",
                 "-ex", "info symbol _stext", "-ex", "print init_task.comm", "-ex",
                 "print &((struct task_struct *)0)->comm", "-ex", "detach")
    check(f"{banner:#x}" in told and boot.version[:60] in told, f"gdb knows by name: {told}")
    check('= "swapper/0' in told, f"gdb knows the first task: {told}")
    comm = re.search(r"\(char \(\*\)\[16\]\) (0x[0-9a-f]+)", told)
    _gdb_registers(holder, boot, elf)
    _write_by_name(lab, guest, broker, holder)
    _gdb_writes(lab, guest, broker, elf)
    symbols = _tool("readelf", "-sW", elf)
    check(re.search(rf"{banner:016x} +0 OBJECT +GLOBAL .* linux_banner$", symbols, re.M),
          "readelf finds no linux_banner")
    told = guest.console.run("grep -F '[pvpanic]' /proc/kallsyms")
    missing = [line for line in told.splitlines() if not re.search(
        rf": {line.split()[0]} .* {re.escape(line.split()[2])}$", symbols, re.M)]
    equal(missing, [], f"symbols of a module of which there are {told.count('pvpanic')}")
    sections = _tool("readelf", "-SW", elf)
    check(".BTF" in sections, f"no types among {sections}")
    core = lab.path("vm1.core")
    holder.ctl("dump", "vm1", "-o", core)
    _drgn_with_types(holder, core, elf)
    _crash_with_types(holder, boot, core, elf)
    os.unlink(core)
    os.unlink(elf)

    table = json.loads(holder.ctl("symbols", "vm1", "--isf", "-"))
    slide = boot.symbols["_text"] - 0xffffffff81000000
    equal(table["symbols"]["linux_banner"]["address"], banner - slide, "an address in the table")
    equal(table["symbols"]["phys_startup_64"]["address"],
          boot.symbols["_text"] - slide - 0xffffffff80000000, "where it would be loaded")
    text = base64.b64decode(table["symbols"]["linux_banner"]["constant_data"])
    equal(text.rstrip(b"\0\n").decode(), boot.version.strip(), "the banner in the table")
    task = table["user_types"]["task_struct"]
    at = task["fields"]["comm"]["offset"]
    check(comm and number(comm[1]) == at, f"gdb has comm at {comm}, the table at {at:#x}")
    name = holder.json("read", "vm1", "16", "--symbol", f"init_task+{at:#x}")["hex"]
    equal(bytes.fromhex(name).split(b"\0")[0], b"swapper/0", "init_task.comm by the table")
    equal(table["symbols"]["init_task"]["type"], {"kind": "struct", "name": "task_struct"}, "a type")
    kinds = {field["type"]["kind"] for field in task["fields"].values()}
    check({"base", "struct", "pointer", "array", "bitfield"} <= kinds, f"kinds of members: {kinds}")
    check(len(table["enums"]) > 100 and table["base_types"]["int"]["signed"], "enums, base types")


class _Mounted:
    """`vmsigctl mount`, until it is told to end."""

    def __init__(self, lab, holder):
        self.folder = lab.path("mounted")
        os.mkdir(self.folder)
        self.child = lab.own(Child(holder.argv("mount", self.folder), lab.log("mount")))
        wait_until("it is mounted", lambda: os.path.ismount(self.folder), 20)

    def path(self, *parts):
        return os.path.join(self.folder, "vm1", *[str(part) for part in parts])

    def read(self, *parts, size=-1, at=0):
        with open(self.path(*parts), "rb") as file:
            file.seek(at)
            return file.read(size)

    def end(self):
        self.child.signal(15)
        equal(self.child.wait(), 0, "exit status of a mount that was told to end")
        check(not os.path.ismount(self.folder), "it is mounted still")


def _mount(lab, holder, guest, boot, truth):
    mounted = _Mounted(lab, holder)
    equal(os.listdir(mounted.folder), ["vm1"], "endpoints")
    told = _as_stranger(LIST, mounted.folder)
    check("PermissionError" in told and "vm1" not in told, f"somebody else sees: {told}")
    equal(_as_stranger(LIST, os.path.dirname(mounted.folder)).count("mounted"), 1,
          "what somebody else sees beside")
    again = subprocess.run(
        holder.argv("mount", mounted.folder), capture_output=True, timeout=60, check=False
    )
    equal(again.returncode, 1, "exit status of a second mount on the folder")
    check(b"shown on" in again.stderr, f"a second mount on the folder: {again.stderr}")
    check(not os.path.exists(os.path.join(mounted.folder, ".git")), "an endpoint .git")
    check(".git" not in mounted.child.text(), f"of what is not there: {mounted.child.text()}")
    info = holder.json("info", "vm1")
    equal(int(mounted.read("epoch")), info["epoch"], "epoch")
    equal(number(mounted.read("kcr3").decode().strip()), boot.kcr3, "kcr3")
    kallsyms = mounted.read("kallsyms")
    equal(hashlib.md5(kallsyms).hexdigest(), truth.symbols, "kallsyms")
    equal(os.stat(mounted.path("kallsyms")).st_size, len(kallsyms), "size of kallsyms")
    physical = boot.physical("linux_banner")
    equal(mounted.read("mem", at=physical, size=64).decode(), boot.version[:64], "mem")
    equal(mounted.read("memmap").split()[0], b"0", "memmap begins")
    script = ("import drgn, sys; p = drgn.Program(); p.set_core_dump(sys.argv[1]); "
              "print(p.read(int(sys.argv[2], 0), 64).decode())")
    banner = boot.symbols["linux_banner"]
    told = _tool("/usr/bin/python3", "-c", script, mounted.path("vmcore"), hex(banner))
    check(told.startswith(boot.version[:60]), f"drgn reads of the mounted core: {told}")
    told = _tool("gdb", "-nx", "-batch", "-ex", "x/s &linux_banner", mounted.path("vmlinux"),
                 mounted.path("kcore"))
    check(boot.version[:60] in told, f"gdb reads of the mounted core: {told}")
    check(mounted.read("isf.json", size=1) == b"{" and mounted.read("btf", size=2) == b"\x9f\xeb",
          "isf.json, btf")

    sleeper = next(process for process in truth.processes.values()
                   if process["command"] and process["command"][-1] == "100005")
    pid = sleeper["pid"]
    check(str(pid) in os.listdir(mounted.path("pid")), "a process is not there")
    equal(mounted.read("pid", pid, "cmdline").rstrip(b"\0").split(b"\0"),
          [word.encode() for word in sleeper["command"]], "cmdline")
    check(b"PERCEPT=seen\0" in mounted.read("pid", pid, "environ"), "environ")
    first = sleeper["maps"][0]
    equal(mounted.read("pid", pid, "mem", at=first["start"], size=4), b"\x7fELF", "mem of a process")
    check(f"{first['start']:08x}-".encode() in mounted.read("pid", pid, "maps"), "maps")
    with open(lab.path("tests", "loaded"), "rb") as file:
        own = hashlib.md5(file.read()).hexdigest()
    loaded = next(process["pid"] for process in truth.processes.values()
                  if process["name"] == "loaded")
    equal(hashlib.md5(mounted.read("pid", loaded, "exe")).hexdigest(), own, "exe")
    equal(os.stat(mounted.path("pid", loaded, "exe")).st_size,
          os.stat(lab.path("tests", "loaded")).st_size, "size of exe")
    memfd = next(process["pid"] for process in truth.processes.values()
                 if process["command"] and process["command"][-1] == "100008")
    equal(hashlib.md5(mounted.read("pid", memfd, "exe")).hexdigest(),
          guest.console.run("md5sum /bin/busybox").split()[0], "exe of what is in memory alone")
    check("exe" not in os.listdir(mounted.path("pid", 2)), "a kernel thread was started from a file")
    links = {int(fd): os.readlink(mounted.path("pid", pid, "fd", fd))
             for fd in os.listdir(mounted.path("pid", pid, "fd"))}
    equal({fd: link.removeprefix("guest:") for fd, link in links.items()}, sleeper["files"], "fd")
    for fd, link in links.items():
        if "/" in link:
            check(not os.path.exists(mounted.path("pid", pid, "fd", str(fd))),
                  f"descriptor {fd} of the guest leads to the host's {link}")
    for path, mode, wanted in ((mounted.path("mem"), "r+b", errno.EROFS),
                               (mounted.path("nothing"), "rb", errno.ENOENT),
                               (os.path.join(mounted.folder, "vm2"), "rb", errno.ENOENT),
                               (mounted.path("pid", 99999), "rb", errno.ENOENT)):
        try:
            open(path, mode)
        except OSError as error:
            equal(error.errno, wanted, f"opening {path} as {mode}")
        else:
            raise AssertionError(f"{path} was opened as {mode}")

    with open(mounted.path("mem"), "rb", buffering=0) as old:
        guest.reset()
        holder.wait_ready(epoch=info["epoch"] + 1)
        try:
            old.read(64)
        except OSError as error:
            equal(error.errno, errno.ESTALE, "a file of the old epoch")
        else:
            raise AssertionError("a file of the old epoch can be read")
    check(int(mounted.read("epoch")) > info["epoch"], "the new epoch is not told")
    mounted.end()


def _dump_flat(lab, holder, boot):
    physical = boot.physical("linux_banner")
    raw = lab.path("vm1.raw")
    with open(raw, "wb") as file:
        file.write(holder.ctl("dump", "vm1", "-o", "-", "--format", "raw"))
    with open(raw, "rb") as file:
        file.seek(physical)
        equal(file.read(64), holder.read("vm1", physical, 64, phys=True), "raw")
    os.unlink(raw)
    lime = lab.path("vm1.lime")
    holder.ctl("dump", "vm1", "-o", lime, "--format", "lime")
    with open(lime, "rb") as file:
        magic, version, first, last = struct.unpack("<IIQQ", file.read(24))
        equal((magic, version, first), (0x4C694D45, 1, 0), "the first range of LiME")
        check(last > physical, "linux_banner is not in the first range")
        file.seek(32 + physical)
        equal(file.read(64), holder.read("vm1", physical, 64, phys=True), "LiME")
    os.unlink(lime)


def _scene(lab, **options):
    guest = Guest(lab, **options)
    broker = Broker(lab, [vmlab.qemu_endpoint(lab, writable=True)],
                    [vmlab.operator_tenant(), vmlab.tenant(), vmlab.tenant("root", role="admin")])
    boot = guest.boot()
    holder = Holder(broker)
    holder.wait_ready()
    guest.console.run(percept_truth.PREPARE)
    if options.get("loaded"):
        percept_images.start(guest)
    return guest, broker, holder, boot


def percept(lab):
    """Five levels of page tables; all of it."""
    guest, broker, holder, boot = _scene(lab, loaded=True)
    truth = percept_truth.Truth(guest.console.run(percept_truth.TRUTH, timeout=120))
    check(len(truth.processes) > 20, f"the guest told of {len(truth.processes)} processes only")
    check(any(process["state"] == "Z" for process in truth.processes.values()), "no zombie")
    check(any(process["uid"] == 65534 for process in truth.processes.values()), "no other uid")
    equal(set(truth.modules), {"pvpanic", "pvpanic_pci"}, "modules that are loaded")
    percept_truth.compare(holder, truth)
    _refusals(holder)
    _places(holder, truth, boot)
    _by_descriptor(lab, guest, holder, boot)
    percept_content.compare(lab, guest, holder, _sleeper(truth)["pid"])
    percept_images.compare(lab, guest, holder)
    percept_check.compare(lab, guest, broker, holder, _sleeper(truth))
    _by_pid(holder, truth)
    tree = holder.ctl("ps", "--tree", "vm1").decode()
    check("  [ksoftirqd/0]" in tree, "no tree:\n" + tree)


def percept_tools(lab):
    """What other tools make of a guest, and the operator's."""
    guest, broker, holder, boot = _scene(lab, loaded=True)
    truth = percept_truth.Truth(guest.console.run(percept_truth.TRUTH, timeout=120))
    percept_shim.compare(lab, guest, broker, holder, boot)
    _dump_elf(lab, holder, boot)
    _dump_kcore(lab, holder, boot, truth)
    _symbol_files(lab, guest, broker, holder, boot)
    _dump_flat(lab, holder, boot)
    _gdb(holder, boot)
    _mount(lab, holder, guest, boot, truth)
    _gdb_socket(lab, guest, holder, guest.boot())


def percept_debug(lab):
    """crash and drgn with the kernel's debug package, whose vmlinux VMSIG_VMLINUX names: too large to
    be fetched for each run."""
    vmlinux = os.environ.get("VMSIG_VMLINUX", "")
    if not os.path.exists(vmlinux):
        raise vmlab.Skip("VMSIG_VMLINUX names no vmlinux of the guest's kernel with its debug package")
    _, _, holder, boot = _scene(lab)
    core = lab.path("vm1.core")
    holder.ctl("dump", "vm1", "-o", core)
    _drgn_with_types(holder, core, vmlinux)
    _crash_with_types(holder, boot, core, vmlinux)


def _compare_untyped(lab, guest, broker, holder, truth):
    """Without types all is found nevertheless but for what is refused by its name."""
    told = percept_content.ask(guest)
    percept_types.erase(broker, holder)
    percept_truth.compare(holder, percept_truth.Truth(
        guest.console.run(percept_truth.TRUTH, timeout=120)))
    for name, of in percept_content.LISTS.items():
        if name != "parts":
            of(lab, holder, told)
    equal(holder.whole("check", "vm1"), [], "findings without types")
    for words, missing in ((("sections", "vm1", "pvpanic"), "module.sect_attrs"),
                           (("exports", "vm1", "pvpanic"), "module.syms"),
                           (("symbols", "vm1", "--isf", "-"), "BTF")):
        try:
            holder.ctl(*words)
        except CtlError as error:
            check(missing in error.stderr, f"{words}: {error.stderr}")
        else:
            raise AssertionError(f"{words} did not fail")


def percept_levels4(lab):
    """Four levels, page tables of user space apart, RAM above 4 GiB; while it forks; without types."""
    guest, broker, holder, boot = _scene(lab, cpu="qemu64", memory="3G")
    truth = percept_truth.Truth(guest.console.run(percept_truth.TRUTH, timeout=120))
    percept_truth.compare(holder, truth)
    _places(holder, truth, boot)
    percept_forks.look(guest, holder)
    os.environ["VMSIG_SIGHT_DIR"] = lab.path("sight")
    _compare_untyped(lab, guest, broker, holder, truth)


if __name__ == "__main__":
    vmlab.main({"percept": percept, "percept_levels4": percept_levels4,
                "percept_debug": percept_debug, "percept_tools": percept_tools})

# SPDX-License-Identifier: Apache-2.0
"""What a guest has beside processes, against what it says itself: sockets, mounts, its log, modules."""

import hashlib
import ipaddress
import os
import re
import struct

from vmlab import CtlError, check, equal, number

PREPARE = (
    "ifconfig lo 127.0.0.1 up; "
    "(nc -l -p 4001 >/dev/null &) ; (sleep 100000 | nc -l -p 4003 >/dev/null &) ; "
    "until cat /proc/net/tcp /proc/net/tcp6 | grep -q ':0FA3 '; do sleep 1; done; "
    "(sleep 100000 | nc 127.0.0.1 4003 >/dev/null &) ; "
    "(syslogd -n -L -O /run/syslog -R 127.0.0.1:4002 &) ; "
    "until [ -S /dev/log ]; do sleep 1; done; logger hello; "
    "mkdir -p /run/sub; mount -t tmpfs -o ro words /run/sub; "
    "seq 100000 >/run/numbers; cp /bin/busybox /run/sub.gone; "
    "(exec 7</run/sub.gone; rm /run/sub.gone; exec sleep 100006) & "
    "until cat /proc/net/tcp /proc/net/tcp6 | grep -q ' 01 .*:'; do sleep 1; done; "
    "until cat /proc/net/tcp /proc/net/tcp6 | grep -q ':0FA1 '; do sleep 1; done; "
    "until grep -q ': ' /proc/net/udp; do sleep 1; done; "
    "until grep -qs '[1]00006' /proc/[0-9]*/cmdline; do sleep 1; done")
TRUTH = (
    "for t in tcp tcp6 udp udp6; do sed \"s/^/@socket $t /\" /proc/net/$t 2>/dev/null; done; "
    "sed 's/^/@mount /' /proc/self/mounts; dmesg -s 4000000 | sed 's/^/@log /'; "
    "cd /sys/module/pvpanic/sections; "
    "for f in * .*; do [ -f $f ] && echo \"@section $f $(cat $f)\"; done; "
    "grep -F '[pvpanic]' /proc/kallsyms | sed 's/^/@export /'; "
    "md5sum /bin/busybox /run/numbers | sed 's/^/@file /'; "
    "grep -ls '[1]00006' /proc/[0-9]*/cmdline | sed 's/^/@holder /'; "
    "p=$(grep -ls '[1]00008' /proc/[0-9]*/cmdline); "
    "for f in ${p%cmdline}fd/*; do case $(readlink $f) in /memfd:*) echo \"@memfd $f\";; esac; done")


def _address(text):
    """"0100007F:0FA1", each word of the address in the machine's order."""
    host, port = text.split(":")
    words = bytes.fromhex(host)
    packed = b"".join(struct.pack(">I", struct.unpack("<I", words[i:i + 4])[0])
                      for i in range(0, len(words), 4))
    address = ipaddress.ip_address(packed)
    shown = f"[{address}]" if address.version == 6 else str(address)
    return f"{shown}:{int(port, 16)}"


def _sockets(holder, lines):
    wanted = set()
    for line in lines:
        words = line.split()
        if len(words) > 10 and words[1].rstrip(":").isdigit() and words[4] != "06":
            wanted.add((words[0], _address(words[2]), _address(words[3]), int(words[10])))
    found = {(entry["protocol"], entry["local"], entry["remote"], entry["inode"]): entry
             for entry in holder.json("sockets", "vm1")}
    def plain(entry):
        """Addresses of IPv6 have several spellings."""
        return tuple(re.sub(r"\[(.*)\]", lambda m: str(ipaddress.ip_address(m[1])), str(part))
                     for part in entry)
    equal({plain(entry) for entry in found}, {plain(entry) for entry in wanted}, "sockets")
    states = {entry["state"] for entry in found.values()}
    check({"listening", "established"} <= states, f"states of sockets: {states}")
    one = next(entry for entry in found.values() if entry["state"] == "established")
    own = holder.json("sockets", "--pid", one["pid"], "vm1")
    check(one in own, f"{one} is not among those of its process: {own}")


def _mounts(holder, lines):
    wanted = [(words[1], words[2], words[0], words[3].split(",")[0] == "ro")
              for words in (line.split() for line in lines)]
    found = [(entry["path"], entry["type"], entry["source"], entry["read_only"])
             for entry in holder.json("mounts", "vm1")]
    equal(sorted(found), sorted(wanted), "mounts")
    check("words" in holder.ctl("mounts", "vm1", "--pid", "1").decode(), "mounts as a table")


def _log(holder, lines):
    found = holder.ctl("dmesg", "vm1").decode().splitlines()
    # Not what came after the guest told.
    for got, wanted in zip(found, lines):
        equal(got, wanted.replace("\t", " "), "a line of the log")
    check(len(found) >= len(lines) > 100, f"{len(found)} lines of the log, of {len(lines)}")
    levels = {entry["level"] for entry in holder.json("dmesg", "vm1")}
    check(len(levels) > 2, f"levels of the log: {levels}")


def _modules(holder, sections, exports):
    wanted = {words[0]: int(words[1], 16) for words in (line.split() for line in sections)}
    found = {entry["name"]: number(entry["addr"])
             for entry in holder.json("sections", "vm1", "pvpanic")}
    check(len(wanted) > 4, f"sections that the guest told of: {sections}")
    equal(found, wanted, "sections")
    addresses = {entry["name"]: number(entry["addr"])
                 for entry in holder.json("exports", "vm1", "pvpanic")}
    own = {line.split()[2]: int(line.split()[0], 16) for line in exports}
    # Before 5.13 it offered nothing to others.
    offers = any(name.startswith("__ksymtab") and name != "__ksymtab_strings" for name in wanted)
    check(addresses.items() <= own.items() and bool(addresses) == offers,
          f"exports of a module: {addresses}")
    symbols = {(entry[0], entry[2]) for entry in (
        line.split() for line in holder.ctl("symbols", "vm1").decode().splitlines())}
    kernel = holder.json("exports", "vm1")
    check(len(kernel) > 1000, f"the kernel exports {len(kernel)}")
    # Data of per-CPU sections is counted from 0.
    missing = [entry for entry in kernel if (entry["addr"][2:], entry["name"]) not in symbols
               and number(entry["addr"]) >> 47]
    equal(missing, [], "exports that are no symbols")


def _open_file(lab, holder, pid, fd):
    path = lab.path("open")
    holder.ctl("cat", "vm1", "--pid", pid, "--fd", fd, "--output", path)
    with open(path, "rb") as file:
        digest = hashlib.md5(file.read()).hexdigest()
    os.unlink(path)
    return digest


def _files(lab, holder, lines, gone, memory):
    """`gone` has a deleted file on descriptor 7, `memory` a program that no file system has."""
    wanted = {words[1]: words[0] for words in (line.split() for line in lines)}
    # The second is a link, as the third is with a folder before it.
    for path, same in (("/bin/busybox", "/bin/busybox"), ("/bin/sh", "/bin/busybox"),
                       ("/run/../bin/./ls", "/bin/busybox"), ("/run/numbers", "/run/numbers")):
        text = holder.ctl("cat", "vm1", path)
        equal(hashlib.md5(text).hexdigest(), wanted[same], f"{path}, {len(text)} bytes")
    pid = next(line.split("/")[2] for line in gone if line.split("/")[2].isdigit())
    equal(_open_file(lab, holder, pid, "7"), wanted["/bin/busybox"], "a deleted file")
    _, _, runs, _, memfd = memory[0].split("/")
    equal(_open_file(lab, holder, runs, memfd), wanted["/bin/busybox"], "a memfd")
    told = holder.json("cat", "vm1", "/run/numbers")
    equal((told["resident"], told["mode"] & 0o777), (told["pages"], 0o644), "about a file")
    for words, status in ((("cat", "vm1", "/run/nothing"), 3), (("cat", "vm1", "--fd", "1"), 2),
                          (("cat", "vm1", "--pid", pid, "--fd", "99"), 3)):
        try:
            holder.ctl(*words)
        except CtlError as error:
            equal(error.status, status, f"exit status of {words}")
        else:
            raise AssertionError(f"{words} did not fail")


LISTS = {
    "sockets": lambda lab, holder, told: _sockets(holder, told["socket"]),
    "mounts": lambda lab, holder, told: _mounts(holder, told["mount"]),
    "dmesg": lambda lab, holder, told: _log(holder, told["log"]),
    "parts": lambda lab, holder, told: _modules(holder, told["section"], told["export"]),
    "cat": lambda lab, holder, told: _files(lab, holder, told["file"], told["holder"],
                                              told["memfd"]),
}


def ask(guest):
    """What the guest tells of each of the lists: lines by what they are about."""
    guest.console.run(PREPARE)
    told = {}
    for line in guest.console.run(TRUTH, timeout=120).splitlines():
        kind, _, rest = line.partition(" ")
        told.setdefault(kind[1:], []).append(rest)
    return told


def compare(lab, guest, holder, pid):
    """`pid` runs with PERCEPT=seen in its environment."""
    told = ask(guest)
    for of in LISTS.values():
        of(lab, holder, told)
    check("PERCEPT=seen" in holder.json("environ", "vm1", pid), "the environment of a process")

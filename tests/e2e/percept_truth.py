# SPDX-License-Identifier: Apache-2.0
"""What the guest's own /proc says of processes and modules, and whether the same is found."""

import hashlib
import re

from vmlab import check, equal, number

# What runs while /proc is told: a shell that has ended and nobody waits for, files of all kinds.
PREPARE = (
    "cp /bin/busybox /run/gone; "
    "(exec 5</run/gone 6</dev/null 7</proc/version; rm /run/gone; exec sleep 100001) & "
    "sleep 100002 | sleep 100003 & "
    "sh -c 'sleep 0 & exec sleep 100004' & "
    "PERCEPT=seen guest-tool as 65534 sleep 100005 & "
    "guest-tool threads 3 100007 & "
    "guest-tool memfd /bin/busybox sleep 100008 & "
    "insmod /modules/pvpanic.ko; insmod /modules/pvpanic-pci.ko; "
    # Each runs what it will; then the one that nobody waits for has ended, too.
    "for i in 1 2 3 4 5 7 8; do "
    "until grep -qs \"[1]0000$i\" /proc/[0-9]*/cmdline; do sleep 1; done; done; "
    "until grep -qs '(sleep) Z' /proc/[0-9]*/stat; do sleep 1; done; "
    "until grep -qs 'thread-2' /proc/[0-9]*/task/*/comm; do sleep 1; done")
TRUTH = (
    "for p in /proc/[0-9]*; do echo \"@proc $(cat $p/stat)\"; "
    "echo \"@uid $(grep '^Uid:' $p/status)\"; "
    "echo \"@cmd $(tr '\\0' '|' <$p/cmdline)\"; "
    "for t in $p/task/*; do read -r c <$t/comm && echo \"@thread ${t##*/} $c\"; done; "
    "sed 's/^/@map /' $p/maps; "
    "for f in $p/fd/*; do echo \"@fd ${f##*/} $(readlink $f)\"; done; done; "
    "sed 's/^/@module /' /proc/modules; "
    "echo \"@symbols $(grep -v '\\[' /proc/kallsyms | md5sum)\"")


class Truth:
    """Processes by pid; modules by name; the digest of the kernel's own symbols."""

    def __init__(self, text):
        self.processes, self.modules, self.symbols = {}, {}, None
        process = None
        for line in text.splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "@proc":
                process = self._process(rest)
                if process["pid"]:
                    self.processes[process["pid"]] = process
            elif kind == "@uid" and rest:
                process["uid"] = int(rest.split()[1])
            elif kind == "@cmd":
                process["command"] = rest.rstrip("|").split("|") if rest else None
            elif kind == "@thread":
                thread, _, name = rest.partition(" ")
                process["tasks"][int(thread)] = name
            elif kind == "@map":
                process["maps"].append(self._map(rest))
            elif kind == "@fd":
                descriptor, _, path = rest.partition(" ")
                if descriptor != "*":
                    process["files"][int(descriptor)] = path
            elif kind == "@module":
                words = rest.split()
                self.modules[words[0]] = (int(words[5], 16), int(words[1]))
            elif kind == "@symbols":
                self.symbols = rest.split()[0]

    @staticmethod
    def _process(text):
        # One that has ended when it is asked says nothing.
        match = re.match(r"(\d+) \((.*)\) (\S) (.*)$", text or f"0 () X{' 0' * 50}")
        numbers = match[4].split()
        return {"pid": int(match[1]), "name": match[2], "state": match[3],
                "parent": int(numbers[0]), "threads": int(numbers[16]),
                "start": int(numbers[18]), "maps": [], "files": {}, "tasks": {},
                "command": None}

    @staticmethod
    def _map(text):
        match = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) \S+ \d+ *(.*)$", text)
        return {"start": int(match[1], 16), "end": int(match[2], 16), "prot": match[3],
                "offset": int(match[4], 16), "path": match[5]}


def _is_passing(process):
    """Whoever made the list, and workers that come and go as they like."""
    return process["name"].startswith("kworker") or \
        (process["name"] == "init" and process["pid"] != 1) or \
        process["name"] in ("cat", "sed", "tr", "grep", "readlink")


def _compare_process(truth, found):
    what = f"process {truth['pid']} ({truth['name']})"
    check(truth["name"].startswith(found["name"]), f"{what}: name {found['name']}")
    for key in ("parent", "uid", "threads"):
        equal(found[key], truth[key], f"{what}: {key}")
    equal(found["start_ns"] // 10_000_000, truth["start"], f"{what}: start")
    equal(found["zombie"], truth["state"] == "Z", f"{what}: zombie")
    if truth["state"] == "Z":
        return
    if found["kernel"]:
        equal(truth["command"], None, f"{what}: a thread of the kernel's with a command line")
    else:
        equal(found["command"], truth["command"], f"{what}: command")
    # Others may have run meanwhile.
    if truth["name"] == "sleep":
        equal(found["state"], truth["state"], f"{what}: state")


def processes(holder, truth):
    found = {process["pid"]: process for process in holder.json("ps", "vm1")}
    for pid, process in truth.processes.items():
        if _is_passing(process):
            continue
        check(pid in found, f"process {pid} ({process['name']}) was not found")
        _compare_process(process, found[pid])
    for pid, process in found.items():
        check(pid in truth.processes or process["name"].startswith("kworker"),
              f"process {pid} ({process['name']}) is none")


def _with_memory(truth):
    """The shell that made the list is left out: it had other files and a larger heap then."""
    return [process for process in truth.processes.values()
            if process["maps"] and process["pid"] != 1 and not _is_passing(process)]


def threads(holder, truth):
    seen = 0
    for process in _with_memory(truth):
        found = {entry["pid"]: entry["name"]
                 for entry in holder.json("threads", "vm1", str(process["pid"]))}
        equal(found, process["tasks"], f"process {process['pid']} ({process['name']}): threads")
        seen = max(seen, len(found))
    check(seen > 3, "no process with threads")


def maps(holder, truth):
    for process in _with_memory(truth):
        found = [{**entry, "start": number(entry["start"]), "end": number(entry["end"]),
                  "offset": number(entry["offset"])}
                 for entry in holder.json("maps", "vm1", str(process["pid"]))]
        wanted = [dict(entry) for entry in process["maps"] if entry["path"] != "[vsyscall]"]
        for entry in wanted:
            # Offsets of memory without a file are nobody's business; vvar is found as nameless.
            if not entry["path"].startswith("/"):
                entry["offset"] = 0
            if entry["path"].startswith("[vvar"):
                entry["path"] = ""
        equal(found, wanted, f"process {process['pid']} ({process['name']}): maps")


def files(holder, truth):
    for process in _with_memory(truth):
        found = {entry["fd"]: entry["path"]
                 for entry in holder.json("files", "vm1", str(process["pid"]))}
        equal(found, process["files"], f"process {process['pid']} ({process['name']}): files")


def symbols(holder, truth):
    text = holder.ctl("symbols", "vm1")
    equal(hashlib.md5(text).hexdigest(), truth.symbols, f"{text.count(10)} symbols")


def modules(holder, truth):
    found = {entry["name"]: (number(entry["base"]), entry["size"])
             for entry in holder.json("modules", "vm1")}
    equal(found, truth.modules, "modules")


LISTS = {"symbols": symbols, "ps": processes, "threads": threads, "maps": maps, "files": files,
         "modules": modules}


def compare(holder, truth):
    for of in LISTS.values():
        of(holder, truth)

# SPDX-License-Identifier: Apache-2.0
"""What a lease hides in a guest is found, and what it rests on is said."""

import contextlib
import itertools
import json
import os
import subprocess

from vmlab import Operator, check, equal, number
from vmlab.process import Child, wait_until

UNUSED = 139  # sysfs(2), which nothing calls


class Hider:
    """Changes words of the guest's kernel, for a while."""

    def __init__(self, holder, operator):
        self.holder = holder
        self.operator = operator
        operator.must("acquire", 30000)  # it may seldom get to renew it

    def word(self, address):
        return int.from_bytes(self.holder.read("vm1", address, 8), "little")

    def write(self, address, data):
        page = self.holder.json("translate", "vm1", hex(address))
        words = ("write", hex(number(page["gpa"])), data.hex())
        answer = self.operator.do(*words)
        # On a busy machine a look takes longer than a lease lasts.
        if "LEASE_EXPIRED" in answer:
            self.operator.must("acquire")
            answer = self.operator.do(*words)
        check(answer.startswith("ok"), f"{words}: {answer}")

    @contextlib.contextmanager
    def changed(self, *changes):
        """Pairs of an address and the word there; what was there is put back."""
        before = [(address, self.holder.read("vm1", address, 8)) for address, _ in changes]
        try:
            for address, word in changes:
                self.write(address, word.to_bytes(8, "little"))
            yield
        finally:
            for address, data in before:
                self.write(address, data)

    def unlinked(self, links):
        following, preceding = self.word(links), self.word(links + 8)
        return self.changed((preceding, following), (following + 8, preceding))


def _findings(holder):
    return [(entry["kind"], entry["finding"], entry["basis"])
            for entry in holder.whole("check", "vm1")]


def _texts(findings, kind):
    return [text for found, text, _ in findings if found == kind]


def _calls_by_code(hider):
    """Kernels that have x64_sys_call() jump where its code says, whatever is in the table."""
    symbols = {line.split()[2]: int(line.split()[0], 16) for line in
               hider.holder.ctl("symbols", "vm1").decode().splitlines()}
    if "x64_sys_call" not in symbols:
        return
    start, wanted = symbols["x64_sys_call"], symbols["__x64_sys_sysfs"]
    code = hider.holder.read("vm1", start, 8192)
    at = next(i for i in range(len(code) - 5) if code[i] == 0xe9 and wanted == start + i + 5 +
              int.from_bytes(code[i + 1:i + 5], "little", signed=True))
    page = start + at + 1 & ~7  # an operation of eight bytes, aligned
    other = hider.holder.read("vm1", page, 16)
    into = start + at + 1 - page
    distance = (symbols["schedule"] - (start + at + 5)).to_bytes(4, "little", signed=True)
    patched = other[:into] + distance + other[into + 4:]
    with hider.changed(*((page + i, int.from_bytes(patched[i:i + 8], "little"))
                         for i in (0, 8))):
        found = [entry for entry in _findings(hider.holder) if entry[0] == "call"]
        equal([text for _, text, _ in found], [f"system call {UNUSED} leads to schedule+0x0"],
              "a system call by code")
        check("x64_sys_call" in found[0][2], f"what it rests on: {found}")


def _sensors(lab, guest, hider, changes):
    """Both tell of what happens after their first look, whenever that is. `changes`: {what is told:
    the address of a word}, of text and a system call; and of a module the links of the list."""
    holder = hider.holder
    environment = {**os.environ, "VMSIG_IDENTITY": holder.identity,
                   "VMSIG_SOCKET": holder.broker.socket}
    procs, intact = [lab.own(Child([lab.program(f"vmsig-{name}"), "vm1"], lab.log(name),
                                   env=environment))
                     for name in ("procs", "intact")]

    def lines(child):
        check(child.is_alive(), f"a sensor ended: {child.text()}")
        return [json.loads(line) for line in child.text().splitlines() if line.startswith("{")]

    def is_process_seen():
        guest.console.run("(exec sleep 3) & true")
        return any(line["name"] == "sleep" and line["endpoint"] == "vm1" for line in lines(procs))

    def told(**wanted):
        return any(wanted.items() <= line.items() for line in lines(intact))

    def is_change_seen(address, words, **wanted):
        hider.write(address, next(words).to_bytes(8, "little"))
        return told(**wanted)

    wait_until("a new process is reported", is_process_seen, every=1)
    for what, wanted in (("call", {"number": UNUSED}), ("text", {})):
        address = changes[what]
        words = itertools.cycle((hider.word(address) ^ 0xf0, hider.word(address) ^ 0xff))
        with hider.changed((address, next(words))):
            wait_until(f"changed: {what}", lambda a=address, w=words, k=what, more=wanted:
                       is_change_seen(a, w, what=k, **more), every=1)
    with hider.unlinked(changes["module"]):
        wait_until("a module that has gone is reported",
                   lambda: told(what="module", name="pvpanic", loaded=False), every=1)
    wait_until("a module that has come is reported",
               lambda: told(what="module", name="pvpanic", loaded=True), every=1)
    procs.stop()
    intact.stop()


def _plain_check(holder):
    """As people see it; None when the guest changed whenever it was looked at."""
    told = subprocess.run(holder.argv("check", "vm1"), capture_output=True, text=True, check=False)
    return told if told.returncode == 0 else None


def _anonymous(guest, holder):
    """A program that may run what came from no file."""
    guest.console.run("(LD_LIBRARY_PATH=/lib loaded anonymous >/run/anonymous.txt &) ; "
                      "until grep -q loaded /run/anonymous.txt; do sleep 1; done")
    address = guest.console.run("cat /run/anonymous.txt").split()[1]
    pid = next(entry["pid"] for entry in holder.json("ps", "vm1")
               if entry["name"] == "loaded" and entry["command"][-1] == "anonymous")
    found = holder.whole("check", "vm1")
    equal([(entry["kind"], number(entry["addr"])) for entry in found], [("map", int(address, 16))],
          f"memory of a process that may be run: {found}")
    check(str(pid) in found[0]["finding"], f"whose it is: {found}")
    guest.console.run(f"kill {pid}; until ! [ -e /proc/{pid} ]; do sleep 1; done")
    equal(_findings(holder), [], "findings when that has ended")
    told = wait_until("a list of nothing is whole", lambda: _plain_check(holder))
    equal(told.stdout, "", "findings for people")
    check("nothing was found" in told.stderr, f"people are not told that it has looked: {told.stderr}")


def compare(lab, guest, broker, holder, sleeper):
    """`sleeper` is a process, as /proc has it; pvpanic is a module."""
    os.environ["VMSIG_SIGHT_DIR"] = lab.path("sight")
    pid = sleeper["pid"]
    types = json.loads(holder.ctl("symbols", "vm1", "--isf", "-"))["user_types"]
    equal(_findings(holder), [], "findings in a guest of which nothing is hidden")
    hider = Hider(holder, Operator(broker))
    process = next(entry for entry in holder.json("ps", "vm1") if entry["pid"] == pid)
    tasks = number(process["object"]) + types["task_struct"]["fields"]["tasks"]["offset"]
    with hider.unlinked(tasks):
        check(pid not in [entry["pid"] for entry in holder.json("ps", "vm1")], "it is still listed")
        found = _findings(holder)
        equal(len([text for text in _texts(found, "process") if f"process {pid} " in text]), 2,
              f"once by the table of pids, once by memory: {found}")
        equal(len(found), 2, f"findings: {found}")
    module = next(entry for entry in holder.json("modules", "vm1") if entry["name"] == "pvpanic")
    links = number(module["object"]) + types["module"]["fields"]["list"]["offset"]
    with hider.unlinked(links):
        equal(_texts(_findings(holder), "module"),
              ["module pvpanic is not in the list of modules"], "a module that is not listed")
    symbols = {line.split()[2]: int(line.split()[0], 16) for line in
               holder.ctl("symbols", "vm1", "s*").decode().splitlines()}
    with hider.changed((symbols["sys_call_table"] + 8 * UNUSED, symbols["schedule"] + 16)):
        equal(_texts(_findings(holder), "call"),
              [f"system call {UNUSED} leads to schedule+0x10"], "a system call")
    _calls_by_code(hider)
    crash = symbols["sysrq_handle_crash"]
    with hider.changed((crash + 16, hider.word(crash + 16) ^ 0xff)):
        text = _texts(_findings(holder), "text")
        equal(len(text), 1, f"pages of text: {text}")
    equal(_findings(holder), [], "findings when all is as it was")
    _anonymous(guest, holder)
    _sensors(lab, guest, hider, {"call": symbols["sys_call_table"] + 8 * UNUSED, "text": crash + 16,
                                 "module": links})
    hider.operator.must("release")

# SPDX-License-Identifier: Apache-2.0
"""The operator's shim where addresses are symbols of the guest's kernel, and memory a process'."""

import json
import subprocess

from vmlab import check, equal, number


def _answers(lab, broker, script, status=0):
    """What it answers to each line."""
    done = subprocess.run(
        [lab.program("vmsig-shim"), "--json", "-k", "--identity", broker.identity("operator/ops"),
         "--socket", broker.write_socket, "--ctx-socket", broker.socket, "vm1"],
        input="\n".join(script), capture_output=True, text=True, timeout=60, check=False)
    equal(done.returncode, status, f"vmsig-shim: {done.stdout}{done.stderr}")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [line for line in lines if "command" in line]


def compare(lab, guest, broker, holder, boot):
    pid = guest.console.run("pidof loaded").strip()
    offered = {entry["name"]: entry["addr"] for entry in
               holder.json("exports", "vm1", "--pid", pid, "libloaded_library.so")}
    data = offered["library_data"]
    where = holder.json("translate", "vm1", data, "--pid", pid)
    gpa = number(where["gpa"]) + number(data) - number(where["gva"])
    banner, part, place, before, wrote, found, back, none, nobody = _answers(lab, broker, [
        "peek linux_banner 32", "peek linux_banner+6 7", f"translate {data} pid {pid}",
        f"peek {data} 4 pid {pid}", f"cas {data} u32 4 77 pid {pid}",
        f"find hex:4d000000 {data} {hex(number(data) + 3)} pid {pid}", "undo", "peek no_such_symbol",
        f"peek {data} 4 pid 99999"], status=7)
    equal(bytes.fromhex(banner["hex"]).decode(), boot.version[:32], "linux_banner")
    equal(bytes.fromhex(part["hex"]), b"version", "a part of it")
    equal(number(place["gpa"]), gpa, "where data of a process is")
    equal(before["hex"], "04000000", "data of a process")
    equal((wrote["ok"], wrote["old"], wrote["addr"]), (True, "04000000", data), "a write")
    equal(found["addresses"], [data], "what was written, found")
    check(back["ok"], f"undo: {back}")
    equal(holder.json("read", "vm1", data, "4", "--pid", pid)["hex"], "04000000", "after that")
    check(not none["ok"] and not nobody["ok"], f"what is not there: {none} {nobody}")

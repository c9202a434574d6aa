#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holders that attack, and VMs that cannot be served as they are."""

import os
import socket
import threading

import vmlab
from vmlab import Broker, Guest, Holder, check, equal, number, wait_until

BROKER_UID = 64100

# What deploy/THREATS.md leaves open to root with every capability.
ROOT_MAY = ("file-handle", "pidfd-getfd", "broker-proc-fd", "broker-mem")
# What it leaves open where the guard is `mode` and the holder is root or the file's owner.
MODE_OPEN = ("reopen", "reopen-o-path", "reopen-after-chmod", "reopen-map-files", "hard-link",
             "mount-namespace", "user-namespace", "clone-mount", "clear-mount-flag")


def _attack(holder, allow=()):
    """Output of the attack program, run as a holder; fails when it won anything else."""
    options = [part for name in allow for part in ("--allow", name)]
    report = holder.ctl("exec", "vm1", "--", holder.lab.path("tests", "attack"), *options,
                        holder.broker.pid).decode()
    for line in report.splitlines():
        what, _, technique = line.partition(":")[0].partition(" ")
        if what == "coherence" and technique not in ROOT_MAY:
            check("won" not in line, f"the sealed page was won: {line}")
    return report


def _attacks(lab, backend, broker_uid):
    guest = Guest(lab, backend=backend, uid=broker_uid)
    uids = sorted({0, broker_uid or 0, 65534})
    broker = Broker(lab, [vmlab.qemu_endpoint(lab)],
                    [vmlab.tenant(f"t{uid}", [uid]) for uid in uids], uid=broker_uid)
    guest.boot()
    return {uid: Holder(broker, f"sensor/t{uid}", uid) for uid in uids}


def attack_file(lab):
    """A file on a private tmpfs: nobody but a root holder gets anything."""
    holders = _attacks(lab, "file", None)
    for uid, holder in holders.items():
        holder.wait_ready()
        equal(holder.endpoint()["guard"], "ro-mount", f"guard towards uid {uid}")
        report = _attack(holder, ROOT_MAY if uid == 0 else ())
        check("ram reopen: refused" in report, f"a descriptor was re-opened: {report}")
        check("coherence reopen" in report, f"the page was not attacked: {report}")


def attack_memfd(lab):
    """QEMU's own memfd: safe towards other uids, and said to be open towards root."""
    holders = _attacks(lab, "memfd", None)
    nobody = holders[65534]
    nobody.wait_ready()
    equal(nobody.endpoint()["guard"], "mode", "guard towards another uid")
    _attack(nobody)
    root = holders[0]
    equal(root.endpoint()["guard"], "none", "guard towards root")
    _attack(root, ROOT_MAY + MODE_OPEN)


def attack_broker_uid(lab):
    """QEMU, the broker and a holder have one unprivileged uid; so have the RAM files."""
    os.chown(lab.path("ram"), BROKER_UID, BROKER_UID)
    os.chown(lab.path("qmp"), BROKER_UID, BROKER_UID)
    holders = _attacks(lab, "file", BROKER_UID)
    other = holders[65534]
    other.wait_ready()
    check(other.endpoint()["guard"] in ("ro-mount", "mode"), f"{other.endpoint()}")
    _attack(other)
    same = holders[BROKER_UID]
    guard = same.endpoint()["guard"]
    _attack(same, MODE_OPEN if guard in ("mode", "none") else ())


def attack_min_guard(lab):
    """An endpoint that is weaker than the policy demands is not served, and says so."""
    guest = Guest(lab, backend="memfd")
    broker = Broker(lab, [vmlab.qemu_endpoint(lab, min_guard="ro-mount")],
                    [vmlab.tenant("acme", [65534])])
    holder = Holder(broker, "sensor/acme", 65534)
    guest.boot()
    try:
        detail = wait_until("a reason", lambda: _detail(holder, "guard"), 15)
    except TimeoutError as error:
        raise AssertionError(f"{error}: {holder.endpoint()}") from None
    check("ro-mount" in detail or "mode" in detail, f"the detail names no guard: {detail}")
    try:
        holder.ctl("--wait", "1", "info", "vm1")
    except vmlab.CtlError:
        return
    raise AssertionError("a context was served below min_guard")


def _detail(holder, word, name="vm1"):
    """The endpoint's detail once it has the word."""
    text = holder.endpoint(name)["detail"]
    return text if word in text.lower() else None


def _refused(lab, backend, words, **options):
    guest = Guest(lab, memory="256M", cpu="qemu64", backend=backend, **options)
    broker = Broker(lab, [vmlab.qemu_endpoint(lab)], [vmlab.tenant()])
    holder = Holder(broker)
    guest.boot()
    for word in words:
        try:
            wait_until(f"the word {word}", lambda w=word: _detail(holder, w), 15)
        except TimeoutError as error:
            raise AssertionError(f"{error}: {holder.endpoint()}") from None
    check(holder.endpoint()["state"] != "ready", f"it is served: {holder.endpoint()}")
    return guest, broker, holder


def not_shared(lab):
    """A RAM file without share=on is a private copy: readers would see stale bytes."""
    _refused(lab, "private", ["share=on"])


def no_backend(lab):
    """Plain -m: there is no file at all."""
    _refused(lab, "plain", ["memory-backend"])


def no_qmp(lab):
    """Nothing listens, then QEMU comes."""
    broker = Broker(lab, [vmlab.qemu_endpoint(lab)], [vmlab.tenant()])
    holder = Holder(broker)
    wait_until("the socket is named", lambda: _detail(holder, "vm1.sock"), 10)
    equal(holder.endpoint()["state"], "gone", "state without QEMU")
    truth = Guest(lab).boot()
    equal(number(holder.wait_ready()["kcr3"]), truth.kcr3, "kcr3 once QEMU is there")


def _console_says(lab, words):
    with open(lab.log("vm1-console"), encoding="utf-8", errors="replace") as file:
        return words in file.read()


def other_system(lab):
    """Xen's page tables map themselves as Windows's do: it is said to be unknown, and not served."""
    xen = lab.guest_file("xen")
    if not os.path.exists(xen):
        raise vmlab.Skip("no Xen could be downloaded when the guest was made")
    dom0 = f"{lab.guest_file('vmlinuz')} console=hvc0,{lab.guest_file('initramfs.cpio.gz')}"
    guest = Guest(lab, memory="768M", extra=[
        "-kernel", xen, "-append", "com1=115200,8n1 console=com1 noreboot dom0_mem=384M",
        "-initrd", dom0])
    broker = Broker(lab, [vmlab.qemu_endpoint(lab)], [vmlab.tenant()])
    holder = Holder(broker)
    sensor = vmlab.Sensor(holder)
    wait_until("Xen looked at", lambda: _detail(holder, "ntoskrnl.exe"), 90)
    wait_until("dom0 is there, and may be gone again", lambda: _console_says(lab, "Dom0 has maximum"), 90)
    try:
        wait_until("a context", lambda: holder.endpoint()["state"] == "ready", 3)
    except TimeoutError:
        pass
    check(guest.child.is_alive(), "QEMU ended")
    check(not any(event["event"] == "memctx" for event in sensor.history()),
          f"a context was served: {sensor.history()}")


class _Liar:
    """Something at a QMP socket that is no QEMU."""

    def __init__(self, path, script):
        self._script = script
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(8)
        self.accepted = 0
        self._kept = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._kept.append(peer)
            threading.Thread(target=self._lie, args=(peer,), daemon=True).start()

    def _lie(self, peer):
        try:
            self._script(peer)
        except OSError:
            pass  # the broker hung up, as it should


GREETING = b'{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": []}}\r\n'


def _flood(peer):
    peer.sendall(GREETING + b'{"return": "')
    for _ in range(100):
        peer.sendall(b"x" * (1 << 20))


def _deep(peer):
    peer.sendall(GREETING + b"[" * 200000 + b"\r\n")


def _wrong_types(peer):
    peer.sendall(GREETING)
    while peer.recv(65536):
        peer.sendall(b'{"return": [[1, {"a": null}], "x", -5], "id": 1}\r\n')


def _never(peer):
    peer.sendall(GREETING)


SILENT = "vm-never"
LIES = {"vm-noise": lambda peer: peer.sendall(os.urandom(1 << 16) + b"\n" * 50),
        "vm-flood": _flood, "vm-deep": _deep, "vm-types": _wrong_types, SILENT: _never,
        "vm-close": lambda peer: peer.close()}


def qmp_garbage(lab):
    """Six liars and a real guest: the guest is served, the liars are named, memory is bounded."""
    liars = {name: _Liar(lab.path("qmp", f"{name}.sock"), script)
             for name, script in LIES.items()}
    guest = Guest(lab)
    endpoints = [vmlab.qemu_endpoint(lab, name, qmp_timeout="1s") for name in [*LIES, "vm1"]]
    broker = Broker(lab, endpoints, [vmlab.tenant()])
    holder = Holder(broker)
    truth = guest.boot()
    equal(number(holder.wait_ready()["kcr3"]), truth.kcr3, "kcr3 beside liars")
    wait_until("silence is told", lambda: _detail(holder, "did not answer", SILENT), 60)
    for name, liar in liars.items():
        if name != SILENT:
            wait_until(f"{name} was tried again", lambda l=liar: l.accepted >= 2, 60)
        entry = holder.endpoint(name)
        check(entry["state"] != "ready" and entry["detail"], f"{name}: {entry}")
    equal(liars[SILENT].accepted, 1, "connections to a QEMU that is silent, which may be stopped")
    with open(f"/proc/{broker.pid}/status", encoding="ascii") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    check(peak < 200 << 10, f"the broker grew to {peak} KiB")
    guest.reset()
    truth = guest.boot()
    equal(number(holder.wait_ready(epoch=2)["kcr3"]), truth.kcr3, "kcr3 after a reset")


if __name__ == "__main__":
    vmlab.main({"attack_broker_uid": attack_broker_uid, "attack_file": attack_file,
                "attack_memfd": attack_memfd, "attack_min_guard": attack_min_guard,
                "no_backend": no_backend, "no_qmp": no_qmp,
                "not_shared": not_shared, "other_system": other_system,
                "qmp_garbage": qmp_garbage})

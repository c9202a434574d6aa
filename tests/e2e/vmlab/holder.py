# SPDX-License-Identifier: Apache-2.0
"""A tenant's view through vmsigctl: single commands, and a sensor that watches."""

import json
import os
import signal
import subprocess
import threading
import time

from .process import Child, die_with_parent, wait_until


TORN = 11  # exit status


class CtlError(Exception):
    def __init__(self, argv, status, stderr):
        super().__init__(f"vmsigctl {' '.join(argv)}: exit {status}: {stderr}")
        self.status = status
        self.stderr = stderr


class Holder:
    """An identity and the uid that it is used from."""

    def __init__(self, broker, name="sensor/acme", uid=0):
        self.broker = broker
        self.lab = broker.lab
        self.name = name
        self.uid = uid
        self.identity = broker.identity(name, uid)

    def argv(self, *arguments):
        return [self.lab.program("vmsigctl"), "--socket", self.broker.socket, "--identity",
                self.identity, *[str(argument) for argument in arguments]]

    def ctl(self, *arguments, timeout=60, stdin=None):
        """Standard output of one command, as bytes."""
        extra = {}
        if self.uid != os.getuid():
            extra = {"user": self.uid, "group": self.uid, "extra_groups": []}
        done = subprocess.run(self.argv(*arguments), stdin=stdin or subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                              preexec_fn=die_with_parent, cwd="/", check=False, **extra)
        if done.returncode != 0:
            raise CtlError([str(argument) for argument in arguments], done.returncode,
                           (done.stderr + done.stdout).decode(errors="replace"))
        return done.stdout

    def json(self, *arguments, **options):
        return json.loads(self.ctl("--json", *arguments, **options))

    def whole(self, *words):
        """A list that the guest did not change whenever it was looked at: it is asked for again."""
        found = []

        def probe():
            try:
                found.append(self.json(*words))
            except CtlError as error:
                if error.status != TORN:
                    raise
            return found

        return wait_until(f"{' '.join(words)} is not torn", probe)[0]

    def endpoints(self):
        """{name: what `ls` says}."""
        return {entry["name"]: entry for entry in self.json("ls")}

    def endpoint(self, name="vm1"):
        return self.endpoints()[name]

    def wait_ready(self, name="vm1", epoch=0, timeout=60):
        """Waits for a context at or beyond an epoch; what `info` says then."""
        def probe():
            entry = self.endpoint(name)
            return entry["state"] == "ready" and entry["epoch"] >= epoch
        try:
            wait_until(f"{name} is ready", probe, timeout, 0.1)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self.endpoint(name)}") from None
        return self.json("info", name)

    def read(self, name, address, length, phys=False):
        arguments = ["read", name, hex(address), length, "--format", "raw"]
        return self.ctl(*arguments, *(["--phys"] if phys else []))

    def read_text(self, name, address, length=4096):
        return self.read(name, address, length).split(b"\0")[0].decode(errors="replace")

    def environment(self, name="vm1"):
        """What a program run by `exec` finds in its environment."""
        text = self.ctl("exec", name, "--", "env").decode()
        return dict(line.split("=", 1) for line in text.splitlines() if line.startswith("VMSIG_"))


class Sensor:
    """`vmsigctl watch --json`; the events that came, oldest first, each with its time."""

    def __init__(self, holder, *endpoints):
        self.holder = holder
        self.name = f"{holder.name.replace('/', '-')}-{holder.uid}-{time.monotonic_ns()}"
        self._events = []
        self._lock = threading.Lock()
        self.child = holder.lab.own(Child(
            holder.argv("--json", "watch", *endpoints), holder.lab.log(self.name),
            uid=holder.uid, stdout=subprocess.PIPE))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.child.popen.stdout:
            event = json.loads(line)
            with self._lock:
                self._events.append((time.monotonic(), event))

    def history(self):
        with self._lock:
            return [event for _, event in self._events]

    def contexts(self):
        return [event for event in self.history() if event["event"] == "memctx"]

    def wait(self, what, predicate, timeout=60):
        """The first event for which predicate(event) is true, past ones included."""
        def probe():
            if not self.child.is_alive():
                raise RuntimeError(f"{self.name} ended: {self.child.text()}")
            return next((event for event in self.history() if predicate(event)), None)
        try:
            return wait_until(what, probe, timeout)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; {self.name} saw {self.history()[-12:]}") from None

    def wait_context(self, kcr3=None, above=0, timeout=60):
        return self.wait(
            f"a MEMCTX with kcr3 {kcr3 and hex(kcr3)} beyond epoch {above}",
            lambda e: e["event"] == "memctx" and e["epoch"] > above and
            (kcr3 is None or number(e["kcr3"]) == kcr3), timeout)

    def pause(self):
        self.child.signal(signal.SIGSTOP)

    def resume(self):
        self.child.signal(signal.SIGCONT)


def number(value):
    """JSON has addresses as hexadecimal strings, because doubles cannot hold them."""
    return value if isinstance(value, int) else int(value, 0)

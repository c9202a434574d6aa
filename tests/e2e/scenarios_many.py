#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many QEMUs on one host, found by their QMP sockets: what it costs the broker, as they become more.

Memory for hundreds of guests at work is not there, so that most of them wait with `-S` where
firmware would begin; some hold a kernel that has booted, loaded from one guest's saved state; and a
few boot by themselves. tests/e2e/many runs it with hundreds.
"""

import os
import signal
import subprocess
import time

import vmlab
from vmlab import Broker, Guest, Holder, check, equal, wait_until

GUESTS = int(os.environ.get("VMSIG_MANY_GUESTS", "16"))
LOADED = int(os.environ.get("VMSIG_MANY_LOADED", "4"))  # of them
BOOTED = int(os.environ.get("VMSIG_MANY_BOOTED", "0"))  # before them
SECONDS = float(os.environ.get("VMSIG_MANY_SECONDS", "0.2"))  # of looking at the idle broker
MEMORY = "80M"
# What the kernel does not need stays unwritten, or is zeros again, which take no memory.
APPEND = "init_on_alloc=0 init_on_free=1"
WAVE = 8
PATIENCE = 600  # seconds; on a loaded machine hundreds take their time
HERTZ = os.sysconf("SC_CLK_TCK")


def cpu_seconds(broker):
    """Of the broker and of the processes that it has made."""
    total = 0
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if broker.pid in (int(entry), int(fields[1])):
            total += int(fields[11]) + int(fields[12])
    return total / HERTZ


class Admin(Holder):
    """Of everything; asks at the administrators' socket."""

    def argv(self, *arguments):
        argv = super().argv(*arguments)
        argv[argv.index(self.broker.socket)] = self.broker.admin_socket
        return argv


class Host:
    def __init__(self, lab):
        self.lab = lab
        self.state = lab.path("tmp", "state")
        self.guests = []
        self._save()
        tenants = [vmlab.tenant("all"), vmlab.tenant("boss", role="admin")]
        self.broker = Broker(lab, [], tenants, limits={"names": 4096}, start=False,
                             discover=[{"qmp": lab.path("qmp", "*.sock")}])
        self.holder = Holder(self.broker, "sensor/all")

    def _save(self):
        """The state of a guest that has booted, and stands still."""
        guest = Guest(self.lab, "first", memory=MEMORY, append=APPEND)
        guest.boot()
        guest.qmp.execute("stop")
        guest.qmp.execute("migrate", uri=f"exec:cat >{self.state}")
        wait_until("the guest's state is saved", lambda: guest.qmp.execute(
            "query-migrate").get("status") == "completed", 60)
        guest.qmp.execute("quit")
        guest.child.wait()
        guest.remove_ram()

    def add(self, loaded):
        extra = ["-S"] + (["-incoming", f"exec:cat {self.state}"] if loaded else [])
        guest = Guest(self.lab, f"vm{len(self.guests):03}", memory=MEMORY, append=APPEND, extra=extra)
        guest.settled = False
        self.guests.append(guest)

    def add_all(self, n, loaded):
        """Those with a kernel are spread among the others."""
        for i in range(n):
            self.add((i + 1) * loaded // n > i * loaded // n)
            if i % WAVE == WAVE - 1:
                for guest in self.guests[-WAVE:]:
                    self._settle(guest)
        for guest in self.guests:
            self._settle(guest)

    @staticmethod
    def _settle(guest):
        """Stands still; what QEMU has only looked at while it loaded is given back."""
        if guest.settled:
            return
        wait_until(f"{guest.name} stands still", lambda: guest.qmp.execute(
            "query-status")["status"] in ("paused", "prelaunch"), PATIENCE)
        if "-incoming" in guest.child.argv:
            subprocess.run(["fallocate", "--dig-holes", guest.ram_path], check=True)
        guest.settled = True

    def drop(self, n):
        """All but the first n end."""
        for guest in self.guests[n:]:
            guest.child.signal(signal.SIGKILL)
        for guest in self.guests[n:]:
            guest.kill()
            guest.remove_ram()
            os.unlink(guest.qmp_path)
        del self.guests[n:]

    def is_up(self):
        """Each is listed, and is what it is known to be."""
        entries = self.holder.endpoints()
        if len(entries) != len(self.guests):
            return False
        with_kernel = sum(entry["state"] == "ready" for entry in entries.values())
        waiting = sum("waits for `cont`" in entry["detail"] for entry in entries.values())
        return with_kernel == self.loaded() and with_kernel + waiting == len(self.guests)

    def loaded(self):
        return sum("-incoming" in guest.child.argv for guest in self.guests)

    def await_up(self):
        """How long it took, and what it has cost the broker: seconds, seconds of CPU time."""
        began, before = time.monotonic(), cpu_seconds(self.broker)
        wait_until(f"{len(self.guests)} guests are up", self.is_up, PATIENCE, 0.25)
        return time.monotonic() - began, cpu_seconds(self.broker) - before

    def longest_turn_ms(self):
        counted = Admin(self.broker, "admin/boss").ctl("stats").decode()
        values = dict(line.split(None, 1) for line in counted.splitlines())
        return float(values["vmsig_loop_longest_turn_seconds"]) * 1000

    def long_turns(self):
        """Those above 20 ms: {who is said to have caused it: (how many, ms of the longest, ms that
        were computed in one, and not waited for a CPU, at most)}."""
        owners = {}
        for record in self.broker.records():
            if record["msg"] == "a turn of the loop took long":
                owner = record.get("owner", "?")
                n, longest, computed = owners.get(owner, (0, 0, 0))
                owners[owner] = (n + 1, max(longest, record["ms"]),
                                 max(computed, record["computed_ms"]))
        return owners

    def idle_cpu(self):
        """Of a second's time, the part that the broker computes for."""
        before = cpu_seconds(self.broker)
        time.sleep(SECONDS)
        return (cpu_seconds(self.broker) - before) / SECONDS


def boot_some(lab, host):
    """Guests that boot at the same time: how much later than its own kernel says so is each
    ready?"""
    guests = [Guest(lab, f"boot{i:02}", memory=MEMORY, append=APPEND) for i in range(BOOTED)]
    late = []
    for guest in guests:
        truth = guest.boot(600)
        began = time.monotonic()
        wait_until(f"{guest.name} is ready", lambda name=guest.name: host.holder.endpoints().get(
            name, {}).get("state") == "ready", 120, 0.1)
        late.append(time.monotonic() - began)
        equal(vmlab.number(host.holder.json("info", guest.name)["kcr3"]), truth.kcr3, "kcr3")
    if late:
        print(f"{BOOTED} boot at the same time: ready {max(late):.2f} s after the kernel's own "
              "word at the latest")
    for guest in guests:
        guest.kill()
        guest.remove_ram()
        os.unlink(guest.qmp_path)


def many(lab):
    host = Host(lab)
    host.broker.start()
    boot_some(lab, host)
    wait_until("nobody is listed", lambda: not host.holder.endpoints(), 60, 0.2)
    began, before = time.monotonic(), cpu_seconds(host.broker)
    host.add_all(GUESTS, LOADED)
    started = time.monotonic() - began
    seconds, _ = host.await_up()
    print(f"{GUESTS} started within {started:.1f} s ({LOADED} with a kernel); all up "
          f"{seconds:.2f} s after the last; {cpu_seconds(host.broker) - before:.2f} s of the "
          f"broker's CPU time; longest turn {host.longest_turn_ms():.1f} ms "
          f"{host.long_turns() or ''}")

    print("|guests|with a kernel|s from the broker's start until all are up|CPU ms a guest|"
          "idle CPU ms/s a guest|longest turn ms|descriptors|")
    n = GUESTS
    while n >= min(GUESTS, 16):
        host.drop(n)
        host.broker.stop()
        host.broker.start()
        seconds, _ = host.await_up()
        total = cpu_seconds(host.broker)
        print(f"|{n}|{host.loaded()}|{seconds:.2f}|{total * 1000 / n:.2f}|"
              f"{host.idle_cpu() * 1000 / n:.3f}|{host.longest_turn_ms():.1f}|"
              f"{host.broker.descriptors()}| {host.long_turns() or ''}", flush=True)
        n //= 2
    check(host.is_up(), "one has gone while nothing happened")
    host.broker.stop()


if __name__ == "__main__":
    vmlab.main({"many": many})

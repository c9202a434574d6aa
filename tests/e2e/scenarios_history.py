#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Three hosts of a fleet want to write to one guest, while their brokers are killed and stopped and
their ways to etcd are cut; what their clients saw is recorded, and judged afterwards.

`tests/e2e/fleet-history` is the same for longer.
"""

import json
import os
import random
import signal
import threading
import time

import vmlab
from vmlab import Wire, check, wait_until
from vmlab.broker import flow
from vmlab.fleet import Etcd, Host
from vmlab.relay import Relay
from vmlab.verdict import Violation, judge

HOSTS = 3
SIZE = 1 << 20
ADDRESS = 0x4000
UUID = "6f1f2c1e-0000-4000-8000-0000000000cc"
TTL = "3s"
LEASE_MS = 2000
WRITES = 60  # under a lease
RENEWED = 20
RETRIES = 100
ENOUGH = 10  # writes that show that somebody can
BROKEN_S = 6  # seconds that something stays broken, at most, in a long round
SECONDS = float(os.environ.get("VMSIG_HISTORY_SECONDS", "0"))
SEED = int(os.environ.get("VMSIG_HISTORY_SEED", "1"))
KEPT = os.environ.get("VMSIG_HISTORY_FILE")
# What a client is told when nobody says what became of its write.
SILENT = ("DISCONNECTED", "UNKNOWN_OUTCOME", "SHUTTING_DOWN")


class Record:
    """What all clients saw."""

    def __init__(self):
        self._lock = threading.Lock()
        self.history = []
        self._values = 0
        self.done = {}

    def next_value(self):
        with self._lock:
            self._values += 1
            return self._values

    def add(self, operation):
        with self._lock:
            self.history.append(operation)
            if operation["op"] == "write" and operation["outcome"] == "ok":
                host = operation["host"]
                self.done[host] = self.done.get(host, 0) + 1

    def writes_of(self, host):
        with self._lock:
            return self.done.get(host, 0)


class Client(threading.Thread):
    """Takes a lease on its host whenever it gets one, and writes under it for as long as it can. One
    whose connection ends takes its lease up again, and repeats the write that has no outcome."""

    def __init__(self, record, host):
        super().__init__(daemon=True)
        self.record = record
        self.host = host
        self.wire = None
        self.over = threading.Event()
        self.failure = None

    def run(self):
        try:
            while not self.over.is_set():
                self.live()
        except Exception as error:  # the scenario tells it
            self.failure = error

    def ask(self, *words):
        if self.wire is None:
            self.wire = Wire(self.host.broker)
        try:
            answer = self.wire.do(*words)
        except (OSError, RuntimeError):
            answer = "DISCONNECTED"
        if answer.startswith("DISCONNECTED"):
            self.wire.child.stop()
            self.host.lab.disown(self.wire.child)
            self.wire = None
        return answer

    def live(self):
        begin = time.monotonic_ns()
        answer = self.ask("acquire", "vm", LEASE_MS).split()
        if answer[0] != "ok":
            self.over.wait(0.1)
            return
        lease, token, epoch, endpoint = (int(word) for word in answer[1:])
        self.record.add({"op": "grant", "host": self.host.name, "begin": begin,
                         "end": time.monotonic_ns(), "lease": lease, "token": token,
                         "epoch": epoch})
        sequence = 1
        while not self.over.is_set() and self.write(lease, token, epoch, endpoint, sequence):
            sequence += 1
            self.over.wait(0.002)
            if sequence % RENEWED == 0 and self.ask("renew", lease, token).split()[0] != "ok":
                return
            if sequence > WRITES:
                self.ask("release", lease, token)
                return

    def write(self, lease, token, epoch, endpoint, sequence):
        """Whether the lease goes on."""
        operation = {"op": "write", "host": self.host.name, "begin": time.monotonic_ns(),
                     "lease": lease, "token": token, "sequence": sequence,
                     "value": self.record.next_value(), "outcome": "unknown", "old": None}
        words = ("write", lease, token, epoch, endpoint, sequence, hex(ADDRESS),
                 operation["value"], "old")
        answer = self.ask(*words)
        repeated = answer.startswith(SILENT)
        if repeated and self.resume(lease, token):
            answer = self.ask(*words)
        if answer.startswith("ok"):
            operation["outcome"] = "ok"
            old = [word for word in answer.split() if word.startswith("old=")]
            operation["old"] = int.from_bytes(bytes.fromhex(old[0][4:]), "little") if old else None
        elif not repeated:
            operation["outcome"] = answer.split()[0]
        # Else a refusal says nothing of the first attempt.
        operation["end"] = time.monotonic_ns()
        self.record.add(operation)
        return operation["outcome"] == "ok"

    def resume(self, lease, token):
        """Whether the lease is this client's again, after its connection was lost."""
        for _ in range(RETRIES):
            answer = self.ask("resume", lease, token)
            if not answer.startswith(SILENT) or self.over.is_set():
                return answer.startswith("ok")
            self.over.wait(0.1)
        return False


class Fleet:
    """The hosts, each with its way to etcd, and the guest's memory, which all of them serve."""

    def __init__(self, lab):
        self.lab = lab
        self.ram = lab.path("ram", "vm")
        with open(self.ram, "wb") as file:
            file.truncate(SIZE)
        self.etcd = Etcd(lab)
        port = int(self.etcd.urls[0].rsplit(":", 1)[1])
        endpoint = {"name": "vm", "adapter": "file", "path": self.ram, "low": "1MiB",
                    "kcr3": 0x2000, "writable": True, "uuid": UUID}
        served = f"endpoints: [{flow(endpoint)}]\n"
        self.ways = [Relay(port) for _ in range(HOSTS)]
        self.hosts = [Host(lab, f"host{number + 1}", self.etcd, served, ttl=TTL,
                           urls=[f"http://127.0.0.1:{way.port}"])
                      for number, way in enumerate(self.ways)]
        self.record = Record()
        self.kills = 0
        self.clients = [Client(self.record, host) for host in self.hosts]
        for client in self.clients:
            client.start()

    # What breaks, and how it is mended.

    def kill(self, number):
        self.kills += 1
        self.hosts[number].broker.crash()

    def start(self, number):
        self.hosts[number].broker.start()

    def stop(self, number):
        self.hosts[number].broker.child.signal(signal.SIGSTOP)

    def go_on(self, number):
        self.hosts[number].broker.child.signal(signal.SIGCONT)

    def freeze(self, number):
        self.ways[number].freeze()

    def cut(self, number):
        self.ways[number].cut()

    def mend(self, number):
        self.ways[number].open()

    def without_etcd(self, _):
        self.etcd.kill(0)

    def with_etcd(self, _):
        self.etcd.start(0)

    # What is waited for.

    def counts(self):
        for client in self.clients:
            if client.failure:
                raise client.failure
        return [self.record.writes_of(host.name) for host in self.hosts]

    def writer(self, but=None, timeout=120):
        """The number of a host that writes now."""
        before = self.counts()

        def probe():
            for number, count in enumerate(self.counts()):
                if number != but and count >= before[number] + ENOUGH:
                    return [number]
            return None
        return wait_until("somebody writes", probe, timeout)[0]

    def end(self):
        """The word, and what each host has recorded, when nobody asks for anything any more."""
        for client in self.clients:
            client.over.set()
        for client in self.clients:
            client.join(120)
            check(not client.is_alive(), f"the client of {client.host.name} does not end")
        self.counts()
        audits = {host.name: audit(host) for host in self.hosts}
        with open(self.ram, "rb") as file:
            file.seek(ADDRESS)
            return int.from_bytes(file.read(8), "little"), audits


def audit(host):
    """What is recorded of writes; the log is whole."""
    host.admin("audit", "verify")
    records = []
    for line in host.admin("audit", "export").splitlines():
        entry = json.loads(line)
        outcome = {"write-intent": "begun", "write-result": entry.get("outcome", "").lower()}
        if entry["kind"] in outcome:
            records.append({"token": int(str(entry["token"]), 0), "sequence": entry["sequence"],
                            "outcome": outcome[entry["kind"]]})
    return records


FAULTS = [(Fleet.kill, Fleet.start), (Fleet.stop, Fleet.go_on), (Fleet.freeze, Fleet.mend),
          (Fleet.cut, Fleet.mend), (Fleet.without_etcd, Fleet.with_etcd)]


def one_after_another(fleet):
    """Each of these has another host write."""
    for breaks, mends in FAULTS[:3]:
        number = fleet.writer()
        breaks(fleet, number)
        fleet.writer(but=number)
        mends(fleet, number)
    fleet.writer()


def at_random(fleet, seconds, seed):
    """Up to two things are broken at a time, of two hosts."""
    chance = random.Random(seed)
    until = time.monotonic() + seconds
    print(f"seed {seed}", flush=True)
    while time.monotonic() < until:
        numbers = chance.sample(range(HOSTS), chance.choice((1, 1, 2)))
        broken = [(chance.choice(FAULTS), number) for number in numbers]
        if len({mends for (_, mends), _ in broken}) < len(broken):
            broken = broken[:1]
        for (breaks, _), number in broken:
            breaks(fleet, number)
        time.sleep(chance.uniform(0, BROKEN_S))
        for (_, mends), number in broken:
            mends(fleet, number)
        time.sleep(chance.uniform(0, BROKEN_S))
    fleet.writer()


def fleet_history(lab):
    """Whoever writes, and whatever breaks: what was seen can be of one guest that one host at a time
    may write to."""
    fleet = Fleet(lab)
    fleet.writer()
    if SECONDS:
        at_random(fleet, SECONDS, SEED)
    else:
        one_after_another(fleet)
    final, audits = fleet.end()
    seen = {"history": fleet.record.history, "final": final, "audits": audits,
            "kills": fleet.kills}
    if KEPT:
        with open(KEPT, "w", encoding="utf-8") as file:
            json.dump(seen, file, indent=1)
    writes = [one for one in seen["history"] if one["op"] == "write"]
    print(f"{len(seen['history']) - len(writes)} leases, {len(writes)} writes, "
          f"{sum(one['outcome'] == 'ok' for one in writes)} of them applied, "
          f"{sum(one['outcome'] == 'unknown' for one in writes)} unknown; "
          f"{len({one['host'] for one in writes})} hosts have written")
    judge(**seen)


# ---- the judge ----

def grant(host, begin, token, epoch):
    return {"op": "grant", "host": host, "begin": begin, "end": begin + 1, "lease": token,
            "token": token, "epoch": epoch}


def write(host, begin, token, value, outcome="ok", old=None):
    return {"op": "write", "host": host, "begin": begin, "end": begin + 1, "lease": token,
            "token": token, "sequence": value, "value": value, "outcome": outcome, "old": old}


def good():
    """A history that can be: one host is killed after its second write, whose end nobody has seen,
    and another one goes on."""
    history = [grant("a", 0, 1, 1), write("a", 2, 1, 1, old=0), write("a", 4, 1, 2, "unknown"),
               grant("b", 10, 2, 4097), write("b", 12, 2, 3, old=2), write("b", 14, 2, 4, "BUSY")]
    return {"history": history, "final": 3, "kills": 0, "audits": {
        "a": [{"token": 1, "sequence": 1, "outcome": "ok"},
              {"token": 1, "sequence": 2, "outcome": "begun"}],
        "b": [{"token": 2, "sequence": 3, "outcome": "ok"}]}}


def with_changes(**changes):
    """The good one, in which operation or record NUMBER has something else."""
    seen = good()
    seen["final"] = changes.pop("final", seen["final"])
    for place, members in changes.items():
        kind, number = place[0], int(place[1:])
        {"h": seen["history"], "a": seen["audits"]["a"],
         "b": seen["audits"]["b"]}[kind][number].update(members)
    return seen


# Each is one thing that must not be.
BAD = {
    "two leases have one token": with_changes(h3={"token": 1}),
    "a token that falls": with_changes(h0={"token": 3}),
    "an epoch of two hosts": with_changes(h3={"epoch": 1}),
    "an epoch that comes back": with_changes(h0={"epoch": 9000}),
    "an older token afterwards": with_changes(h4={"token": 0}, b0={"token": 0}),
    "two replace the same": with_changes(h4={"old": 0}),
    "what nobody has written": with_changes(h4={"old": 77}),
    "what was refused is there": with_changes(h2={"outcome": "BUSY"}),
    "the end is not the last": with_changes(final=4),
    "a write that is lost": with_changes(h2={"outcome": "ok", "old": 1}, h4={"old": 1}),
    "not in a log": with_changes(b0={"sequence": 9}),
    "refused and in a log": with_changes(b0={"sequence": 4}),
    "without a result": with_changes(a0={"outcome": "begun"}),
    "in two logs": with_changes(a1={"token": 2, "sequence": 3, "outcome": "ok"}),
}


def history_judge(_):
    """It lets pass what can be, and finds each of what cannot."""
    judge(**good())
    judge(**with_changes(a1={"outcome": "ok"}))
    for name, seen in BAD.items():
        try:
            judge(**seen)
        except Violation:
            continue
        raise AssertionError(f"the judge does not see: {name}")


if __name__ == "__main__":
    vmlab.main({"fleet_history": fleet_history, "history_judge": history_judge})

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tenants of a soak, each a process that can be killed at any moment: `actors.py KIND NAME ...`.

Each line on standard output is a fact, in JSON: {"op": what, "us": how long} of what worked, and
{"broken": sentence} of what must never be. What a tenant is refused, or loses because the broker,
its lease or the guest is gone, is everyday life.

  sensor    takes the contexts of all endpoints, reads every operator's counter in each: within an
            epoch none goes back; comes and goes
  operator  takes leases of its own 16 bytes of an endpoint, and counts there: each write must find
            what the one before it left, across restarts of the broker and of itself
"""
import argparse
import json
import os
import random
import struct
import sys
import time

COUNTERS = 0x8000  # guest-physical, of operator 0; 16 bytes for each
TALK_S = (0.5, 5.0)


def tell(**fact):
    print(json.dumps(fact), flush=True)


def timed(op, call, *arguments, **named):
    begun = time.monotonic_ns()
    result = call(*arguments, **named)
    tell(op=op, us=(time.monotonic_ns() - begun) // 1000)
    return result


def counter(memory, index):
    return struct.unpack("<Q", memory.read(COUNTERS + 16 * index, 8))[0]


class Sensor:
    def __init__(self, options, vmsig):
        self.options, self.vmsig = options, vmsig
        self.seen = {}  # (endpoint, epoch, operator): the highest

    def look(self, context):
        for index in range(self.options.operators):
            key = (context.endpoint, context.epoch, index)
            value = counter(context.mem, index)
            if value < self.seen.get(key, 0):
                tell(broken=f"{key}: the counter went from {self.seen[key]} to {value}")
            self.seen[key] = value
        if len(self.seen) > 100000:
            self.seen.clear()

    def round(self):
        vmsig = self.vmsig
        with vmsig.Connection(self.options.identity, self.options.socket) as connection:
            for endpoint in random.sample(self.options.endpoints,
                                          min(8, len(self.options.endpoints))):
                try:
                    with timed("context", connection.context, endpoint, 5.0) as context:
                        self.look(context)
                except (vmsig.StaleEpoch, vmsig.Gone, vmsig.NotReady, vmsig.Torn, vmsig.Timeout):
                    continue
            time.sleep(random.uniform(*TALK_S))


class Operator:
    """What it has been told lies in a file: the next of its name goes on from there."""

    def __init__(self, options, vmsig):
        self.options, self.vmsig = options, vmsig
        self.address = COUNTERS + 16 * options.index
        self.known = {}  # endpoint: [epoch, values that may be there]
        if os.path.exists(options.memory):
            with open(options.memory, encoding="utf-8") as file:
                self.known = json.load(file)

    def remember(self, endpoint, epoch, values):
        self.known[endpoint] = [epoch, values]
        draft = self.options.memory + ".new"
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(self.known, file)
        os.rename(draft, self.options.memory)

    def count(self, endpoint, lease):
        epoch, may_be = self.known.get(endpoint, [0, []])
        if epoch != lease.epoch:
            may_be = None
        old, value = may_be, max(may_be or [0]) + 1
        self.remember(endpoint, lease.epoch, (may_be or []) + [value])
        done = timed("write", lease.write, self.address, struct.pack("<Q", value), want_old=True)
        found = struct.unpack("<Q", done.old)[0]
        if old is not None and found not in old:
            tell(broken=f"{endpoint}: the counter of {self.options.name} is {found} in epoch "
                        f"{epoch}, and was left as one of {old}")
        self.remember(endpoint, lease.epoch, [value])

    def round(self):
        vmsig = self.vmsig
        endpoint = random.choice(self.options.endpoints)
        with vmsig.Writer(self.options.identity, self.options.socket) as writer:
            last = self.address + 15
            with timed("lease", writer.lease, endpoint, [(self.address, last)], ttl=5.0,
                       timeout=5.0) as lease:
                for _ in range(random.randrange(1, 60)):
                    self.count(endpoint, lease)
                    writer.keep(random.uniform(0, 0.02))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("sensor", "operator"))
    parser.add_argument("name")
    parser.add_argument("--python", required=True)
    parser.add_argument("--identity", required=True)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--memory")
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--operators", type=int, default=0)
    parser.add_argument("--endpoints", type=lambda text: text.split(","), required=True)
    options = parser.parse_args()
    sys.path.insert(0, options.python)
    import vmsig  # pylint: disable=import-outside-toplevel

    actor = {"sensor": Sensor, "operator": Operator}[options.kind](options, vmsig)
    while True:
        try:
            actor.round()
        except vmsig.Error as error:
            tell(refused=error.name)
            time.sleep(random.uniform(0.05, 0.5))


main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Operators write into a real guest, and programs inside it look."""

import re

import vmlab
from vmlab import Broker, Guest, Holder, Operator, check, equal

COUNT = 400  # increments of the host, while the guest does its own
GUEST_COUNT = 20000000
PAIRS = 60


class Written:
    """A guest with a page that host and guest share, a broker, an operator, an observer."""

    def __init__(self, lab, **rule):
        # With room for one vCPU only, TCG makes a load and a store of an atomic addition.
        self.guest = Guest(lab, extra=("-smp", "1,maxcpus=2"))
        self.broker = Broker(lab, [vmlab.qemu_endpoint(lab, writable=True)],
                             [vmlab.operator_tenant(quiesce="500ms", **rule), vmlab.tenant()])
        self.holder = Holder(self.broker)
        self.operator = Operator(self.broker)
        self.guest.boot()
        self.epoch = self.holder.wait_ready()["epoch"]
        self.file = "/run/shared"
        self.page = self._make_page()

    def _make_page(self):
        self.guest.console.run(f"guest-tool page {self.file} >/run/page.txt")
        self.guest.console.run(f"dd if=/dev/zero of={self.file} bs=4096 count=1 conv=notrunc")
        words = self.guest.console.run("cat /run/page.txt").split()
        equal(words[3], "0", "the page's offset in its file")
        return int(words[1], 16)

    def background(self, command, marker):
        """Starts guest-tool in the guest; returns where its output begins."""
        start = self.guest.console.mark()
        self.guest.console.send(f"guest-tool {command}")
        self.guest.console.expect(rf"^{marker}\n", start)
        return start

    def output(self, start, pattern, timeout=120):
        return self.guest.console.expect(pattern, start, timeout)

    def word(self, offset):
        return int.from_bytes(self.holder.read("vm1", self.page + offset, 8, phys=True), "little")


def seen_inside(lab):
    """A program inside the guest sees what an operator writes."""
    world = Written(lab)
    world.operator.must("acquire")
    start = world.background(f"watch {world.file} 60", "watching")
    world.operator.must("write", hex(world.page), "efbeadde00000000")
    match = world.output(start, r"^watch ([0-9a-f]+) ([0-9a-f]+)\n")
    equal(int(match[1], 16), 0, "what the guest saw before")
    equal(int(match[2], 16), 0xdeadbeef, "what the guest saw then")
    # And the host's own readers do.
    equal(world.word(0), 0xdeadbeef, "what a sensor reads")
    world.operator.must("release")


def cas_race(lab):
    """Host and guest add to one word, each atomically: no increment is lost."""
    world = Written(lab)
    world.operator.must("acquire")
    start = world.background(f"incr {world.file} {GUEST_COUNT}", "incrementing")
    tries = int(world.operator.must("count", hex(world.page + 8), COUNT)[0])
    world.output(start, r"^incr \d+\n")
    equal(world.word(8), COUNT + GUEST_COUNT, f"the sum, after {tries} attempts of the host")
    check(tries > COUNT, "the guest was never faster: they did not race")


def quiesced(lab):
    """What is written under quiesce is never seen half, and the guest goes on."""
    world = Written(lab)
    world.operator.must("acquire")
    start = world.background(f"pair {world.file} 6", "pairing")
    world.operator.must("pair", hex(world.page + 16), hex(world.page + 2064), PAIRS, "quiesce")
    world.operator.must("bulk", hex(world.page + 16), hex(world.page + 2064), PAIRS)
    match = world.output(start, r"^pair (\d+) (\d+)\n")
    check(int(match[1]) > 1, f"the guest saw {match[1]} changes")
    equal(int(match[2]), 0, "batches that were seen half")
    equal(world.guest.qmp.execute("query-status")["status"], "running", "the guest's state")
    world.holder.wait_ready(epoch=world.epoch)
    equal(world.holder.endpoint()["epoch"], world.epoch, "the epoch after so many stops")


def reset_revokes(lab):
    """A reset ends the lease; a late write is refused, and nothing of it arrives."""
    world = Written(lab)
    world.operator.must("acquire")
    world.guest.reset()
    equal(world.operator.must("lost"), ["STALE_EPOCH"], "why the lease was lost")
    answer = world.operator.do("late", hex(world.page))
    check(answer.startswith("STALE_EPOCH"), f"a late write: {answer}")
    world.guest.boot()
    world.holder.wait_ready(epoch=world.epoch + 1)
    check(world.word(0) != 0xdeadbeef, "a late write arrived")
    epoch = int(world.operator.must("acquire")[2])
    check(epoch > world.epoch, f"the new lease's epoch {epoch}")


def broker_killed(lab):
    """SIGKILL of the broker: the same kernel runs on, so epoch, lease and token go on too."""
    world = Written(lab, ttl_max="1h")
    lease = world.operator.must("acquire", 3600000)
    world.operator.must("write", hex(world.page), "0100000000000000")
    world.broker.restart(crash=True)
    info = world.holder.wait_ready()
    equal(info["epoch"], world.epoch, "the epoch after a restart of the broker")
    # The library resumes the lease and goes on with its numbers.
    world.operator.must("idle", 200)
    world.operator.must("write", hex(world.page), "0200000000000000")
    equal(world.word(0), 2, "the word")
    records = [record for record in world.broker.records() if "revoked" in str(record)]
    equal(records, [], "revocations")
    check(re.match(r"\d+$", lease[1]), f"a token: {lease}")


def killed_while_stopped(lab):
    """SIGKILL of the broker while it has the vCPUs stopped: the guest goes on by itself."""
    world = Written(lab)
    world.operator.must("acquire")
    for _ in range(3):
        world.operator.start("pair", hex(world.page + 16), hex(world.page + 2064), 100000, "quiesce")
        vmlab.wait_until("a stop", lambda: world.word(16) > 5, 30, 0.01)
        world.broker.crash()
        vmlab.wait_until("the guest runs", lambda: world.guest.qmp.execute(
            "query-status")["status"] == "running", 30)
        # The guardian's connection is gone again.
        world.guest.console.run("true")
        world.operator.child.stop()
        world.guest.console.run(f"dd if=/dev/zero of={world.file} bs=4096 count=1 conv=notrunc")
        world.broker.start()
        world.holder.wait_ready()
        world.operator = Operator(world.broker)
        world.operator.must("acquire")


def migration_refused(lab):
    """While the guest's memory is copied elsewhere nothing is written."""
    world = Written(lab)
    world.operator.must("acquire")
    qmp = world.guest.qmp
    qmp.execute("migrate-set-parameters", **{"max-bandwidth": 1 << 16})
    qmp.execute("migrate", uri="exec:cat >/dev/null")
    vmlab.wait_until("writes are refused", lambda: world.operator.do(
        "write", hex(world.page), "0100000000000000").startswith("BUSY"), 30)
    qmp.execute("migrate_cancel")
    vmlab.wait_until("writes go on", lambda: world.operator.do(
        "write", hex(world.page), "0200000000000000") == "ok", 30)
    equal(world.word(0), 2, "the word")


if __name__ == "__main__":
    vmlab.main({function.__name__: function for function in (
        seen_inside, cas_race, quiesced, reset_revokes, broker_killed, killed_while_stopped,
        migration_refused)})

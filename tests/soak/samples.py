# SPDX-License-Identifier: Apache-2.0
"""What a soak measures of a broker, whether it grows, and the drawing of it."""
import os
import statistics
import time
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

# An idle broker may keep what its allocator has not given back: of a first quiet moment it is more
# than of none, of the tenth no more than of the second.
SLACK_KIB, SLACK_PART = 4096, 0.25
SLACK_FDS = 4
SLACK_THREADS = 2  # one of the pool that a loaded machine holds up for long is replaced
LOOKS, LOOK_S = 20, 0.25  # descriptors that others' threads are about to close
# What became of a write is known for an hour after its lease (LEDGER_KEEP_S in
# broker/desk_shell.c): that much of a broker's memory comes with its work, and goes.
ANSWER_S, ANSWER_KIB = 3600 + 60, 0.15
# Medians say as much of who else is on the machine: they are drawn, not judged. What is, is the
# broker's CPU time for each thing that it was asked for.
DEARER = 2.0  # the last third of the rounds over the first

WIDTH, HEIGHT, LEFT, TOP = 720, 160, 70, 24


@dataclass
class Sample:
    seconds: float  # since the soak began
    life: int       # of the broker, counted from its restarts
    anonymous_kib: int
    descriptors: int
    threads: int
    state_kib: int
    medians_us: dict[str, float] = field(default_factory=dict)  # of the busy time before
    writes: int = 0                                             # in that time
    asked: int = 0                                              # writes and all else
    cpu_s: float = 0.0                                          # of the broker, since its start


def _number(path, name):
    with open(path, encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))


def folder_kib(folder):
    return sum(os.lstat(os.path.join(where, name)).st_blocks // 2
               for where, _, names in os.walk(folder) for name in names)


def descriptors(pid):
    """The fewest of some looks."""
    fewest = len(os.listdir(f"/proc/{pid}/fd"))
    for _ in range(LOOKS):
        time.sleep(LOOK_S)
        fewest = min(fewest, len(os.listdir(f"/proc/{pid}/fd")))
    return fewest


def cpu_s(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        words = file.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime


def take(seconds, life, pid, state, medians_us, counts):
    return Sample(seconds, life, _number(f"/proc/{pid}/smaps_rollup", "Anonymous:"),
                  descriptors(pid), _number(f"/proc/{pid}/status", "Threads:"),
                  folder_kib(state), medians_us, counts.get("write", 0), sum(counts.values()),
                  cpu_s(pid))


def answers_kib(samples, at):
    """What answers may take that are kept at the moment `at`."""
    return ANSWER_KIB * sum(sample.writes for sample in samples
                            if at - ANSWER_S < sample.seconds <= at)


def _grown(samples, everything):
    """Of one life of the broker: sentences on what the last quiet moment has more than the second."""
    if len(samples) < 3:
        return
    first, last = samples[1], samples[-1]
    answers = answers_kib(everything, last.seconds) - answers_kib(everything, first.seconds)
    allowed = first.anonymous_kib + max(SLACK_KIB, SLACK_PART * first.anonymous_kib) + \
        max(0, answers)
    if last.anonymous_kib > allowed:
        yield f"memory of life {first.life} grew from {first.anonymous_kib} to " \
              f"{last.anonymous_kib} KiB in {len(samples) - 1} rounds"
    if last.descriptors > first.descriptors + SLACK_FDS:
        yield f"descriptors of life {first.life} grew from {first.descriptors} to {last.descriptors}"
    if last.threads > first.threads + SLACK_THREADS:
        yield f"threads of life {first.life} grew from {first.threads} to {last.threads}"


def costs_us(samples):
    """(seconds, CPU time of the broker for each thing it was asked for), of rounds within a life."""
    return [(now.seconds, 1e6 * (now.cpu_s - before.cpu_s) / now.asked)
            for before, now in zip(samples, samples[1:]) if now.life == before.life and now.asked]


def _dearer(samples):
    costs = [cost for _, cost in costs_us(samples)]
    if len(costs) < 9:
        return
    third = len(costs) // 3
    first, last = statistics.median(costs[:third]), statistics.median(costs[-third:])
    if last > DEARER * first:
        yield f"what is asked for costs {last:.0f} us of CPU time, and cost {first:.0f}"


def verdict(samples):
    """What grew, as sentences."""
    found = []
    for life in sorted({sample.life for sample in samples}):
        found += _grown([sample for sample in samples if sample.life == life], samples)
    return found + list(_dearer(samples))


def _panel(index, title, points):
    top = max([value for _, value in points] + [1]) * 1.1
    end = max([at for at, _ in points] + [1])
    base = index * HEIGHT

    def place(at, value):
        return (f"{LEFT + (WIDTH - LEFT - 20) * at / end:.1f},"
                f"{base + TOP + (HEIGHT - TOP - 20) * (1 - value / top):.1f}")

    line = " ".join(place(at, value) for at, value in points)
    return (f'<text x="{LEFT}" y="{base + 16}">{escape(title)}</text>'
            f'<text x="{LEFT - 6}" y="{base + TOP + 8}" text-anchor="end">{top:.0f}</text>'
            f'<text x="{LEFT - 6}" y="{base + HEIGHT - 20}" text-anchor="end">0</text>'
            f'<text x="{WIDTH - 20}" y="{base + HEIGHT - 4}" text-anchor="end">{end / 60:.0f} min'
            f'</text><polyline points="{line}" fill="none" stroke="#36b" stroke-width="2"/>')


def svg(samples):
    panels = [("memory of the idle broker, KiB", [(s.seconds, s.anonymous_kib) for s in samples]),
              ("what its answers of the last hour may take of that, KiB",
               [(s.seconds, answers_kib(samples, s.seconds)) for s in samples]),
              ("its descriptors", [(s.seconds, s.descriptors) for s in samples]),
              ("its CPU time for each thing that it was asked for, us", costs_us(samples)),
              ("its state folder, KiB", [(s.seconds, s.state_kib) for s in samples])]
    for op in sorted({op for sample in samples for op in sample.medians_us}):
        panels.append((f"median of '{op}', us", [(s.seconds, s.medians_us[op]) for s in samples
                                                 if op in s.medians_us]))
    panels = [(title, points) for title, points in panels if points]
    body = "".join(_panel(i, title, points) for i, (title, points) in enumerate(panels))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
            f'height="{HEIGHT * len(panels)}"><style>text{{font:12px sans-serif}}</style>{body}'
            "</svg>\n")

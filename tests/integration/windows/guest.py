# SPDX-License-Identifier: Apache-2.0
"""A whole constructed Windows guest: make() writes its memory and returns what is in it."""
import struct

import image
import programs
from process import MAPPED, READ_ONLY, READ_WRITE, RUN_ALL, Area, Process

ENVIRONMENT = ["OS=Windows_NT", "Path=C:\\Windows;C:\\Windows\\System32", "USER=J\u00f6rg \U0001f600"]


class Processes:
    """Those of a guest, some of which its lists leave out."""

    def __init__(self, guest, libraries):
        self.guest, self.libraries = guest, libraries
        self.chance = guest.chance
        self.high = 0x7ff800000000 if guest.layout.build >= 9600 else 0x7fe00000000
        self.all, self.unlinked = [], []
        self.system = self.add("System", 4, 0, "system", threads=5)

    def add(self, *arguments, linked=True, **named):
        process = Process(self.guest, *arguments, **named)
        (self.all if linked else self.unlinked).append(process)
        return process

    def address(self, n):
        return self.high + self.chance.randrange(n * 0x40, n * 0x40 + 0x40) * 0x100000

    def user(self, name, pid, parent, command, threads=2, linked=True):
        process = self.add(name, pid, parent, threads=threads, linked=linked)
        images = [(name if len(name) < 15 else "program.exe", "program.exe"),
                  ("ntdll.dll", "ntdll.dll"), ("kernel32.dll", "kernel32.dll")]
        bases = {file: self.address(i + 1) for i, (_, file) in enumerate(images)}
        addresses = {(file, export): bases[file] + at for file in bases
                     for export, at in self.libraries[file].exports().items()}
        placed = []
        for shown, file in images:
            pe = self.libraries[file]
            process.add_image(shown, pe, bases[file], addresses)
            placed.append((shown, bases[file], pe.size))
        peb = self.high - 0x10000000 + self.chance.randrange(0x1000) * 0x4000
        process.add_program(peb, placed, command, ENVIRONMENT)
        for i in range(12):
            start = 0x30000000000 + self.chance.randrange(1 << 12) * 0x1000000 + i * 0x100000
            process.areas.append(Area(start, self.chance.randrange(1, 16) * 4096, READ_WRITE))
        process.areas = without_overlap(process.areas)
        return process

    def put(self):
        layout = self.guest.layout
        links = layout.pid + 8
        head = self.guest.lists
        ring = [head, *(process.object + links for process in self.all), head]
        for i, process in enumerate(self.all):
            process.put(ring[i + 2], ring[i], getattr(process, "linked", None))
        self.guest.kernel.put(head, struct.pack("<QQ", ring[1], ring[-2]))
        self.guest.place("process.head", head, 16)
        # What was taken out of the ring still points to where it was.
        for process in self.unlinked:
            process.put(ring[2], ring[1])
        self.guest.kernel.put(self.guest.at["PsInitialSystemProcess"],
                              struct.pack("<Q", self.system.object))
        self.guest.place("kernel.system", self.guest.at["PsInitialSystemProcess"])


def without_overlap(areas):
    kept = []
    for area in sorted(areas, key=lambda area: area.start):
        if not kept or area.start >= kept[-1].end:
            kept.append(area)
    return kept


def injected(processes, process):
    """What is worth a look in it."""
    process.areas.append(Area(0x20000000000, 0x5000, RUN_ALL))
    process.areas.append(Area(0x20000100000, 0x3000, READ_ONLY, MAPPED, private=False,
                              path="\\Windows\\Globalization\\Sorting\\sortdefault.nls"))
    process.areas.append(Area(0x20000200000, 0x2000, READ_ONLY, MAPPED, private=False,
                              path="\\Users\\away.dat", paged_out=True))
    process.areas.append(Area(0x20000300000, 0x4000, READ_WRITE, MAPPED, private=False))
    base = processes.address(9)
    library = processes.libraries["kernel32.dll"]
    addresses = {("ntdll.dll", name): 0x1000 for name in ("NtClose", "#8", "RtlNumbered")}
    process.add_image("loaded.dll", library, base, addresses, listed=False,
                      path="\\Temp\\loaded.dll")
    # A page of it that nobody touched.
    process.space.unmap(base + library.directories[0][0])
    return base


def populate(guest, libraries):
    """Its processes, and what `check` should find beside modules."""
    layout = guest.layout
    processes = Processes(guest, libraries)
    processes.system.areas = [Area(0x20000000, 0x10000, READ_WRITE), Area(0x7ffe0000, 0x1000, READ_ONLY)]
    if layout.build >= 17134:
        processes.add("Registry", 96, 4, "system", threads=1)
    processes.user("smss.exe", 308, 4, "\\SystemRoot\\System32\\smss.exe")
    csrss = processes.user("csrss.exe", 412, 308, "%SystemRoot%\\csrss.exe ObjectDirectory=\\Windows",
                           threads=4)
    csrss.linked = [True, True, False, True]
    processes.user("notepad.exe", 2044, 1888, "\"C:\\Program Files\\n.exe\" \u00fc\u20ac\U0001f600.txt",
                   threads=7)
    victim = processes.user("averylongname0.exe", 3120, 2044, "x")
    unlisted = injected(processes, victim)
    processes.add("ended.exe", 3200, 2044, "ended")
    hidden = processes.user("rootkit.exe", 3300, 4, "rootkit", linked=False)
    processes.add("old.exe", 3400, 4, "ended", linked=False)
    processes.put()
    findings = [["process", hidden.pid, hidden.object], ["thread", 412, csrss.threads[2]],
                ["map", victim.pid, 0x20000000000]]
    return processes, findings, unlisted


def places_of_code(guest):
    """What the kernel's image says of itself, and the code that tells where members are."""
    pe = guest.files["ntoskrnl.exe"]
    guest.place("kernel.headers", guest.base, 64)
    guest.place("kernel.headers", guest.base + pe.nt, 24 + 112 + 8 * 16)
    guest.place("kernel.sections", guest.base + pe.nt + 24 + 240, 40 * len(pe.sections))
    at, size = pe.directories[0]
    guest.place("kernel.exports", guest.base + at, size)
    for name, address in guest.at.items():
        if name.startswith("Ps") and name not in ("PsInitialSystemProcess", "PsLoadedModuleList"):
            guest.place("kernel.code", address, 9)


def make(layout, folder, path):
    """The truth of the guest whose RAM is now in `path`; `folder` gets what is built for it."""
    guest = image.Guest(layout, folder)
    libraries = {name: programs.Pe(data) for name, data in programs.libraries(folder).items()}
    modules, rootkit = guest.modules()
    processes, findings, unlisted = populate(guest, libraries)
    places_of_code(guest)
    guest.memory.write(path)
    symbols = {name: at for name, at in guest.at.items() if not name.startswith("#")}
    return {"layout": layout.name, "build": layout.build, "title": layout.title, "kcr3": 0x1aa000,
            "kernel": guest.base, "modules": modules, "symbols": symbols,
            "processes": [process.truth() for process in processes.all],
            "findings": sorted(findings + [["module", 0, rootkit]]), "unlisted": unlisted,
            "places": guest.places}

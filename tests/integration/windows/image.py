# SPDX-License-Identifier: Apache-2.0
"""A Windows guest's memory that is constructed: page tables with a map of themselves, a kernel and
libraries by a real linker, objects that are linked as Windows links them, and noise between what is
known of them. It follows layouts.py and knows nothing of who looks at it.

make(layout, folder, path) writes the RAM (sparse) and returns the truth: what is in it, and where in
the file each thing lies that a reader goes by ("places").
"""
import os
import random
import struct

import programs

PAGE = 4096
RAM = 64 << 20
HALF = 256
PRESENT, WRITE, USER, ACCESSED, LARGE, NX = 1, 2, 4, 0x60, 0x80, 1 << 63
START_TIME = 0x01da000000000000  # of the guest, in 100 ns since 1601
UPTIME = 36000 * 10**7


def utf16(text):
    return text.encode("utf-16-le")


class Memory:
    """Guest-physical pages that were handed out, in no order."""

    def __init__(self, chance):
        self.pages = {}
        frames = list(range(0x400, RAM // PAGE))
        chance.shuffle(frames)
        self.free = frames

    def page(self, frame=None):
        frame = self.free.pop() if frame is None else frame
        self.pages[frame] = bytearray(PAGE)
        return frame

    def pages_in_row(self, count):
        """The first of so many that follow each other and are aligned, below all others."""
        first = 0x200
        for frame in range(first, first + count):
            self.page(frame)
        return first

    def write(self, path):
        with open(path, "wb") as file:
            file.truncate(RAM)
            for frame, page in self.pages.items():
                file.seek(frame * PAGE)
                file.write(page)


class Space:
    """Page tables, and what is written through them."""

    def __init__(self, memory, frame, shared=None):
        self.memory = memory
        self.frame = memory.page(frame)
        if shared:
            memory.pages[self.frame][HALF * 8:] = memory.pages[shared.frame][HALF * 8:]

    def entry(self, frame, index, value=None):
        page = self.memory.pages[frame]
        if value is not None:
            struct.pack_into("<Q", page, 8 * index, value)
        return struct.unpack_from("<Q", page, 8 * index)[0]

    def table(self, address, level, user):
        frame = self.frame
        for at in range(3, level, -1):
            index = address >> (12 + 9 * at) & 511
            value = self.entry(frame, index)
            if not value & PRESENT:
                value = self.entry(frame, index, self.memory.page() << 12 | PRESENT | WRITE |
                                   ACCESSED | (USER if user else 0))
            frame = value >> 12 & 0xfffffff
        return frame

    def map(self, address, frame, write=True, execute=False, large=False):
        user = address < 1 << 47
        self.entry(self.table(address, 1 if large else 0, user),
                   address >> (21 if large else 12) & 511,
                   frame << 12 | PRESENT | ACCESSED | (WRITE if write else 0) | (USER if user else 0) |
                   (LARGE if large else 0) | (0 if execute else NX))

    def unmap(self, address):
        """As a page that was written out: there is an entry, and it is not present."""
        self.entry(self.table(address, 0, address < 1 << 47), address >> 12 & 511, 0x80)

    def where(self, address):
        """The place in the RAM's file; None: nothing is mapped."""
        frame = self.frame
        for level in (3, 2, 1, 0):
            value = self.entry(frame, address >> (12 + 9 * level) & 511)
            if not value & PRESENT:
                return None
            if level == 1 and value & LARGE:
                return (value & 0xfffffffe00000) + (address & 0x1fffff)
            frame = value >> 12 & 0xfffffff
        return frame * PAGE + (address & 0xfff)

    def put(self, address, data, execute=False, write=True):
        at = 0
        while at < len(data):
            n = min(len(data) - at, PAGE - (address + at) % PAGE)
            if self.where(address + at) is None:
                self.map(address + at & ~0xfff, self.memory.page(), write, execute)
            where = self.where(address + at)
            page = self.memory.pages[where // PAGE]
            page[where % PAGE:where % PAGE + n] = data[at:at + n]
            at += n


class Guest:
    """What all of them share."""

    def __init__(self, layout, folder):
        self.layout = layout
        self.chance = random.Random(layout.name)
        self.memory = Memory(self.chance)
        self.folder = folder
        self.places = {}
        self.newer = layout.build >= 14393
        self.make_kernel_space()
        self.boot_stub()
        self.load_kernel()
        self.shared_data()

    # -- the kernel's space

    def make_kernel_space(self):
        self.kernel = Space(self.memory, 0x1aa)
        self.self_map = HALF + self.chance.randrange(0x60, 0xd0) if self.newer else 0x1ed
        self.kernel.entry(0x1aa, self.self_map, 0x1aa << 12 | PRESENT | WRITE | ACCESSED | NX)
        base = 0xffff9000_00000000 if self.newer else 0xfffffa80_00000000
        self.pool = base + (self.chance.randrange(1 << 12) << 16)
        # Processes share the kernel's half: what it begins with has to be there from the start.
        for index in {0x101, 0x102, 0x104, 0x108, 0x1f0, 0x1f8, base >> 39 & 511}:
            if index != self.self_map and not self.kernel.entry(0x1aa, index):
                self.kernel.entry(0x1aa, index,
                                  self.memory.page() << 12 | PRESENT | WRITE | ACCESSED)

    def alloc(self, size):
        """Of the pool, behind a header."""
        at = self.pool + 0x20
        self.pool = (at + size + 0x3f) & ~15
        return at

    def string(self, text, paged_out=False):
        """UNICODE_STRING of the kernel's."""
        data = utf16(text)
        if paged_out:
            self.pool = (self.pool + 0xfff) & ~0xfff
            at = self.pool
            self.pool += PAGE
            self.kernel.put(at, data)
            self.kernel.unmap(at)
        else:
            at = self.alloc(len(data) + 2)
            self.kernel.put(at, data)
        return struct.pack("<HHIQ", len(data), len(data) + 2, 0, at)

    def noise(self, size):
        out = bytearray()
        while len(out) < size:
            kind = self.chance.random()
            out += struct.pack("<Q", 0 if kind < .45 else self.chance.randrange(1, 5000) if kind < .65
                               else (self.pool & ~0xfff) + self.chance.randrange(0, 1 << 18, 8)
                               if kind < .85 else self.chance.getrandbits(64))
        return out[:size]

    def place(self, label, address, size=8, space=None):
        """That a reader goes by what lies there."""
        where = (space or self.kernel).where(address)
        self.places.setdefault(label, []).append([where, size])

    # -- the kernel

    def boot_stub(self):
        """The start block that brings up further CPUs (PROCESSOR_START_BLOCK), in low memory."""
        self.stub = self.memory.page(0x13)

    def load_kernel(self):
        layout = self.layout
        files = programs.kernel(self.folder, layout)
        self.files = {name: programs.Pe(data) for name, data in files.items()}
        self.base = 0xfffff800_00000000 + (self.chance.randrange(0x100, 0x3f00) << 21)
        kernel = self.files["ntoskrnl.exe"]
        if layout.build in (7601, 16299, 19041, 26100):  # as real ones: with large pages
            first = self.memory.pages_in_row(512)
            self.kernel.map(self.base, first, execute=True, large=True)
        self.load(self.kernel, kernel, self.base, {})
        self.at = {name: self.base + at for name, at in kernel.exports().items()}
        self.lists = self.at["NtBuildNumber"] + 8
        stub = self.memory.pages[self.stub]
        struct.pack_into("<Q", stub, 0, 0x00000001000600e9 | 0x4d00)
        struct.pack_into("<Q", stub, 0x70, self.base + 0x1000)
        struct.pack_into("<Q", stub, 0xa0, 0x1aa << 12)

    def load(self, space, pe, base, addresses):
        image = pe.loaded(base, addresses)
        for at in range(0, len(image), PAGE):
            write, execute = pe.protection(at)
            space.put(base + at, image[at:at + PAGE], execute=execute, write=write)
        return image

    def shared_data(self):
        """KUSER_SHARED_DATA."""
        page = bytearray(0x300)
        for at, value in ((0x08, UPTIME), (0x14, START_TIME + UPTIME)):
            struct.pack_into("<QI", page, at, value, value >> 32)
        struct.pack_into("<I", page, 0x26c, 10 if self.layout.build >= 10240 else 6)
        self.kernel.put(0xfffff780_00000000, page)

    # -- modules of the kernel

    def modules(self):
        """ntoskrnl.exe, one without a file, a driver, one whose name is paged out."""
        driver = self.base + 0x800000
        used = {("ntoskrnl.exe", name): at for name, at in self.at.items()}
        self.load(self.kernel, self.files["driver.sys"], driver, used)
        found = [("ntoskrnl.exe", self.base, self.files["ntoskrnl.exe"].size),
                 ("hal.dll", self.base + 0x400000, 0x50000),
                 ("driver.sys", driver, self.files["driver.sys"].size),
                 ("", self.base + 0xc00000, 0x9000)]
        head = self.lists + 16
        entries = [self.alloc(0xa0) for _ in found]
        ring = [head, *entries, head]
        for i, (name, base, size) in enumerate(found):
            entry = self.noise(0xa0)
            struct.pack_into("<QQ", entry, 0, ring[i + 2], ring[i])
            struct.pack_into("<QQI", entry, 0x30, base, base + 0x1000, size)
            entry[0x58:0x68] = self.string(name or "away.sys", paged_out=not name)
            self.kernel.put(entries[i], entry)
            for label, at in (("module.links", 0), ("module.base", 0x30), ("module.size", 0x40),
                              ("module.name", 0x58), ("module.name", 0x60)):
                self.place(label, entries[i] + at)
        self.kernel.put(head, struct.pack("<QQ", entries[0], entries[-1]))
        self.place("module.head", head, 16)
        # One that is mapped and not listed.
        rootkit = self.base + 0x1000000
        self.load(self.kernel, self.files["rootkit.sys"], rootkit, used)
        return [{"name": n, "base": b, "size": s} for n, b, s in found], rootkit

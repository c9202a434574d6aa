# SPDX-License-Identifier: Apache-2.0
"""Processes of a constructed Windows guest: objects, threads, what lies in their address spaces, and
the trees of areas that say what that is."""
import struct

from image import PAGE, START_TIME, Space, utf16

NO_ACCESS, READ_ONLY, READ_WRITE, RUN_ALL, RUN_COPY = 0, 1, 4, 6, 7
MAPPED, IMAGE = 0, 2
PROTS = {0: "", 1: "r", 2: "x", 3: "rx", 4: "rw", 5: "rw", 6: "rwx", 7: "rwx"}


class Area:
    """One of an address space."""

    def __init__(self, start, size, protection, kind=MAPPED, private=True, path="", paged_out=False):
        self.start, self.end = start, start + size
        self.protection, self.kind, self.private = protection, kind, private
        self.path, self.paged_out = path, paged_out

    def truth(self):
        prot = PROTS[self.protection]
        shared = not self.private and self.kind != IMAGE
        return {"start": self.start, "end": self.end, "prot": prot + ("s" if shared else ""),
                "path": "" if self.paged_out else self.path}


class Process:
    """One, with `threads` threads. kind: system (no program), user, ended."""

    def __init__(self, guest, name, pid, parent, kind="user", threads=2):
        self.guest, self.name, self.pid, self.parent, self.kind = guest, name, pid, parent, kind
        self.object = guest.alloc(guest.layout.process_size)
        self.bytes = guest.noise(guest.layout.process_size)
        self.space = guest.kernel if pid == 4 else Space(guest.memory, None, guest.kernel)
        if pid != 4:
            guest.kernel.entry(self.space.frame, guest.self_map,
                               self.space.frame << 12 | 0x8000000000000063)
        self.areas, self.listed, self.unlisted = [], [], []
        self.command, self.environment = None, []
        self.peb = self.program = 0
        self.tids = [pid * 16 + 4 * i for i in range(threads)] if kind != "ended" else []
        self.threads = []

    # -- what is in it

    def add_image(self, name, pe, base, addresses, listed=True, path=None):
        self.guest.load(self.space, pe, base, addresses)
        path = path or "\\Windows\\System32\\" + name
        self.areas.append(Area(base, pe.size, RUN_COPY, IMAGE, private=False, path=path))
        (self.listed if listed else self.unlisted).append((name, base, pe.size, path))

    def add_program(self, peb, images, command, environment):
        """The PEB, the loader's list, and what it was started with. images: (name, base, size)."""
        space, layout = self.space, self.guest.layout
        self.peb, self.program = peb, images[0][1]
        self.command, self.environment = command, environment
        heap = peb - 0x1000000
        loader, parameters, entries = heap, heap + 0x800, heap + 0x1000
        page = bytearray(PAGE)
        struct.pack_into("<QQQ", page, 0x10, self.program, loader, parameters)
        struct.pack_into("<IIH", page, 0x118, 10 if layout.build >= 10240 else 6, 1, layout.build)
        space.put(peb, page)
        ring = [loader + 0x10, *(entries + 0x400 * i for i in range(len(images))), loader + 0x10]
        space.put(loader, bytes(0x58))
        space.put(loader + 0x10, struct.pack("<QQ", ring[1], ring[-2]))
        for i, (name, base, size) in enumerate(images):
            entry = bytearray(0x400)
            struct.pack_into("<QQ", entry, 0, ring[i + 2], ring[i])
            struct.pack_into("<QQI", entry, 0x30, base, base + 0x1000, size)
            full = "C:\\Windows\\System32\\" + name
            for at, text, where in ((0x48, full, 0x180), (0x58, name, 0x300)):
                data = utf16(text)
                struct.pack_into("<HHIQ", entry, at, len(data), len(data) + 2, 0, ring[i + 1] + where)
                entry[where:where + len(data)] = data
            space.put(ring[i + 1], entry)
            for label, at in (("loader.links", 0), ("loader.base", 0x30), ("loader.size", 0x40),
                              ("loader.name", 0x48), ("loader.name", 0x50), ("loader.name", 0x58)):
                self.guest.place(label, ring[i + 1] + at, 8, space)
        self.add_parameters(parameters, heap + 0x8000, command, environment)
        self.guest.place("peb", peb + 0x10, 24, space)
        self.guest.place("loader.head", loader + 0x10, 16, space)
        self.areas += [Area(peb, 2 * PAGE, READ_WRITE), Area(heap, 0x20000, READ_WRITE)]

    def add_parameters(self, parameters, texts, command, environment):
        space = self.space
        data = utf16(command)
        words = b"".join(utf16(word + "\0") for word in environment) + b"\0\0"
        space.put(parameters, bytes(0x100))
        space.put(parameters + 0x70, struct.pack("<HHIQ", len(data), len(data) + 2, 0, texts))
        space.put(parameters + 0x80, struct.pack("<Q", texts + 0x2000))
        space.put(texts, data + b"\0\0")
        space.put(texts + 0x2000, words)
        self.guest.place("parameters", parameters + 0x70, 24, space)

    # -- the tree of areas

    def node(self, area, left, right, parent):
        layout, guest = self.guest.layout, self.guest
        at = area.at
        data = guest.noise(0x40 if area.private else 0x88)
        if layout.tree == "newer":
            struct.pack_into("<QQQ", data, 0, left, right, parent | 1)
        else:
            struct.pack_into("<QQQ", data, 0, parent | 1, left, right)
        first, last = area.start >> 12, (area.end >> 12) - 1
        if layout.tree == "seven":
            struct.pack_into("<QQ", data, 0x18, first, last)
        else:
            struct.pack_into("<II", data, 0x18, first & 0xffffffff, last & 0xffffffff)
            if layout.tree == "newer":
                struct.pack_into("<BB", data, 0x20, first >> 32, last >> 32)
        struct.pack_into("<Q", data, layout.flags, self.flags(area))
        if not area.private:
            struct.pack_into("<Q", data, 0x48, self.subsection(area))
        guest.kernel.put(at, data)
        for label, offset in (("area.left", 0 if layout.tree == "newer" else 8),
                              ("area.right", 8 if layout.tree == "newer" else 16),
                              ("area.pages", 0x18), ("area.pages", 0x20),
                              ("area.flags", layout.flags)):
            guest.place(label, at + offset)

    def flags(self, area):
        layout = self.guest.layout
        used = 7 << layout.type_bit | 31 << layout.protection_bit | 1 << layout.private_bit
        # How much is committed, and other bits that nobody goes by.
        value = self.guest.chance.getrandbits(20) if layout.tree == "seven" else \
            self.guest.chance.getrandbits(20) << 33
        return value & ~used | area.kind << layout.type_bit | \
            area.protection << layout.protection_bit | int(area.private) << layout.private_bit

    def subsection(self, area):
        """SUBSECTION, CONTROL_AREA, FILE_OBJECT."""
        guest = self.guest
        at = guest.alloc(0x38)
        control, file = guest.alloc(guest.layout.control_size), guest.alloc(guest.layout.file_size)
        data = guest.noise(0x38)
        struct.pack_into("<Q", data, 0, control)
        guest.kernel.put(at, data)
        data = guest.noise(guest.layout.control_size)
        struct.pack_into("<Q", data, 0x40, file | guest.chance.randrange(16) if area.path else 0)
        guest.kernel.put(control, data)
        data = guest.noise(guest.layout.file_size)
        struct.pack_into("<HH", data, 0, 5, guest.layout.file_size)
        data[0x58:0x68] = guest.string(area.path or "x", paged_out=area.paged_out)
        guest.kernel.put(file, data)
        for label, where in (("area.subsection", at), ("area.control", control + 0x40),
                             ("area.file", file), ("area.path", file + 0x58),
                             ("area.path", file + 0x60)):
            guest.place(label, where)
        return at

    def tree(self, areas, parent):
        """The address of the top of a balanced one."""
        if not areas:
            return 0
        middle = len(areas) // 2
        area = areas[middle]
        left = self.tree(areas[:middle], area.at)
        right = self.tree(areas[middle + 1:], area.at)
        self.node(area, left, right, parent)
        return area.at

    def put_areas(self):
        layout = self.guest.layout
        self.areas.sort(key=lambda area: area.start)
        for area in self.areas:
            area.at = self.guest.alloc(0x40 if area.private else 0x88)
        at = layout.vad_root
        if layout.tree == "seven":
            top = self.tree(self.areas, self.object + at)
            struct.pack_into("<QQQ", self.bytes, at, self.object + at | 1, 0, top)
        else:
            top = self.tree(self.areas, 0)
            # A hint lies behind it, which leads into the same tree.
            hint = self.areas[len(self.areas) // 3].at if self.areas else 0
            struct.pack_into("<QQ", self.bytes, at, top, hint)

    # -- the objects

    def put_threads(self, linked):
        layout, guest = self.guest.layout, self.guest
        self.threads = [guest.alloc(layout.thread_size) for _ in self.tids]
        for head, entry in ((0x30, layout.kernel_thread_entry), (layout.thread_list, layout.thread_entry)):
            chained = [at for at, is_linked in zip(self.threads, linked) if is_linked]
            ring = [self.object + head, *(at + entry for at in chained), self.object + head]
            struct.pack_into("<QQ", self.bytes, head, ring[1], ring[-2])
            for at in self.threads:
                i = chained.index(at) + 1 if at in chained else 1  # what is taken out still points there
                guest.kernel.put(at + entry, struct.pack("<QQ", ring[i + 1], ring[i - 1]))
        for at, tid in zip(self.threads, self.tids):
            self.put_thread(at, tid)

    def put_thread(self, at, tid):
        layout, guest = self.guest.layout, self.guest
        data = guest.noise(layout.thread_size)
        struct.pack_into("<BBBBIQQ", data, 0, 6, 0, guest.chance.randrange(256), 0, 0, at + 8, at + 8)
        struct.pack_into("<Q", data, 0xb8 if layout.build > 7601 else 0x70, self.object)
        struct.pack_into("<Q", data, layout.thread_process, self.object)
        struct.pack_into("<QQ", data, layout.client, self.pid, tid)
        for entry in (layout.kernel_thread_entry, layout.thread_entry):
            where = guest.kernel.where(at + entry)
            first = bytes(guest.memory.pages[where // PAGE][where % PAGE:where % PAGE + 8])
            where = guest.kernel.where(at + entry + 8)
            second = bytes(guest.memory.pages[where // PAGE][where % PAGE:where % PAGE + 8])
            data[entry:entry + 16] = first + second
        guest.kernel.put(at, data)
        for label, where, size in (("thread.header", 0, 8), ("thread.process", layout.thread_process, 8),
                                   ("thread.client", layout.client, 16),
                                   ("thread.links", layout.kernel_thread_entry, 16)):
            guest.place(label, at + where, size)

    def put(self, following, previous, linked_threads=None):
        """following, previous: addresses of the links of others in the ring."""
        layout, guest, data = self.guest.layout, self.guest, self.bytes
        struct.pack_into("<BBBBIQQ", data, 0, 3, 0, layout.process_size // 8 & 0xff, 0,
                         int(self.kind == "ended"), self.object + 8, self.object + 8)
        struct.pack_into("<QQ", data, 0x18, self.object + 0x18, self.object + 0x18)
        struct.pack_into("<Q", data, 0x28, self.space.frame << 12 | guest.chance.choice((0, 2, 5)))
        if layout.user_root:
            struct.pack_into("<Q", data, layout.user_root, guest.memory.page() << 12 | 1)
        for at, value in ((layout.pid, self.pid), (layout.pid + 8, following),
                          (layout.pid + 16, previous), (layout.parent, self.parent),
                          (layout.peb, self.peb), (layout.section_base, self.program),
                          (layout.wow64, 0), (layout.created, START_TIME + self.pid * 10**7)):
            struct.pack_into("<Q", data, at, value)
        data[layout.image_name:layout.image_name + 15] = self.name.encode()[:14].ljust(15, b"\0")
        struct.pack_into("<I", data, layout.exit_status, 0 if self.kind == "ended" else 0x103)
        self.put_areas()
        self.put_threads(linked_threads or [True] * len(self.tids))
        guest.kernel.put(self.object, data)
        for label, at, size in (("process.header", 0, 8), ("process.root", 0x28, 8),
                                ("process.threads", 0x30, 16), ("process.pid", layout.pid, 8),
                                ("process.links", layout.pid + 8, 16),
                                ("process.parent", layout.parent, 8),
                                ("process.name", layout.image_name, 15),
                                ("process.peb", layout.peb, 8),
                                ("process.program", layout.section_base, 8),
                                ("process.created", layout.created, 8),
                                ("process.exit", layout.exit_status, 4),
                                ("process.areas", layout.vad_root, 24)):
            guest.place(label, self.object + at, size)

    def truth(self):
        images = [{"base": base, "size": size, "name": name, "listed": True}
                  for name, base, size, _ in self.listed]
        images += [{"base": base, "size": size, "name": name, "listed": False}
                   for name, base, size, _ in self.unlisted]
        return {"pid": self.pid, "parent": self.parent, "name": self.name[:14],
                "root": self.space.frame << 12, "object": self.object,
                "start_ns": self.pid * 10**9, "zombie": self.kind == "ended",
                "kernel": self.kind == "system", "threads": self.tids, "command": self.command,
                "environment": self.environment, "maps": [area.truth() for area in self.areas],
                "images": sorted(images, key=lambda image: image["base"])}

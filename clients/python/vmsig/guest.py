# SPDX-License-Identifier: Apache-2.0
"""What is in a guest: symbols, processes, maps, modules, files, made of its memory alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Generic, Iterator, Optional, Sequence, TypeVar, overload

from . import errors
from .content import File, Finding, Image, LogRecord, Mount, Name, Registers, Socket, copy
from .context import Context
from .ffi import Closing, open_handle, text
from ._vmsig import ffi, lib

Item = TypeVar("Item")


class Found(Sequence[Item], Generic[Item]):
    """A list, and whether it is `partial`: what was walked changed whenever it was walked."""

    def __init__(self, items: list[Item], partial: bool) -> None:
        self._items, self.partial = items, partial

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(self._items) + (" (partial)" if self.partial else "")


@dataclass(frozen=True)
class Symbol:
    name: str
    address: int
    type: str  # as nm(1) has them

    @classmethod
    def of(cls, found: Any) -> Symbol:
        return cls(text(found.name), found.addr, found.type.decode("latin-1"))


@dataclass(frozen=True)
class Process:
    """A process, or one of its threads. `root` is of its page tables, as Memory.read_virtual() takes
    it (0: it has none); `start_ns` counts from the guest's start."""
    pid: int
    parent: int
    uid: int
    name: str
    state: str
    threads: int
    start_ns: int
    root: int
    object: int
    kernel: bool
    zombie: bool
    native: Any = None

    @classmethod
    def of(cls, found: Any) -> Process:
        native = copy("vmsig_proc", found)
        return cls(found.pid, found.parent, found.uid, text(found.name),
                   found.state.decode("latin-1"), found.threads, found.start_ns, found.root,
                   found.object, bool(found.flags & lib.VMSIG_PROC_KERNEL),
                   bool(found.flags & lib.VMSIG_PROC_ZOMBIE), native)


@dataclass(frozen=True)
class Map:
    """[start, end) of an address space. `rights` as in /proc/PID/maps: "r-xp"."""
    start: int
    end: int
    rights: str
    offset: int
    path: str

    @classmethod
    def of(cls, found: Any) -> Map:
        letters = (("r", lib.VMSIG_PROT_READ, "-"), ("w", lib.VMSIG_PROT_WRITE, "-"),
                   ("x", lib.VMSIG_PROT_EXEC, "-"), ("s", lib.VMSIG_MAP_SHARED, "p"))
        rights = "".join(yes if found.prot & bit else no for yes, bit, no in letters)
        return cls(found.start, found.end, rights, found.offset, text(found.path))


@dataclass(frozen=True)
class Module:
    name: str
    base: int
    size: int
    object: int
    native: Any = None

    @classmethod
    def of(cls, found: Any) -> Module:
        return cls(text(found.name), found.base, found.size, found.object,
                   copy("vmsig_module", found))


@dataclass(frozen=True)
class OpenFile:
    number: int
    path: str
    object: int

    @classmethod
    def of(cls, found: Any) -> OpenFile:
        return cls(found.number, text(found.path), found.object)


class Guest(Closing):
    """Opened on a context, and over with it: closed by close() or `with`, before the context is.
    Texts come from the guest and may have any bytes; what is no UTF-8 comes as surrogates."""

    def __init__(self, context: Context) -> None:
        self._handle: Any = None
        self.context = context
        self._handle = open_handle(
            lib.vmsig_os_open, "vmsig_os_handle", context.mem.handle, context.kcr3)

    @property
    def handle(self) -> Any:
        """The library's `vmsig_os_handle *`."""
        if self._handle is None:
            raise ValueError("the guest was closed")
        # The library's handle borrows the context's.
        self.context.mem.handle
        return self._handle

    def close(self) -> None:
        if self._handle is not None:
            lib.vmsig_os_close(self._handle)
            self._handle = None

    @property
    def os(self) -> str:
        return text(lib.vmsig_os_name(lib.vmsig_os_kind(self.handle)))

    def symbols(self) -> Iterator[Symbol]:
        """All of the kernel's, in the order of its own table."""
        for index in range(lib.vmsig_os_symbol_count(self.handle)):
            yield Symbol.of(lib.vmsig_os_symbol(self.handle, index))

    def symbol(self, name: str) -> Optional[Symbol]:
        """The first one of that name."""
        found = ffi.new("vmsig_symbol *")
        if not lib.vmsig_os_symbol_find(self.handle, name.encode(), found):
            return None
        return Symbol.of(found)

    def symbol_at(self, address: int) -> Optional[Symbol]:
        """The last one that begins at or before an address of the kernel's image."""
        found = ffi.new("vmsig_symbol *")
        return Symbol.of(found) if lib.vmsig_os_symbol_at(self.handle, address, found) else None

    def processes(self) -> Found[Process]:
        return self._list("vmsig_proc_list", "processes", Process.of, lib.vmsig_os_processes,
                          lib.vmsig_proc_list_free)

    def process(self, pid: int) -> Process:
        """Gone: there is none of that number."""
        found = ffi.new("vmsig_proc *")
        result = lib.vmsig_os_process(self.handle, pid, found)
        errors.check(result, f"there is no process {pid}" if result == -lib.VMSIG_ERR_GONE else "")
        return Process.of(found[0])

    def threads(self, process: Process) -> Found[Process]:
        return self._list("vmsig_proc_list", "processes", Process.of, lib.vmsig_os_threads,
                          lib.vmsig_proc_list_free, process.native)

    def registers(self, process: Process) -> Registers:
        """With which it entered the kernel last; of a kernel thread, where it gave its CPU away."""
        found = ffi.new("vmsig_registers *")
        errors.check(lib.vmsig_os_registers(self.handle, process.native, found))
        return Registers.of(found)

    def maps(self, process: Process) -> Found[Map]:
        return self._list("vmsig_map_list", "maps", Map.of, lib.vmsig_os_maps,
                          lib.vmsig_map_list_free, process.native)

    def files(self, process: Process) -> Found[OpenFile]:
        return self._list("vmsig_file_list", "files", OpenFile.of, lib.vmsig_os_files,
                          lib.vmsig_file_list_free, process.native)

    def modules(self) -> Found[Module]:
        return self._list("vmsig_module_list", "modules", Module.of, lib.vmsig_os_modules,
                          lib.vmsig_module_list_free)

    def sections(self, module: Module) -> Found[Name]:
        return self._names(lib.vmsig_os_sections, module.native)

    def exports(self, module: Optional[Module] = None) -> Found[Name]:
        """What a module offers to others; without one, the kernel itself."""
        return self._names(lib.vmsig_os_exports, module.native if module else ffi.NULL)

    def module_symbols(self, module: Module) -> Found[Name]:
        return self._names(lib.vmsig_os_module_symbols, module.native)

    def images(self, process: Process) -> Found[Image]:
        """The programs and libraries that a process has mapped."""
        return self._list("vmsig_image_list", "images", Image.of, lib.vmsig_os_images,
                          lib.vmsig_image_list_free, process.native)

    def image_sections(self, process: Process, image: Image) -> Found[Name]:
        return self._names(lib.vmsig_os_image_sections, process.native, image.native)

    def image_exports(self, process: Process, image: Image) -> Found[Name]:
        return self._names(lib.vmsig_os_image_exports, process.native, image.native)

    def image_imports(self, process: Process, image: Image) -> Found[Name]:
        """What it takes from others, and where that leads now."""
        return self._names(lib.vmsig_os_image_imports, process.native, image.native)

    def image_needed(self, process: Process, image: Image) -> list[str]:
        """The libraries that it names."""
        return [found.name for found in
                self._names(lib.vmsig_os_image_needed, process.native, image.native)]

    def sockets(self, process: Optional[Process] = None) -> Found[Socket]:
        """The endpoints of IPv4 and IPv6 that a process has open, or all have."""
        return self._list("vmsig_socket_list", "sockets", Socket.of, lib.vmsig_os_sockets,
                          lib.vmsig_socket_list_free, process.native if process else ffi.NULL)

    def mounts(self, process: Process) -> Found[Mount]:
        return self._list("vmsig_mount_list", "mounts", Mount.of, lib.vmsig_os_mounts,
                          lib.vmsig_mount_list_free, process.native)

    def log(self) -> Found[LogRecord]:
        """What the kernel has said, the oldest first."""
        return self._list("vmsig_log_list", "records", LogRecord.of, lib.vmsig_os_log,
                          lib.vmsig_log_list_free)

    def check(self) -> Found[Finding]:
        """What does not fit together; all of the guest's memory is read for it."""
        return self._list("vmsig_finding_list", "findings", Finding.of, lib.vmsig_os_check,
                          lib.vmsig_finding_list_free)

    def file(self, process: Process, path: str) -> File:
        """By its name, as the process sees files. NotMapped: the guest's kernel does not remember
        that name, which says nothing about its disk."""
        return self._file(lib.vmsig_os_file_find, process, os.fsencode(path))

    def open_file(self, process: Process, number: int) -> File:
        """What a process has open, deleted files and those without a name too."""
        return self._file(lib.vmsig_os_file_of, process, number)

    def program(self, process: Process) -> File:
        """What a process was started from."""
        return self._file(lib.vmsig_os_program, process)

    def command_line(self, process: Process) -> list[bytes]:
        """The words that it was started with; none of a kernel thread."""
        return self._words(lib.vmsig_os_command_line, process)

    def environment(self, process: Process) -> list[bytes]:
        return self._words(lib.vmsig_os_environment, process)

    def _words(self, call: Any, process: Process) -> list[bytes]:
        buffer = ffi.new("char[]", lib.VMSIG_OS_TEXT_MAX)
        length = ffi.new("size_t *")
        errors.check(call(self.handle, process.native, buffer, len(buffer), length))
        found = bytes(ffi.buffer(buffer, min(length[0], len(buffer))))
        return found.removesuffix(b"\0").split(b"\0") if found else []

    def _file(self, call: Any, process: Process, *arguments: Any) -> File:
        found = ffi.new("vmsig_file *")
        errors.check(call(self.handle, process.native, *arguments, found))
        return File(self, found)

    def _names(self, call: Any, *arguments: Any) -> Found[Name]:
        return self._list("vmsig_name_list", "names", Name.of, call, lib.vmsig_name_list_free,
                          *arguments)

    def _list(self, kind: str, member: str, make: Any, call: Any, free: Any,
              *arguments: Any) -> Found[Any]:
        found = ffi.new(f"{kind} **")
        errors.check(call(self.handle, *arguments, found))
        try:
            items = getattr(found[0], member)
            return Found([make(items[i]) for i in range(found[0].count)], found[0].partial)
        finally:
            free(found[0])

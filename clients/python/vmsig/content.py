# SPDX-License-Identifier: Apache-2.0
"""What a guest has beside processes: sockets, mounts, its log, files, programs and libraries, findings."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, Union

from . import errors
from .ffi import text
from ._vmsig import ffi, lib

if TYPE_CHECKING:
    from .guest import Guest

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

_IPV6 = 10  # AF_INET6 of Linux, which the guest is


def copy(kind: str, found: Any) -> Any:
    """A struct that outlives the list that it is in; what it borrows does not."""
    native = ffi.new(f"{kind} *")
    ffi.memmove(native, ffi.addressof(found), ffi.sizeof(kind))
    return native


@dataclass(frozen=True)
class Socket:
    """`protocol` as in an IP header; `state` of TCP, as /proc/net/tcp has it (10: listening)."""
    pid: int
    fd: int
    protocol: int
    local: Address
    local_port: int
    remote: Address
    remote_port: int
    state: int
    inode: int
    object: int

    @classmethod
    def of(cls, found: Any) -> Socket:
        size = 16 if found.family == _IPV6 else 4
        local, remote = (ipaddress.ip_address(bytes(ffi.buffer(address, size)))
                         for address in (found.local, found.remote))
        return cls(found.pid, found.fd, found.protocol, local, found.local_port, remote,
                   found.remote_port, found.state, found.inode, found.object)


@dataclass(frozen=True)
class Mount:
    path: str
    source: str
    type: str
    read_only: bool
    object: int

    @classmethod
    def of(cls, found: Any) -> Mount:
        return cls(text(found.path), text(found.source), text(found.type), found.read_only,
                   found.object)


@dataclass(frozen=True)
class LogRecord:
    """`level` and `facility` as syslog(3) has them; `time_ns` counts from the guest's start."""
    sequence: int
    time_ns: int
    level: int
    facility: int
    text: str

    @classmethod
    def of(cls, found: Any) -> LogRecord:
        return cls(found.sequence, found.time_ns, found.level, found.facility, text(found.text))


@dataclass(frozen=True)
class Name:
    """A section, or what is offered or taken; an address of 0 is none."""
    name: str
    address: int

    @classmethod
    def of(cls, found: Any) -> Name:
        return cls(text(found.name), found.addr)


@dataclass(frozen=True)
class Image:
    """A program or library that a process has mapped. `bias` is what an address in memory has more
    than the one in its headers; one whose headers are not resident says nothing of itself."""
    path: str
    base: int
    size: int
    bias: int
    program: bool
    resident: bool
    object: int
    native: Any = None

    @classmethod
    def of(cls, found: Any) -> Image:
        native = copy("vmsig_image", found)
        native.path = ffi.NULL
        return cls(text(found.path), found.base, found.size, found.bias,
                   bool(found.flags & lib.VMSIG_IMAGE_PROGRAM),
                   not found.flags & lib.VMSIG_IMAGE_ABSENT, found.object, native)


@dataclass(frozen=True)
class Finding:
    """What does not fit together: `kind` is "process", "module", "call" or "map", `basis` says what it
    rests on."""
    kind: str
    pid: Optional[int]
    address: int
    text: str
    basis: str

    @classmethod
    def of(cls, found: Any) -> Finding:
        kinds = {lib.VMSIG_FINDING_PROCESS: "process", lib.VMSIG_FINDING_MODULE: "module",
                 lib.VMSIG_FINDING_CALL: "call", lib.VMSIG_FINDING_MAP: "map"}
        return cls(kinds.get(found.kind, "other"), found.pid or None, found.addr, text(found.text),
                   text(found.basis))


@dataclass(frozen=True)
class Registers:
    """What a guest's kernel has saved, by name ("rax", "rip", ...); what it has not is not there."""
    values: dict[str, int]

    @classmethod
    def of(cls, found: Any) -> Registers:
        names = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp",
                 *(f"r{number}" for number in range(8, 16)))
        values = {name: found.general[index] for index, name in enumerate(names)
                  if found.known & 1 << index}
        return cls({**values, "rip": found.rip, "rflags": found.rflags, "cs": found.cs, "ss": found.ss})


class File:
    """A file as far as its pages are resident, closed with its guest."""

    PAGE: int = lib.VMSIG_OS_PAGE

    def __init__(self, guest: Guest, native: Any) -> None:
        self._guest, self._native = guest, native
        self.size: int = native.size
        self.mode: int = native.mode
        self.object: int = native.object

    def resident(self) -> list[int]:
        """Indices of the pages that are, in ascending order."""
        found: list[int] = []

        def take(index: int) -> int:
            found.append(index)
            return 0

        context = ffi.new_handle(take)
        errors.check(lib.vmsig_os_file_pages(
            self._guest.handle, self._native, lib.vmsig_py_match, context))
        return found

    def page(self, index: int) -> bytes:
        """NotMapped: it is not resident. Behind the end of the file are nobody's bytes."""
        page = ffi.new("uint8_t[]", self.PAGE)
        errors.check(lib.vmsig_os_file_page(self._guest.handle, self._native, index, page))
        return bytes(ffi.buffer(page))

    def read(self, offset: int = 0, length: Optional[int] = None, fill: Optional[bytes] = None) -> bytes:
        """Bytes of it, no more than there are. Of pages that are not resident `fill` is taken, one
        byte; without it they are a NotMapped."""
        end = self.size if length is None else min(self.size, offset + length)
        parts = []
        while offset < end:
            start = offset % self.PAGE
            length = min(self.PAGE - start, end - offset)
            try:
                parts.append(self.page(offset // self.PAGE)[start:start + length])
            except errors.NotMapped:
                if fill is None:
                    raise
                parts.append(fill * length)
            offset += length
        return b"".join(parts)

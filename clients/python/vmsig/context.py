# SPDX-License-Identifier: Apache-2.0
"""Guest memory of one endpoint in one epoch, read-only."""

from __future__ import annotations

import contextlib
import mmap
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Iterator, Optional

from . import errors
from .ffi import text
from ._vmsig import ffi, lib

TOP = 2**64 - 1


@dataclass(frozen=True)
class Page:
    """A mapped range: where it is for the guest's programs (`gva`) and in its RAM (`gpa`), in bytes."""
    gva: int
    gpa: int
    length: int
    page_size: int
    protection: int  # PROT_READ | PROT_WRITE | PROT_EXEC | PROT_USER

    @classmethod
    def of(cls, found: Any) -> Page:
        return cls(found.gva, found.gpa, found.len, found.page_size, found.prot)


class Memory:
    """What a context reads. Every read is coherent: it is of the context's epoch or raises StaleEpoch,
    NotReady, Gone, NoBroker or Torn. Used by one thread at a time."""

    def __init__(self, handle: Any, kcr3: int) -> None:
        self._handle = handle
        self.kcr3 = kcr3

    @property
    def handle(self) -> Any:
        """The library's `vmsig_mem *`."""
        if self._handle is None:
            raise ValueError("the context was closed")
        return self._handle

    def close(self) -> None:
        if self._handle is not None:
            lib.vmsig_mem_close(self._handle)
            self._handle = None

    def __del__(self) -> None:
        self.close()

    def read(self, address: int, length: int) -> bytes:
        """`length` bytes at a guest-physical address. OutOfRange: not all of them are RAM."""
        buffer = ffi.new("unsigned char[]", length)
        errors.check_at(lib.vmsig_phys_read(self.handle, address, buffer, length), address, length)
        return bytes(ffi.buffer(buffer))

    def read_virtual(self, address: int, length: int, root: Optional[int] = None) -> bytes:
        """`length` bytes at a guest-virtual address under the page tables of `root` (the kernel's)."""
        buffer = ffi.new("unsigned char[]", length)
        errors.check_at(lib.vmsig_gva_read(self.handle, self._root(root), address, buffer, length),
                        address, length)
        return bytes(ffi.buffer(buffer))

    def view(self, address: int, length: int) -> memoryview:
        """The bytes themselves, read-only and live: they change as the guest runs, and nothing says
        that the epoch is over or whether a write is under way. They outlive the context. All of them
        are in one piece of RAM, else OutOfRange. Looking at a hole of the RAM file allocates it."""
        place = ffi.new("vmsig_phys_place *")
        errors.check_at(lib.vmsig_phys_locate(self.handle, address, place), address, length)
        if length <= 0 or length > place.len:
            errors.check_at(lib.VMSIG_ERR_OUT_OF_RANGE, address, length)
        start = place.offset - place.offset % mmap.ALLOCATIONGRANULARITY
        mapping = mmap.mmap(place.fd, place.offset + length - start, mmap.MAP_SHARED, mmap.PROT_READ,
                            offset=start)
        # A core dump would have, and for that allocate, all of it: a memfd has no name, so to the
        # kernel it is memory of the process's own.
        mapping.madvise(mmap.MADV_DONTDUMP)
        return memoryview(mapping)[place.offset - start:]

    def translate(self, address: int, root: Optional[int] = None) -> Page:
        """The page that maps a guest-virtual address. NotMapped: none does."""
        found = ffi.new("vmsig_range *")
        errors.check_at(lib.vmsig_gva_translate(self.handle, self._root(root), address, found), address)
        return Page.of(found)

    def pmap(self, start: int = 0, last: int = TOP, root: Optional[int] = None,
             limit: Optional[int] = None) -> list[Page]:
        """What is mapped in [start, last], at most `limit` ranges, in ascending order."""
        pages: list[Page] = []

        def visit(found: Any) -> int:
            pages.append(Page.of(found))
            return int(len(pages) == limit)

        visitor = ffi.new_handle(visit)
        result = lib.vmsig_pmap(
            self.handle, self._root(root), start, last, lib.vmsig_py_range, visitor)
        errors.check(min(result, 0))
        return pages

    def scan(self, pattern: bytes, start: int = 0, last: int = TOP, *, mask: Optional[bytes] = None,
             virtual: bool = False, root: Optional[int] = None,
             limit: Optional[int] = None) -> list[int]:
        """Where `pattern` (1 to 4096 bytes, those bits that `mask` has) is in [start, last], at most
        `limit` addresses, guest-physical or, `virtual`, under `root`."""
        found: list[int] = []
        if mask is not None and len(mask) != len(pattern):
            raise ValueError("mask and pattern differ in length")

        def match(address: int) -> int:
            found.append(address)
            return int(len(found) == limit)

        visitor = ffi.new_handle(match)
        rest = (start, last, pattern, ffi.NULL if mask is None else mask, len(pattern),
                lib.vmsig_py_match, visitor)
        if virtual or root is not None:
            result = lib.vmsig_scan_virt(self.handle, self._root(root), *rest)
        else:
            result = lib.vmsig_scan_phys(self.handle, *rest)
        errors.check(min(result, 0))
        return found

    @contextlib.contextmanager
    def coherent(self) -> Iterator[None]:
        """Reads inside of it belong together: at its end it raises Torn when the broker wrote
        meanwhile, or StaleEpoch. What was read is worth nothing then."""
        sequence = ffi.new("uint64_t *")
        errors.check(lib.vmsig_mem_read_begin(self.handle, sequence))
        yield
        errors.check(lib.vmsig_mem_read_end(self.handle, sequence[0]))

    def flush(self) -> None:
        """Forgets cached translations."""
        lib.vmsig_mem_flush(self.handle)

    def _root(self, root: Optional[int]) -> int:
        return self.kcr3 if root is None else root


class Context:
    """A MEMCTX, opened: `endpoint`, `epoch`, `kcr3`, `guard` ("sealed", ...), `os` ("linux", ...),
    `release`, and `mem`. Closed by close(), by `with`, or when nobody has it any more."""

    def __init__(self, delivery: Any) -> None:
        pod = ffi.cast("vmsig_memctx *", delivery.event.inln)
        handle = ffi.new("vmsig_mem **")
        self.endpoint = text(delivery.endpoint)
        self.epoch: int = pod.epoch
        self.kcr3: int = pod.kcr3
        self.levels = 5 if pod.flags & lib.VMSIG_MEMCTX_LA57 else 4
        self.guard = text(lib.vmsig_guard_name(delivery.guard))
        self.os = text(lib.vmsig_os_name(delivery.system.os))
        self.proof = text(lib.vmsig_proof_name(delivery.system.proof))
        self.release = text(delivery.system.release)
        errors.check(lib.vmsig_mem_from_event(handle, ffi.addressof(delivery.event),
                                              delivery.ram_fd, delivery.coherence_fd))
        self.mem = Memory(handle[0], self.kcr3)

    def close(self) -> None:
        self.mem.close()

    def __enter__(self) -> Context:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], value: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<vmsig.Context {self.endpoint} epoch {self.epoch} kcr3 {self.kcr3:#x}>"

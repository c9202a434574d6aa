# SPDX-License-Identifier: Apache-2.0
"""An operator's connection to the write plane: leases, and writes under them."""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Iterable, Optional, Sequence

from . import errors
from .ffi import Closing, deadline_of, open_handle, options, sleep, text
from ._vmsig import ffi, lib

SOCKET_VARIABLE = "VMSIG_WRITE_SOCKET"
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW

WORDS = {
    lib.VMSIG_WEV_CONNECTED: "connected",
    lib.VMSIG_WEV_DISCONNECTED: "disconnected",
    lib.VMSIG_WEV_WAITING: "waiting",
    lib.VMSIG_WEV_GRANTED: "granted",
    lib.VMSIG_WEV_REFUSED: "refused",
    lib.VMSIG_WEV_NOTICE: "notice",
    lib.VMSIG_WEV_LOST: "lost",
    lib.VMSIG_WEV_RESUMED: "resumed",
}


@dataclass(frozen=True)
class Op:
    """One piece of a batch. `expect` and `mask`, of the data's length: what must be there for
    anything to be written, and which bits are compared and written. `virtual`: the address is
    guest-virtual under `root` (0: the kernel's)."""
    address: int
    data: bytes
    expect: Optional[bytes] = None
    mask: Optional[bytes] = None
    virtual: bool = False
    root: int = 0


@dataclass(frozen=True)
class Written:
    """What became of a write that was applied. `old` are the bytes before, if they were asked for."""
    sequence: int
    written: int
    old: bytes
    text: str


class _Outcome:
    """Takes the library's word of one write."""

    def __init__(self) -> None:
        self.known = False
        self.number = 0
        self.result: Optional[Written] = None

    def __call__(self, result: Any) -> None:
        self.known, self.number = True, result.outcome
        old = bytes(ffi.buffer(result.old, result.old_len)) if result.old_len else b""
        self.result = Written(result.sequence, result.written, old, text(result.text))

    def get(self) -> Written:
        assert self.result is not None
        if self.number:
            raise errors.error(self.number, self.result.text)
        return self.result


class Lease:
    """Held from Writer.lease() to release(), close() or the end of `with`. It is renewed only while
    its writer is driven: by writes, Writer.process() or Writer.keep()."""

    def __init__(self, writer: Writer, handle: Any) -> None:
        self.writer, self._handle = writer, handle

    @property
    def handle(self) -> Any:
        """The library's `vmsig_lease *`."""
        if self._handle is None or self.writer.closed:
            raise errors.error(lib.VMSIG_ERR_NO_LEASE)
        return self._handle

    def _info(self) -> Any:
        info = ffi.new("vmsig_lease_info *")
        lib.vmsig_lease_get(self.handle, info)
        return info

    @property
    def id(self) -> int:
        return int(self._info().id)

    @property
    def token(self) -> int:
        return int(self._info().token)

    @property
    def epoch(self) -> int:
        return int(self._info().epoch)

    @property
    def held(self) -> bool:
        return not self.writer.closed and self._handle is not None and \
            bool(self._info().phase == lib.VMSIG_LEASE_HELD)

    @property
    def remaining(self) -> float:
        """Seconds until it ends unless it is renewed; 0 when it is over."""
        left = self._info().deadline / 1e9 - time.clock_gettime(time.CLOCK_BOOTTIME)
        return float(max(0.0, left)) if self.held else 0.0

    def write(self, address: int, data: bytes, *, expect: Optional[bytes] = None,
              mask: Optional[bytes] = None, virtual: bool = False, root: int = 0,
              want_old: bool = False, quiesce: bool = False,
              timeout: Optional[float] = None) -> Written:
        """Writes `data`, and waits until it is applied. With `expect` a compare-and-swap, which
        raises CompareFailed."""
        return self.write_batch([Op(address, data, expect, mask, virtual, root)],
                                want_old=want_old, quiesce=quiesce, timeout=timeout)

    def write_batch(self, operations: Iterable[Op], *, want_old: bool = False,
                    quiesce: bool = False, timeout: Optional[float] = None) -> Written:
        """All of them or none. Timeout: it may still be applied."""
        batch = list(operations)
        native = ffi.new("vmsig_write_op[]", max(1, len(batch)))
        kept = []
        for op, to in zip(batch, native):
            to.addr, to.cr3, to.len = op.address, op.root, len(op.data)
            to.flags = lib.VMSIG_OP_VIRTUAL if op.virtual else 0
            for member in ("data", "expect", "mask"):
                value = getattr(op, member)
                if value is None:
                    continue
                if len(value) != len(op.data):
                    raise ValueError(f"{member} and data differ in length")
                kept.append(ffi.from_buffer(value))
                setattr(to, member, kept[-1])
        return self._apply(lambda done, arg: lib.vmsig_write(
            self.handle, native, len(batch), self._flags(want_old, quiesce), done, arg), timeout)

    def write_bulk(self, address: int, data: bytes, *, virtual: bool = False, root: int = 0,
                   want_old: bool = False, quiesce: bool = False,
                   timeout: Optional[float] = None) -> Written:
        """As write(), of as many bytes as the policy allows at once, through shared memory: applied
        in slices, so that it may raise an Error named PARTIAL."""
        memfd = os.memfd_create("vmsig-bulk", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(memfd, "wb", closefd=False) as file:
                file.write(data)
            fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, SEALS)
            return self._apply(lambda done, arg: lib.vmsig_write_bulk(
                self.handle, address, lib.VMSIG_OP_VIRTUAL if virtual else 0, root, memfd, 0,
                len(data), self._flags(want_old, quiesce), done, arg), timeout)
        finally:
            os.close(memfd)

    def release(self, timeout: Optional[float] = 10.0) -> None:
        """Gives it back and waits for the broker's word."""
        milliseconds = -1 if timeout is None else max(0, int(timeout * 1000))
        try:
            self.writer._check(lib.vmsig_lease_release_wait(self.handle, milliseconds))
        finally:
            self.close()

    def close(self) -> None:
        """Gives it back if it is held, without waiting."""
        if self._handle is not None and not self.writer.closed:
            lib.vmsig_lease_free(self._handle)
        self._handle = None

    @staticmethod
    def _flags(want_old: bool, quiesce: bool) -> int:
        return int((lib.VMSIG_WRITE_WANT_OLD if want_old else 0) |
                   (lib.VMSIG_WRITE_QUIESCE if quiesce else 0))

    def _apply(self, send: Any, timeout: Optional[float]) -> Written:
        limit = deadline_of(timeout)
        outcome = _Outcome()
        arg = ffi.new_handle(outcome)
        # The library calls back until it knows the outcome or is closed, whoever waits for it here.
        self.writer._outcomes.append(arg)
        result = send(lib.vmsig_py_written, arg)
        if result:
            self.writer._outcomes.remove(arg)
            self.writer._check(result)
        while not outcome.known:
            self.writer.process()
            if not outcome.known:
                self.writer._sleep(limit)
        self.writer._outcomes.remove(arg)
        return outcome.get()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], value: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        # What ended by itself has nothing to give back, and what was raised is told first.
        if kind is None and self._handle is not None and self.held:
            self.release()
        else:
            self.close()

    def __repr__(self) -> str:
        if self._handle is None or self.writer.closed:
            return "<vmsig.Lease over>"
        info = self._info()
        return f"<vmsig.Lease {info.id} of {text(info.endpoint)} epoch {info.epoch}>"


@dataclass(frozen=True)
class WriterEvent:
    """`kind`: connected, disconnected, waiting, granted, refused, notice (somebody of higher priority
    waits; revoked in `revoke_in` seconds), lost, resumed."""
    kind: str
    error: Optional[errors.Error]
    revoke_in: float
    text: str


class Writer(Closing):
    """Reconnects by itself and resumes its leases. What is None comes from VMSIG_IDENTITY and
    VMSIG_WRITE_SOCKET, then the library's defaults. Used by one thread at a time."""

    def __init__(self, identity: Optional[str] = None, socket: Optional[str] = None, *,
                 reconnect: bool = True, broker_uid: Optional[int] = None) -> None:
        self._handle: Any = None
        self._outcomes: list[Any] = []
        given, kept = options(identity, socket, SOCKET_VARIABLE, reconnect=reconnect,
                              broker_uid=broker_uid)
        self._handle = open_handle(lib.vmsig_writer_open, "vmsig_writer", given)
        del kept

    @property
    def closed(self) -> bool:
        return self._handle is None

    @property
    def handle(self) -> Any:
        """The library's `vmsig_writer *`."""
        if self._handle is None:
            raise ValueError("the writer was closed")
        return self._handle

    def close(self) -> None:
        """Gives its leases back, as far as that works without waiting."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            lib.vmsig_writer_close(handle)
            self._outcomes.clear()

    def fileno(self) -> int:
        return int(lib.vmsig_writer_fd(self.handle))

    def deadline(self) -> int:
        """CLOCK_MONOTONIC nanoseconds at which it has something to do; 0: at once, -1: never."""
        return int(lib.vmsig_writer_deadline(self.handle))

    def process(self) -> None:
        """Does what can be done without waiting: renewals, answers."""
        self._check(lib.vmsig_writer_process(self.handle))

    def keep(self, seconds: float) -> None:
        """Sleeps, and keeps the leases alive meanwhile."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            self.process()
            try:
                self._sleep(limit)
            except errors.Timeout:
                return

    def events(self) -> list[WriterEvent]:
        """Those that have come since the last time."""
        self.process()
        event = ffi.new("vmsig_writer_event *")
        found = []
        while lib.vmsig_writer_next(self.handle, event) == 0:
            said = text(event.text)
            error = errors.error(event.error, said) if event.error else None
            found.append(WriterEvent(WORDS.get(event.kind, str(event.kind)), error,
                                     event.revoke_in_ms / 1e3, said))
        return found

    def lease(self, endpoint: str, ranges: Sequence[tuple[int, int]] = (), *,
              ttl: Optional[float] = None, wait: bool = True, priority: int = 0,
              timeout: Optional[float] = None) -> Lease:
        """Takes a lease of guest-physical (first, last) ranges, both ends included; none: the whole
        endpoint. `wait`: queue behind a lease that is in the way, else LeaseHeld. `ttl` in seconds;
        the policy clamps it. Other events meanwhile stay for events()."""
        request = ffi.new("vmsig_lease_request *")
        name = ffi.new("char[]", endpoint.encode())
        native = ffi.new("vmsig_lease_range[]", max(1, len(ranges)))
        for (start, last), to in zip(ranges, native):
            to.start, to.last = start, last
        request.endpoint, request.ranges, request.nranges = name, native, len(ranges)
        request.ttl_ms = int((ttl or 0) * 1000)
        request.priority, request.no_wait = priority, not wait
        lease = ffi.new("vmsig_lease **")
        self._check(lib.vmsig_lease_acquire(self.handle, request, lease))
        try:
            self._await(lease[0], deadline_of(timeout))
        except BaseException:
            lib.vmsig_lease_free(lease[0])
            raise
        return Lease(self, lease[0])

    def resume(self, id: int, token: int, *, timeout: Optional[float] = None) -> Lease:
        """Takes over a lease of this tenant and uid: that of a guest which was migrated to this
        broker's host (Moved says where it went), or that of a process that has ended. LeaseOver:
        there is none, or not yet, or the token is another."""
        milliseconds = -1 if timeout is None else max(0, int(timeout * 1000))
        lease = ffi.new("vmsig_lease **")
        self._check(lib.vmsig_lease_resume(self.handle, id, token, lease, milliseconds))
        return Lease(self, lease[0])

    def _await(self, lease: Any, limit: Optional[float]) -> None:
        info = ffi.new("vmsig_lease_info *")
        while True:
            self.process()
            lib.vmsig_lease_get(lease, info)
            if info.phase == lib.VMSIG_LEASE_HELD:
                return
            if info.phase == lib.VMSIG_LEASE_OVER:
                raise errors.error(info.error or lib.VMSIG_ERR_NO_LEASE,
                                   text(lib.vmsig_writer_last_error(self.handle)))
            self._sleep(limit)

    def _sleep(self, limit: Optional[float]) -> None:
        sleep(self.fileno(), lib.vmsig_writer_poll_events(self.handle), self.deadline(), limit)

    def _check(self, result: int) -> None:
        if result:
            raise errors.error(result, text(lib.vmsig_writer_last_error(self.handle)))

# SPDX-License-Identifier: Apache-2.0
"""Between Python and the library: options, texts, waiting, and the callbacks that the library calls."""

from __future__ import annotations

import os
import select
import time
from types import TracebackType
from typing import Any, Callable, Optional, TypeVar

from . import errors
from ._vmsig import ffi, lib

Self = TypeVar("Self", bound="Closing")

SLEEP_MAX = 3600.0  # seconds of one poll(2): its limit is an int of milliseconds


class Closing:
    """What is closed at the end of a `with`, or when nobody has it any more."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], value: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def text(value: Any) -> str:
    """A `const char *` or `char[]`; bytes that are no UTF-8 come as surrogates, as of file names."""
    return os.fsdecode(ffi.string(value)) if value else ""


def options(identity: Optional[str], socket: Optional[str], socket_variable: str, *,
            reconnect: bool = True, broker_uid: Optional[int] = None) -> tuple[Any, list[Any]]:
    """A vmsig_options and what it borrows. What is None comes from the environment, as for vmsigctl."""
    result = ffi.new("vmsig_options *")
    kept = [result]

    def borrow(value: Optional[str]) -> Any:
        if value is None:
            return ffi.NULL
        kept.append(ffi.new("char[]", os.fsencode(value)))
        return kept[-1]

    result.identity_dir = borrow(identity or os.environ.get("VMSIG_IDENTITY"))
    result.socket_path = borrow(socket or os.environ.get(socket_variable))
    if not reconnect:
        result.flags |= lib.VMSIG_OPT_NO_RECONNECT
    if broker_uid is not None:
        result.flags |= lib.VMSIG_OPT_PIN_UID
        result.broker_uid = broker_uid
    return result, kept


def open_handle(call: Callable[..., int], kind: str, *arguments: Any) -> Any:
    """What `call(&handle, ..., error, size)` opens."""
    handle = ffi.new(f"{kind} **")
    sentence = ffi.new("char[512]")
    errors.check(call(handle, *arguments, sentence, 512), text(sentence))
    return handle[0]


def deadline_of(timeout: Optional[float]) -> Optional[float]:
    """The moment (time.monotonic()) at which `timeout` seconds are over; None: never."""
    return None if timeout is None else time.monotonic() + timeout


def sleep(fd: int, events: int, wake_ns: int, deadline: Optional[float]) -> None:
    """Until a handle has something to do (its descriptor, events and deadline), or `deadline`, whose
    passing is a Timeout. Ctrl-C interrupts it."""
    now = time.monotonic()
    if deadline is not None and now >= deadline:
        raise errors.error(lib.VMSIG_ERR_TIMEOUT)
    left = SLEEP_MAX
    if deadline is not None:
        left = min(left, deadline - now)
    if wake_ns >= 0:
        left = min(left, max(0.0, wake_ns / 1e9 - now))
    poller = select.poll()
    poller.register(fd, events)
    # Rounded up: a poll that ends before the moment would spin until it.
    poller.poll(int(left * 1000) + 1 if left else 0)


@ffi.def_extern()
def vmsig_py_range(context: Any, found: Any) -> int:
    return int(ffi.from_handle(context)(found))


@ffi.def_extern()
def vmsig_py_match(context: Any, address: int) -> int:
    return int(ffi.from_handle(context)(address))


@ffi.def_extern()
def vmsig_py_written(context: Any, result: Any) -> None:
    ffi.from_handle(context)(result)

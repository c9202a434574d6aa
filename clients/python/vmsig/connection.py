# SPDX-License-Identifier: Apache-2.0
"""A holder's connection to the read plane."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Iterator, Optional

from . import errors
from .context import Context
from .ffi import Closing, deadline_of, open_handle, options, sleep, text
from ._vmsig import ffi, lib

SOCKET_VARIABLE = "VMSIG_SOCKET"

KINDS = {
    lib.VMSIG_EV_MEMCTX: "memctx",
    lib.VMSIG_EV_MEMCTX_INVALIDATED: "invalidated",
    lib.VMSIG_EV_ENDPOINT_STATE: "state",
    lib.VMSIG_EV_CONNECTED: "connected",
    lib.VMSIG_EV_DISCONNECTED: "disconnected",
    lib.VMSIG_EV_SUBSCRIBED: "subscribed",
    lib.VMSIG_EV_LISTED: "listed",
}


@dataclass(frozen=True)
class Endpoint:
    """As vmsigctl ls has it."""
    name: str
    epoch: int
    state: str
    guard: str
    ram_bytes: int
    subscribers: int
    writable: bool
    adapter: str
    detail: str
    os: str
    release: str

    @classmethod
    def of(cls, entry: Any) -> Endpoint:
        return cls(text(entry.name), entry.epoch, text(lib.vmsig_state_name(entry.state)),
                   text(lib.vmsig_guard_name(entry.guard)), entry.ram_bytes, entry.subscribers,
                   entry.writable, text(entry.adapter), text(entry.detail),
                   text(lib.vmsig_os_name(entry.system.os)), text(entry.system.release))


@dataclass(frozen=True)
class Event:
    """What the broker said. `kind`: memctx (with a `context`), invalidated (`epoch` is the new one),
    state (`state`, `text` says why), connected, disconnected, subscribed (`endpoint` is the
    pattern); `error` where something was refused."""
    kind: str
    endpoint: str
    epoch: int = 0
    state: str = ""
    text: str = ""
    error: Optional[errors.Error] = None
    context: Optional[Context] = None

    @classmethod
    def of(cls, delivery: Any) -> Event:
        kind = delivery.event.kind
        said = text(lib.vmsig_delivery_text(delivery)) if kind != lib.VMSIG_EV_MEMCTX else ""
        fields: dict[str, Any] = {"kind": KINDS.get(kind, str(kind)),
                                  "endpoint": text(delivery.endpoint)}
        if delivery.error:
            fields["error"] = errors.error(delivery.error, said)
        if kind == lib.VMSIG_EV_MEMCTX:
            fields["context"] = Context(delivery)
            fields["epoch"] = fields["context"].epoch
        elif kind == lib.VMSIG_EV_MEMCTX_INVALIDATED:
            fields["epoch"] = ffi.cast("vmsig_memctx_inv *", delivery.event.inln).epoch
        elif kind == lib.VMSIG_EV_ENDPOINT_STATE:
            status = ffi.cast("vmsig_endpoint_status *", delivery.event.inln)
            fields.update(epoch=status.epoch, text=said,
                          state=text(lib.vmsig_state_name(status.state)))
        elif said:
            fields["text"] = said
        return cls(**fields)


class Connection(Closing):
    """Reconnects by itself, and renews its subscriptions. What is None comes from VMSIG_IDENTITY and
    VMSIG_SOCKET, then the library's defaults. Used by one thread at a time.

    It is driven by its calls; in an event loop, wait for fileno() or deadline(), then take event(0)
    until it raises Timeout."""

    def __init__(self, identity: Optional[str] = None, socket: Optional[str] = None, *,
                 reconnect: bool = True, broker_uid: Optional[int] = None) -> None:
        self._handle: Any = None
        given, kept = options(identity, socket, SOCKET_VARIABLE, reconnect=reconnect,
                              broker_uid=broker_uid)
        self._handle = open_handle(lib.vmsig_open, "vmsig", given)
        del kept

    @property
    def handle(self) -> Any:
        """The library's `vmsig *`."""
        if self._handle is None:
            raise ValueError("the connection was closed")
        return self._handle

    def close(self) -> None:
        """Ends the connection; contexts stay usable."""
        if self._handle is not None:
            lib.vmsig_close(self._handle)
            self._handle = None

    def fileno(self) -> int:
        return int(lib.vmsig_fd(self.handle))

    def deadline(self) -> int:
        """CLOCK_MONOTONIC nanoseconds at which it has something to do; 0: at once, -1: never."""
        return int(lib.vmsig_deadline(self.handle))

    def connect(self, timeout: Optional[float] = None) -> None:
        """Waits until there is a connection. Everything else does so by itself."""
        limit = deadline_of(timeout)
        while not lib.vmsig_is_connected(self.handle):
            self._check(lib.vmsig_process(self.handle))
            if not lib.vmsig_is_connected(self.handle):
                self._sleep(limit)

    def endpoints(self, timeout: Optional[float] = 10.0) -> list[Endpoint]:
        """Those that the tenant may see, by name."""
        found = ffi.new("vmsig_endpoint_list **")
        milliseconds = -1 if timeout is None else max(0, int(timeout * 1000))
        self._check(lib.vmsig_list(self.handle, found, milliseconds))
        try:
            return [Endpoint.of(found[0].endpoints[i]) for i in range(found[0].count)]
        finally:
            lib.vmsig_endpoint_list_free(found[0])

    def subscribe(self, pattern: str) -> None:
        """Endpoints of that name, or that the glob fits, now and later. The answer is an event."""
        self._check(lib.vmsig_subscribe(self.handle, pattern.encode()))

    def unsubscribe(self, pattern: str) -> None:
        self._check(lib.vmsig_unsubscribe(self.handle, pattern.encode()))

    def event(self, timeout: Optional[float] = None) -> Event:
        """The next one; Timeout after `timeout` seconds."""
        limit = deadline_of(timeout)
        delivery = ffi.new("vmsig_delivery *", {"ram_fd": -1, "coherence_fd": -1})
        while True:
            result = lib.vmsig_next(self.handle, delivery)
            if result == -lib.VMSIG_ERR_WOULD_BLOCK:
                self._check(lib.vmsig_process(self.handle))
                result = lib.vmsig_next(self.handle, delivery)
            if result == 0:
                try:
                    return Event.of(delivery)
                finally:
                    lib.vmsig_delivery_clear(delivery)
            if result != -lib.VMSIG_ERR_WOULD_BLOCK:
                self._check(result)
            self._sleep(limit)

    def events(self) -> Iterator[Event]:
        """All that come."""
        while True:
            yield self.event()

    def contexts(self, pattern: str = "*") -> Iterator[Context]:
        """A context for each epoch of each guest that the pattern fits, from now on. A subscription
        that is refused for good raises."""
        self.subscribe(pattern)
        for event in self.events():
            if event.context:
                yield event.context
            elif event.kind == "subscribed" and event.error and not event.error.retryable:
                raise event.error

    def context(self, endpoint: str, timeout: Optional[float] = 10.0) -> Context:
        """The current one of one guest, for as long as its epoch is. NotReady: there is none within
        `timeout` seconds, the text says why. Other events meanwhile are dropped."""
        limit = deadline_of(timeout)
        reason = ""
        self.subscribe(endpoint)
        try:
            while True:
                left = None if limit is None else max(0.0, limit - time.monotonic())
                event = self.event(left)
                if event.context and event.endpoint == endpoint:
                    return event.context
                if event.kind == "subscribed" and event.error and not event.error.retryable:
                    raise event.error
                reason = event.text or reason
        except errors.Timeout:
            raise errors.error(lib.VMSIG_ERR_NOT_READY, reason) from None
        finally:
            lib.vmsig_unsubscribe(self.handle, endpoint.encode())

    def _sleep(self, limit: Optional[float]) -> None:
        sleep(self.fileno(), lib.vmsig_poll_events(self.handle), self.deadline(), limit)

    def _check(self, result: int) -> None:
        if result:
            raise errors.error(result, text(lib.vmsig_last_error(self.handle)))

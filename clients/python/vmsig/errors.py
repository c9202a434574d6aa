# SPDX-License-Identifier: Apache-2.0
"""What calls of this package raise: one class, with the errors that programs tell apart as its
subclasses. Names, numbers and sentences are libvmsig's (vmsig_error.h)."""

from __future__ import annotations

import re
from typing import Optional

from ._vmsig import ffi, lib


class Error(Exception):
    """`number` is an enum vmsig_error, `name` its name ("STALE_EPOCH"), `retryable` whether the same
    call can succeed later. The text is the sentence of whoever refused."""

    def __init__(self, number: int, text: str = "") -> None:
        self.number = abs(number)
        self.name: str = ffi.string(lib.vmsig_error_name(self.number)).decode()
        self.retryable: bool = lib.vmsig_error_retryable(self.number)
        super().__init__(text or ffi.string(lib.vmsig_error_text(self.number)).decode())


class StaleEpoch(Error):
    """The guest was reset or restored: this context is over, a new one comes."""


class NotReady(Error):
    """The endpoint has no context now."""


class Gone(Error):
    """The guest, or the process in it, is not there any more."""


class NoBroker(Error):
    """Nobody says any more whether the guest was reset."""


class Torn(Error):
    """What was read changed meanwhile."""


class NoSuchEndpoint(Error):
    """There is no such endpoint, or none that this tenant may see."""


class NotMapped(Error):
    """Nothing is mapped, or resident, at that address."""


class OutOfRange(Error):
    """No RAM, or outside of the lease."""


class Forbidden(Error):
    """The policy does not allow it."""


class LeaseHeld(Error):
    """Somebody else has a lease that is in the way."""


class LeaseOver(Error):
    """The lease has expired, was revoked, or never was."""


class CompareFailed(Error):
    """Other bytes were there than expected; nothing was written."""


class UnknownOutcome(Error):
    """Nobody can tell whether the write was applied."""


class Moved(Error):
    """The guest was migrated to another host of the fleet, and its leases with it: go on there."""

    @property
    def host(self) -> Optional[str]:
        """The host, as the fleet calls it, if the broker has named it."""
        named = re.search(r"the host '([^']+)'", str(self))
        return named.group(1) if named else None


class Timeout(Error):
    """It took longer than allowed."""


_CLASSES: dict[int, type[Error]] = {
    lib.VMSIG_ERR_STALE_EPOCH: StaleEpoch,
    lib.VMSIG_ERR_NOT_READY: NotReady,
    lib.VMSIG_ERR_GONE: Gone,
    lib.VMSIG_ERR_NO_BROKER: NoBroker,
    lib.VMSIG_ERR_TORN: Torn,
    lib.VMSIG_ERR_NO_SUCH_ENDPOINT: NoSuchEndpoint,
    lib.VMSIG_ERR_NOT_MAPPED: NotMapped,
    lib.VMSIG_ERR_OUT_OF_RANGE: OutOfRange,
    lib.VMSIG_ERR_FORBIDDEN: Forbidden,
    lib.VMSIG_ERR_LEASE_HELD: LeaseHeld,
    lib.VMSIG_ERR_LEASE_EXPIRED: LeaseOver,
    lib.VMSIG_ERR_LEASE_REVOKED: LeaseOver,
    lib.VMSIG_ERR_NO_LEASE: LeaseOver,
    lib.VMSIG_ERR_COMPARE_FAILED: CompareFailed,
    lib.VMSIG_ERR_UNKNOWN_OUTCOME: UnknownOutcome,
    lib.VMSIG_ERR_MOVED: Moved,
    lib.VMSIG_ERR_TIMEOUT: Timeout,
}


def error(number: int, text: str = "") -> Error:
    """The error of that number, of either sign, in its class."""
    return _CLASSES.get(abs(number), Error)(number, text)


def check(result: int, text: str = "") -> None:
    """Raises what a call of the library returned, unless that is 0."""
    if result:
        raise error(result, text)


def check_at(result: int, address: int, length: int = 0) -> None:
    """The same of what was done at an address, which the text then names."""
    if result:
        what = f"{length} bytes at {address:#x}" if length else f"{address:#x}"
        sentence = ffi.string(lib.vmsig_error_text(abs(result))).decode()
        raise error(result, f"{what}: {sentence}")

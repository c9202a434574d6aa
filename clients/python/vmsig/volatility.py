# SPDX-License-Identifier: Apache-2.0
"""Guest memory for Volatility 3: locations of the form vmsig://ENDPOINT.

    VMSIG_IDENTITY=DIR vol -p FOLDER -f vmsig://web1 linux.pslist

where FOLDER/vmsig_layer.py says `from vmsig.volatility import *`, or with this module imported before
by a program that uses Volatility as a library. The identity and the socket come from VMSIG_IDENTITY and VMSIG_SOCKET. What
Volatility sees is guest-physical memory from 0 to the end of RAM, live, in which what is no RAM reads
as zeros. A guest that is reset ends the analysis with an error: what was read before belongs to
another session.
"""

from __future__ import annotations

import io
import urllib.parse
import urllib.request
from typing import Any, Optional

from volatility3.framework.layers import resources

from . import errors
from .connection import Connection
from .context import Context
from ._vmsig import ffi, lib

__all__ = ["VmsigFile", "VmsigHandler"]

WAIT = 10.0  # seconds for a context of a guest that is there


class VmsigFile(io.RawIOBase):
    """Guest-physical memory as a file that can be read and not written."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context, self._at = context, 0
        self._size = int(lib.vmsig_phys_end(context.mem.handle))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("negative offset")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        into = memoryview(buffer).cast("B")
        length = max(0, min(len(into), self._size - self._at))
        done = 0
        while done < length:
            done += self._piece(into[done:length], self._at + done)
        self._at += length
        return length

    def _piece(self, into: memoryview, address: int) -> int:
        """Bytes of RAM, or of what is none, that are next."""
        place = ffi.new("vmsig_phys_place *")
        found = lib.vmsig_phys_locate(self._context.mem.handle, address, place)
        length = min(len(into), int(place.len))
        if found == -lib.VMSIG_ERR_OUT_OF_RANGE:
            into[:length] = bytes(length)
        else:
            errors.check(found)
            into[:length] = self._context.mem.read(address, length)
        return length

    def close(self) -> None:
        if not self.closed:
            self._context.close()
        super().close()


class VmsigHandler(resources.VolatilityHandler):
    """What opens vmsig://ENDPOINT."""

    @classmethod
    def non_cached_schemes(cls) -> list[str]:
        return ["vmsig"]

    @staticmethod
    def default_open(request: urllib.request.Request) -> Optional[io.BufferedReader]:
        if request.type != "vmsig":
            return None
        endpoint = urllib.parse.unquote(urllib.parse.urlparse(request.full_url).netloc)
        with Connection() as connection:
            return io.BufferedReader(VmsigFile(connection.context(endpoint, WAIT)))

# SPDX-License-Identifier: Apache-2.0
"""vmsig in Python: guest memory of a host's VMs, through its broker. On libvmsig, which does the work.

    import vmsig

    with vmsig.Connection(identity="/etc/vmsig/sensor") as connection:
        for context in connection.contexts("web*"):       # one for each epoch of each guest
            with context, vmsig.Guest(context) as guest:
                for process in guest.processes():
                    print(context.endpoint, process.pid, process.name)

    with vmsig.Writer(identity="/etc/vmsig/operator") as writer:
        with writer.lease("web1", [(0x1000, 0x1fff)]) as lease:
            lease.write(0x1008, b"\\1\\0\\0\\0\\0\\0\\0\\0", expect=bytes(8))

Modules:

    connection  subscriptions and what comes of them
    content     what a guest has beside processes: files, sockets, libraries, ...
    context     memory of a guest in one epoch
    errors      what is raised
    ffi         what lies between Python and the library
    guest       what is in that memory: processes, symbols, ...
    volatility  vmsig://ENDPOINT for Volatility 3; imported only by whoever has that
    writer      leases and writes
"""

from .connection import Connection, Endpoint, Event
from .content import File, Finding, Image, LogRecord, Mount, Name, Registers, Socket
from .context import Context, Memory, Page
from .errors import (CompareFailed, Error, Forbidden, Gone, LeaseHeld, LeaseOver, Moved, NoBroker,
                     NoSuchEndpoint, NotMapped, NotReady, OutOfRange, StaleEpoch, Timeout, Torn, UnknownOutcome)
from .ffi import text as _text
from .guest import Found, Guest, Map, Module, OpenFile, Process, Symbol
from .writer import Lease, Op, Writer, WriterEvent, Written
from ._vmsig import lib as _lib

PROT_READ: int = _lib.VMSIG_PROT_READ
PROT_WRITE: int = _lib.VMSIG_PROT_WRITE
PROT_EXEC: int = _lib.VMSIG_PROT_EXEC
PROT_USER: int = _lib.VMSIG_PROT_USER

__version__ = _text(_lib.vmsig_version())

__all__ = [
    "CompareFailed", "Connection", "Context", "Endpoint", "Error", "Event", "File", "Finding",
    "Forbidden", "Found", "Gone", "Guest", "Image", "Lease", "LeaseHeld", "LeaseOver", "LogRecord", "Map",
    "Memory", "Module", "Mount", "Moved", "Name", "NoBroker", "NoSuchEndpoint", "NotMapped", "NotReady", "Op", "OpenFile",
    "OutOfRange", "PROT_EXEC", "PROT_READ", "PROT_USER", "PROT_WRITE", "Page", "Process",
    "Registers", "Socket", "StaleEpoch", "Symbol", "Timeout", "Torn", "UnknownOutcome", "Writer", "WriterEvent", "Written",
]

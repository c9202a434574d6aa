# SPDX-License-Identifier: Apache-2.0
"""A program at a terminal of its own, and who types there and reads what it shows."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

HANG_S = 60


class Terminal:
    def __init__(self, argv, term="dumb", **environment):
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(environment, TERM=term)
            os.execv(argv[0], argv)

    def expect(self, pattern, start=0):
        """Where the match ends, at or behind `start`."""
        until = time.monotonic() + HANG_S
        while not (match := re.compile(pattern, re.DOTALL).search(self.seen, start)):
            left = until - time.monotonic()
            if left <= 0:
                sys.exit(f"no {pattern!r} behind {start} in {self.seen!r}")
            if select.select([self.fd], [], [], left)[0]:
                try:
                    self.seen += os.read(self.fd, 4096).decode(errors="replace")
                except OSError:
                    sys.exit(f"it ended; no {pattern!r} in {self.seen!r}")
        return match.end()

    def await_keys(self):
        """Between two lines the terminal is no keyboard: there Ctrl-D is a mark that a reader of
        keys never gets."""
        until = time.monotonic() + HANG_S
        while termios.tcgetattr(self.fd)[3] & termios.ICANON:
            if time.monotonic() > until:
                sys.exit(f"it does not read keys; it has said {self.seen!r}")
            time.sleep(0.01)

    def press(self, keys, wanted):
        """What comes after that is what is wanted; where it ends."""
        self.await_keys()
        start = len(self.seen)
        os.write(self.fd, keys.encode())
        return self.expect(wanted, start)

    def line(self, text):
        os.write(self.fd, f"{text}\n".encode())

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.kill(self.pid, signal.SIGWINCH)

    def end(self):
        """How it ended: an exit status."""
        while True:  # what it says last
            if not select.select([self.fd], [], [], HANG_S)[0]:
                sys.exit(f"it does not end; it has said {self.seen!r}")
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                data = b""
            if not data:
                break
            self.seen += data.decode(errors="replace")
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)

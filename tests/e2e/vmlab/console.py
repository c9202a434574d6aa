# SPDX-License-Identifier: Apache-2.0
"""The guest's serial console: what it says about itself, and commands run inside it."""

import re
import socket
import threading
import time
from dataclasses import dataclass, field

from .process import PATIENCE


@dataclass
class Truth:
    """What a guest said about one boot of its kernel."""

    release: str = ""
    version: str = ""
    boot_id: str = ""
    la57: bool = False
    symbols: dict = field(default_factory=dict)
    ram: list = field(default_factory=list)  # [(first, last)] of /proc/iomem, both inclusive
    code: int = 0  # guest-physical address of the kernel's text

    @property
    def kcr3(self):
        """init_top_pgt lies as far from the text in RAM as it does in the kernel's map."""
        return self.code + self.symbols["init_top_pgt"] - self.symbols["_text"]

    def physical(self, symbol):
        return self.code + self.symbols[symbol] - self.symbols["_text"]


def parse_truth(lines):
    truth = Truth()
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        if word in ("release", "version", "boot_id"):
            setattr(truth, word, rest)
        elif word == "la57":
            truth.la57 = True
        elif word == "symbol":
            name, address = rest.split()
            truth.symbols[name] = int(address, 16)
        else:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) : (.*)", line.strip())
            if match and match[3] == "System RAM":
                truth.ram.append((int(match[1], 16), int(match[2], 16)))
            elif match and match[3] == "Kernel code":
                truth.code = int(match[1], 16)
    return truth


class Console:
    """Reads all the time, so that the guest never waits for its serial port."""

    def __init__(self, sock, log):
        self._socket = sock
        self._log = open(log, "ab", buffering=0)
        self._text = ""
        self._sequence = 0
        self._closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            try:
                data = self._socket.recv(65536)
            except OSError:
                data = b""
            with self._changed:
                if data:
                    self._log.write(data)
                    self._text += data.decode("utf-8", "replace").replace("\r", "")
                else:
                    self._closed = True
                self._changed.notify_all()
                if not data:
                    self._log.close()
                    return

    def expect(self, pattern, start=0, timeout=60.0):
        """The match of a regular expression at or behind an offset of all that was said."""
        deadline = time.monotonic() + timeout * PATIENCE
        regex = re.compile(pattern, re.DOTALL | re.MULTILINE)
        with self._changed:
            while True:
                match = regex.search(self._text, start)
                if match:
                    return match
                left = deadline - time.monotonic()
                if left <= 0 or self._closed:
                    why = "console closed" if self._closed else f"not within {timeout:g} s"
                    raise TimeoutError(
                        f"console: {pattern!r}: {why}; it said last:\n{self._text[-800:]}")
                self._changed.wait(min(left, 1.0))

    def mark(self):
        with self._changed:
            return len(self._text)

    def boots(self):
        with self._changed:
            return len(re.findall(r"^@@TRUTH END$", self._text, re.MULTILINE))

    def truth(self, boot=1, timeout=90.0):
        """Waits for the boot-th boot since the console was opened."""
        start = 0
        for _ in range(boot):
            match = self.expect(r"^@@TRUTH BEGIN\n(.*?)^@@TRUTH END\n", start, timeout)
            start = match.end()
        return parse_truth(match[1].splitlines())

    def send(self, command):
        """Starts a command and does not wait for it."""
        self._sequence += 1
        self._socket.sendall(f"c{self._sequence} {command}\n".encode())
        return f"c{self._sequence}"

    def run(self, command, timeout=60.0):
        """Output of a shell command in the guest; fails when the command does."""
        start = self.mark()
        ident = self.send(command)
        match = self.expect(rf"^@@BEGIN {ident}\n(.*?)^@@END {ident} (\d+)\n", start, timeout)
        if match[2] != "0":
            raise RuntimeError(f"in the guest: {command}: exit {match[2]}: {match[1]}")
        return match[1]

    def close(self):
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()

# SPDX-License-Identifier: Apache-2.0
"""An operator with a lease: tests/e2e/operator.c, told what to do line by line."""

import subprocess

from .process import Child


class Operator:
    """`within` makes the command one that runs elsewhere (Systemd.argv)."""

    def __init__(self, broker, endpoint="vm1", name="operator/ops", uid=0, within=None):
        self.lab = broker.lab
        argv = [self.lab.path("tests", "operator"), broker.write_socket,
                broker.identity(name, uid), endpoint]
        self.child = self.lab.own(Child(
            within(*argv) if within else argv,
            self.lab.log(f"operator-{uid}"), uid=uid, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE))

    def start(self, *words):
        """Begins something; answer() waits for its end."""
        line = " ".join(str(word) for word in words)
        self.child.popen.stdin.write(f"{line}\n".encode())
        self.child.popen.stdin.flush()

    def answer(self):
        line = self.child.popen.stdout.readline().decode().strip()
        if not line:
            raise RuntimeError(f"the operator ended: {self.child.text()}")
        return line

    def do(self, *words):
        self.start(*words)
        return self.answer()

    def must(self, *words):
        """The answer's words behind "ok"."""
        answer = self.do(*words)
        if not answer.startswith("ok"):
            raise AssertionError(f"{words}: {answer}")
        return answer.split()[1:]


class Wire(Operator):
    """One that names everything itself: tests/e2e/wire.c."""

    # It is told the endpoint with each request.
    def __init__(self, broker, name="operator/ops", uid=0):
        self.lab = broker.lab
        argv = [self.lab.path("tests", "wire"), broker.write_socket, broker.identity(name, uid)]
        self.child = self.lab.own(Child(argv, self.lab.log(f"wire-{uid}"), uid=uid,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE))

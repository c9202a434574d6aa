# SPDX-License-Identifier: Apache-2.0
"""The test's own monitor; the broker has another one."""

import json
import time


class QmpError(Exception):
    pass


class Qmp:
    def __init__(self, sock):
        self._socket = sock
        self._file = sock.makefile("rb")
        self.events = []
        self._greeting = json.loads(self._file.readline())
        self.execute("qmp_capabilities")

    def execute(self, command, **arguments):
        request = {"execute": command, "arguments": arguments}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            line = self._file.readline()
            if not line:
                raise QmpError(f"{command}: QEMU has gone")
            reply = json.loads(line)
            if "event" in reply:
                self.events.append(reply)
            elif "error" in reply:
                raise QmpError(f"{command}: {reply['error']['desc']}")
            else:
                return reply["return"]

    def human(self, command):
        return self.execute("human-monitor-command", **{"command-line": command})

    def job(self, command, **arguments):
        """Runs a command that makes a job (snapshot-save and the like) and waits for its end."""
        name = f"job{time.monotonic_ns()}"
        self.execute(command, **{"job-id": name}, **arguments)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            for job in self.execute("query-jobs"):
                if job["id"] == name and job["status"] == "concluded":
                    self.execute("job-dismiss", id=name)
                    if "error" in job:
                        raise QmpError(f"{command}: {job['error']}")
                    return
            time.sleep(0.1)
        raise TimeoutError(f"{command}: no end within 120 s")

    def close(self):
        self._file.close()
        self._socket.close()

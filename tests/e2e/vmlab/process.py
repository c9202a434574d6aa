# SPDX-License-Identifier: Apache-2.0
"""Child processes that cannot outlive the test, however it ends."""

import ctypes
import os
import signal
import subprocess
import time

PR_SET_PDEATHSIG = 1
PATIENCE = int(os.environ.get("VMSIG_PATIENCE", "1"))  # times each time limit
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(signum=signal.SIGKILL):
    """For preexec_fn, and for a test that runs below sudo."""
    _libc.prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)


class Child:
    """A running program; its output goes to files in the lab, or to a pipe for stdout."""

    def __init__(self, argv, log, uid=None, stdout=None, env=None, pass_fds=(), stdin=None):
        self.argv = [str(arg) for arg in argv]
        self.log = log
        self.uid = uid
        extra = {}
        if uid is not None and uid != os.getuid():
            extra = {"user": uid, "group": uid, "extra_groups": []}
        with open(log, "ab") as err:
            self.popen = subprocess.Popen(
                self.argv, stdin=stdin or subprocess.DEVNULL, stdout=stdout or err, stderr=err,
                env=env, pass_fds=pass_fds, preexec_fn=die_with_parent, cwd="/", **extra)

    @property
    def pid(self):
        return self.popen.pid

    def is_alive(self):
        return self.popen.poll() is None

    def signal(self, signum):
        if self.is_alive():
            self.popen.send_signal(signum)

    def wait(self, timeout=60):
        return self.popen.wait(timeout)

    def stop(self, timeout=60):
        """SIGTERM, then SIGKILL; returns the exit status."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.popen.wait()

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()


def wait_until(what, probe, timeout=60.0, every=0.05):
    """Returns the first true value of probe(); `what` names it when the time is over."""
    deadline = time.monotonic() + timeout * PATIENCE
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(every)

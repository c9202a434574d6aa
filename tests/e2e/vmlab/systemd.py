# SPDX-License-Identifier: Apache-2.0
"""A systemd as the first process of namespaces of its own, with this machine's programs, and an /etc,
a /run, a /var and cgroups that vanish.
"""

import glob
import os
import shutil
import subprocess
import time

from . import Skip
from .process import Child, die_with_parent, wait_until

PRIVATE_TMP = "/tmp/systemd-private-*"
TARGET = """[Unit]
Description=What a scenario needs of a machine
Requires=basic.target
After=basic.target
AllowIsolate=yes
"""
# Of the machine that this is not.
MASKED = ("dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount",
          "sys-kernel-tracing.mount", "systemd-binfmt.service", "systemd-firstboot.service",
          "systemd-journald-dev-log.socket", "systemd-journald.service", "systemd-journald.socket",
          "systemd-machine-id-commit.service", "systemd-modules-load.service",
          "systemd-random-seed.service", "systemd-remount-fs.service", "systemd-sysctl.service",
          "systemd-sysusers.service", "systemd-tmpfiles-setup-dev.service",
          "systemd-tmpfiles-setup.service", "systemd-udev-trigger.service", "systemd-udevd.service",
          "systemd-update-utmp.service", "tmp.mount")
BEGIN = """set -e
mount -t proc proc /proc
mount -t tmpfs -o mode=0755 vmlab-run /run
mount -t tmpfs -o mode=0755 vmlab-var /var/lib
umount -R /sys/fs/cgroup 2>/dev/null || :
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for folder in etc usr/sbin; do
    mount -t overlay -o lowerdir=/$folder,upperdir=LAB/overlay/$folder,workdir=LAB/work/$folder \\
        overlay /$folder
done
rm -rf /etc/systemd/system
mkdir /etc/systemd/system
cp -r LAB/units/. /etc/systemd/system
mount --bind LAB/log/systemd-console.log /dev/console
exec env -i container=vmlab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system \\
    --unit=vmlab.target --log-target=console --show-status=no
"""


def _cgroup():
    """Where cgroups of version 2 are, of any controllers."""
    with open("/proc/mounts", encoding="utf-8") as file:
        for line in file:
            words = line.split()
            if words[2] == "cgroup2":
                return words[1]
    raise Skip("this machine has no cgroup2")


class Systemd:
    """`units`: their files; `changes`: {unit: what is added to it}; `files`: {path below /etc:
    text}; `users`: {name: uid}; `programs`: what is put into /usr/sbin.
    """

    def __init__(self, lab, units=(), changes=None, files=None, users=None, programs=()):
        if not os.path.exists("/lib/systemd/systemd"):
            raise Skip("not installed: systemd")
        self.lab = lab
        self._others = set(glob.glob(PRIVATE_TMP))
        for folder in ("overlay/etc", "overlay/usr/sbin", "work/etc", "work/usr/sbin", "units"):
            os.makedirs(lab.path(folder))
        self._write("units/vmlab.target", TARGET)
        for name in MASKED:
            os.symlink("/dev/null", lab.path("units", name))
        for unit in units:
            shutil.copy(unit, lab.path("units"))
        for unit, text in (changes or {}).items():
            self._write(f"units/{unit}.d/vmlab.conf", text)
        for path, text in (files or {}).items():
            self._write(f"overlay/etc/{path}", text)
        self._add_users(users or {})
        for program in programs:
            shutil.copy(program, lab.path("overlay/usr/sbin"))
        self._write("log/systemd-console.log", "")
        self.cgroup = os.path.join(_cgroup(), f"vmlab-{os.getpid()}-{time.monotonic_ns()}")
        os.mkdir(self.cgroup)
        lab.own(self)
        self._start()

    def _write(self, name, text):
        path = self.lab.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def _add_users(self, users):
        for base, line in (("passwd", "{0}:x:{1}:{1}::/:/usr/sbin/nologin\n"), ("group", "{0}:x:{1}:\n")):
            with open(f"/etc/{base}", encoding="utf-8") as file:
                text = file.read()
            self._write(f"overlay/etc/{base}",
                        text + "".join(line.format(name, uid) for name, uid in users.items()))

    def _start(self):
        script = BEGIN.replace("LAB", self.lab.root)
        self.child = Child(
            ["sh", "-c", f"echo $$ >{self.cgroup}/cgroup.procs && exec unshare --mount --pid --fork "
             f"--kill-child --uts --ipc --cgroup sh -c '{script}'"], self.lab.log("systemd"))
        wait_until("systemd is the first process", self._find, 60)
        wait_until("systemd has begun", lambda: self.run("is-active", "vmlab.target", check=False) ==
                   "active", 60, 0.2)

    def _find(self):
        with open(f"/proc/{self.child.pid}/task/{self.child.pid}/children", encoding="ascii") as file:
            children = file.read().split()
        self.pid = children[0] if children else None
        if not self.child.is_alive():
            raise RuntimeError(self.child.text())
        return self.pid and os.path.exists(f"/proc/{self.pid}/root/run/systemd/private")

    def argv(self, *argv):
        """A program, inside."""
        return ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--uts", "--ipc", "--cgroup",
                *argv]

    def run(self, *arguments, check=True):
        """systemctl."""
        done = subprocess.run(self.argv("systemctl", *arguments), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=120, check=False, preexec_fn=die_with_parent)
        if check and done.returncode:
            raise RuntimeError(f"systemctl {' '.join(arguments)}: {done.stdout}")
        return done.stdout.strip()

    def property(self, unit, name):
        return self.run("show", "--value", f"--property={name}", unit)

    def signal(self, signum):
        """Nobody's: it ends with stop()."""

    def stop(self):
        self.child.kill()
        wait_until("its processes have ended", self._remove_cgroups, 60)
        for folder in set(glob.glob(PRIVATE_TMP)) - self._others:
            shutil.rmtree(folder)

    def _remove_cgroups(self):
        for folder, _, _ in os.walk(self.cgroup, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                return False
        return True

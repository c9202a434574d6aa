# SPDX-License-Identifier: Apache-2.0
"""Kernels that Debian's archive has, whatever this machine's release is: single packages, by
package lists of their own. They are unpacked and never installed.
"""

import contextlib
import fcntl
import fnmatch
import glob
import gzip
import json
import lzma
import os
import platform
import re
import shutil
import subprocess
import time

ASKED_EVERY_S = 86400
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
ARCHIVE = "http://deb.debian.org/debian"
SECURITY = "http://deb.debian.org/debian-security"
# From Debian 11 to what is not released yet. A suite that the archive does not have (any more) is
# left out.
SUITES = [(SECURITY, "bullseye-security"), (ARCHIVE, "bullseye"), (SECURITY, "bookworm-security"),
          (ARCHIVE, "bookworm"), (ARCHIVE, "bookworm-backports"), (ARCHIVE, "trixie"),
          (ARCHIVE, "trixie-backports"), (ARCHIVE, "testing"), (ARCHIVE, "sid"),
          (ARCHIVE, "experimental")]
NAME = re.compile(r"linux-image-((\d+\.\d+)\.[^-]*(?:-\d+)?(?:-(cloud|rt))?-amd64)$")
MODULES = ("pvpanic.ko", "pvpanic-pci.ko")


class Kernel:
    """A package, and after `Archive.fetch` where its parts are."""

    def __init__(self, release, version, flavour):
        self.release = release    # as uname -r has it
        self.version = version    # "6.12"
        self.flavour = flavour or "full"
        self.vmlinuz = self.modules = None

    @property
    def name(self):
        return f"{self.version}-{self.flavour}"


def _kernel(release):
    match = NAME.match(f"linux-image-{release}")
    return Kernel(match[1], match[2], match[3])


def _order(text):
    """Numbers in a text count as numbers."""
    return [int(word) if word.isdigit() else 0 for word in re.findall(r"\d+|\D+", text)]


def release_suites():
    """Those of the release that runs here."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "stable")
    return [(SECURITY, f"{codename}-security"), (ARCHIVE, codename)]


class Archive:
    def __init__(self, folder, suites=None):
        self.folder = os.path.abspath(folder)
        self._suites = suites or SUITES
        for parts in (("state", "lists", "partial"), ("cache", "archives", "partial")):
            os.makedirs(os.path.join(self.folder, "apt", *parts), exist_ok=True)
        self._apt = os.path.join(self.folder, "apt")

    def _options(self):
        own = {"Dir::State": f"{self._apt}/state", "Dir::State::status": "/dev/null",
               "Dir::Cache": f"{self._apt}/cache",
               "Dir::Etc::sourcelist": f"{self._apt}/sources.list",
               "Dir::Etc::sourceparts": "/dev/null", "APT::Sandbox::User": "root",
               # The last ones of a release that is not looked after any more are as old as it.
               "Acquire::Check-Valid-Until": "false"}
        return [word for key, value in own.items() for word in ("-o", f"{key}={value}")]

    @contextlib.contextmanager
    def _alone(self):
        """Nobody else changes the folder meanwhile."""
        with open(os.path.join(self.folder, ".lock"), "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def kernels(self):
        """The newest of each version and flavour, oldest version first; asked for once a day."""
        known = os.path.join(self.folder, "kernels.json")
        with self._alone():
            if not os.path.exists(known) or time.time() - os.path.getmtime(known) > ASKED_EVERY_S:
                self._update()
                with open(known + ".new", "w", encoding="utf-8") as file:
                    json.dump([kernel.release for kernel in self._search()], file)
                os.rename(known + ".new", known)
            with open(known, encoding="utf-8") as file:
                return [_kernel(release) for release in json.load(file)]

    def _update(self):
        with open(os.path.join(self._apt, "sources.list"), "w", encoding="utf-8") as file:
            file.writelines(f"deb [signed-by={KEYRING}] {uri} {suite} main\n"
                            for uri, suite in self._suites)
        # What one suite lacks does not hinder the others.
        subprocess.run(["apt-get", "-q", *self._options(), "update"], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _search(self):
        told = subprocess.run(["apt-cache", *self._options(), "search", "--names-only",
                               "^linux-image-[0-9]"], capture_output=True, text=True, check=True)
        newest = {}
        for line in told.stdout.splitlines():
            package = line.split(" ")[0]
            if not NAME.match(package):
                continue
            kernel = _kernel(package.removeprefix("linux-image-"))
            other = newest.get(kernel.name)
            if not other or _order(other.release) < _order(kernel.release):
                newest[kernel.name] = kernel
        return sorted(newest.values(), key=lambda k: (_order(k.version), k.flavour))

    def _download(self, package, folder):
        """False: there is none of that name."""
        done = subprocess.run(["apt-get", "-q", *self._options(), "download", package], cwd=folder,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        for path in glob.glob(os.path.join(folder, "*.deb")):
            subprocess.run(["dpkg-deb", "-x", path, folder], check=True)
            os.unlink(path)
        return done.returncode == 0

    def fetch(self, kernel):
        """Keeps the image and the modules that tests load, as a part of an initramfs."""
        with self._alone():
            self._fetch(kernel)

    def _fetch(self, kernel):
        folder = os.path.join(self.folder, kernel.release)
        kernel.vmlinuz = os.path.join(folder, "vmlinuz")
        kernel.modules = os.path.join(folder, "modules.cpio.gz")
        if os.path.exists(kernel.modules):
            return
        shutil.rmtree(folder, ignore_errors=True)
        work = os.path.join(folder, "work")
        os.makedirs(work)
        # From 6.19 on the first of them has nothing in it but what it depends on.
        for kind in ("image", "binary", "modules"):
            self._download(f"linux-{kind}-{kernel.release}", work)
        found = _find(work, "vmlinuz*")
        if not found:
            raise FileNotFoundError(f"the archive has no vmlinuz of {kernel.release}")
        shutil.copy(found[0], kernel.vmlinuz)
        _pack_modules(work, os.path.join(folder, "root"), kernel.modules)
        shutil.rmtree(work)
        shutil.rmtree(os.path.join(folder, "root"))


def _find(folder, pattern):
    return [os.path.join(where, name) for where, _, names in os.walk(folder)
            for name in names if fnmatch.fnmatch(name, pattern)]


def _pack_modules(work, root, out):
    os.makedirs(os.path.join(root, "modules"))
    for name in MODULES:
        for path in _find(work, name + "*"):
            opened = lzma.open(path) if path.endswith(".xz") else open(path, "rb")
            with opened as source, open(os.path.join(root, "modules", name), "wb") as target:
                shutil.copyfileobj(source, target)
    names = "\n".join(["modules"] + [f"modules/{name}" for name in
                                     os.listdir(os.path.join(root, "modules"))])
    packed = subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], cwd=root,
                            input=names.encode(), capture_output=True, check=True)
    with gzip.open(out + ".new", "wb") as file:
        file.write(packed.stdout)
    os.rename(out + ".new", out)

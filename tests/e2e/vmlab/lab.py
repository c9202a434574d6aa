# SPDX-License-Identifier: Apache-2.0
"""Where a scenario lives: a private mount namespace whose file systems and processes vanish with
the test, even when it is killed.
"""

import ctypes
import gzip
import os
import re
import shutil
import subprocess

from .process import die_with_parent

CLONE_NEWNS = 0x20000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
_libc = ctypes.CDLL(None, use_errno=True)

SOURCE = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))


def _checked(result, what):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source, target, fstype, flags, options=None):
    _checked(_libc.mount(source.encode(), target.encode(), fstype and fstype.encode(), flags,
                         options and options.encode()), f"mount {target}")


def _mount_point(build):
    """A folder that every Linux has and that hides nothing we need once it is mounted over."""
    needed = [os.path.realpath(path) + "/" for path in (SOURCE, build, "/usr", "/dev/shm")]
    for path in ("/mnt", "/media", "/srv", "/opt"):
        if os.path.isdir(path) and not any(need.startswith(path + "/") for need in needed):
            return path
    raise OSError("no folder to mount the lab on")


class Lab:
    """Holds folders, the programs under test and whatever was started, newest first.

    ram/ is a tmpfs of its own: the file system of guest RAM, as deploy/THREATS.md advises.
    """

    def __init__(self, build):
        self.build = os.path.abspath(build)
        self._owned = []
        self._initrds = {}
        die_with_parent(15)
        _checked(_libc.unshare(CLONE_NEWNS), "unshare")
        _mount("none", "/", None, MS_REC | MS_PRIVATE)
        self.root = _mount_point(self.build)
        _mount("vmlab", self.root, "tmpfs", 0, "mode=0755")
        for name in ("bin", "tests", "guest", "qmp", "ram", "log", "pki", "state", "run", "tmp"):
            os.mkdir(self.path(name), 0o755)
        # Bound, because other uids have to reach them wherever the build folder is.
        _mount(os.path.join(self.build, "bin"), self.path("bin"), None, MS_BIND)
        _mount(os.path.join(self.build, "tests", "bin"), self.path("tests"), None, MS_BIND)
        _mount("vmram", self.path("ram"), "tmpfs", 0, "mode=0711")
        os.chmod(self.path("tmp"), 0o1777)

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def log(self, name):
        return self.path("log", f"{name}.log")

    def logs(self):
        folder = self.path("log")
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                yield name, file.read()

    def guest_file(self, name):
        """Of the build folder's guest, or, when that has none, of the default build's."""
        own = os.path.join(self.build, "guest", name)
        return own if os.path.exists(own) else os.path.join(SOURCE, "build", "guest", name)

    def guest_cmdline(self):
        with open(self.guest_file("cmdline"), encoding="utf-8") as file:
            return file.read().strip()

    def initrd(self, added=None, part=None):
        """The initramfs; with what is added: "kexec" (a kernel), "older" (that one's KVM),
        "loaded" (a program with libraries), or the part that is in a file."""
        plain = self.guest_file("initramfs.cpio.gz")
        if not added and not part:
            return plain
        both = self.path("guest", f"{added or os.path.basename(os.path.dirname(part))}-initramfs")
        if not os.path.exists(both):
            more = (part or (self._loaded() if added == "loaded" else
                             self.guest_file(f"{added}.cpio.gz")))
            with open(both, "wb") as out:
                for part in (plain, more):
                    with open(part, "rb") as file:
                        shutil.copyfileobj(file, out)
        return both

    def libraries(self):
        """What the program `loaded` loads: {path: file of this machine}, as it is in the guest."""
        told = subprocess.run(["ldd", self.path("tests", "loaded")], check=True,
                              capture_output=True, text=True).stdout
        found = re.findall(r"^\t(?:\S+ => )?(/\S+) \(0x", told, re.M)
        return {"/lib64/ld-linux-x86-64.so.2" if "/ld-linux" in path else
                f"/lib/{os.path.basename(path)}": os.path.realpath(path) for path in found}

    def _loaded(self):
        """An archive of the program and its libraries."""
        root, archive = self.path("guest", "loaded"), self.path("guest", "loaded.cpio.gz")
        for path, file in {**self.libraries(), "/bin/loaded": self.path("tests", "loaded")}.items():
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            shutil.copyfile(file, root + path)
            os.chmod(root + path, 0o755)
        names = subprocess.run(["find", "."], cwd=root, check=True, capture_output=True)
        packed = subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], cwd=root,
                                input=names.stdout, capture_output=True, check=True)
        with open(archive, "wb") as out:
            out.write(gzip.compress(packed.stdout, 1))
        return archive

    def program(self, name):
        return self.path("bin", name)

    def own(self, child):
        """The child is ended with the lab."""
        self._owned.append(child)
        return child

    def disown(self, child):
        """It has ended before."""
        if child in self._owned:
            self._owned.remove(child)

    def close(self):
        for child in reversed(self._owned):
            child.signal(18)  # SIGCONT: a stopped child cannot end
            child.stop()
        self._owned.clear()


def build_guest(build):
    subprocess.run([os.path.join(SOURCE, "deploy", "guest", "build-guest"), "--for-tests",
                    os.path.join(build, "guest")], check=True)

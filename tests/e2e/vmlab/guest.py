# SPDX-License-Identifier: Apache-2.0
"""A real Linux guest under QEMU."""

import os
import socket

from .console import Console
from .process import Child
from .qmp import Qmp


QEMU = os.environ.get("VMSIG_QEMU", "qemu-system-x86_64")


class Guest:
    """One QEMU. `qmp_path` is where the broker connects to; `qmp` is the test's own monitor.

    backend: file (tmpfs, shared), relative (its path is relative), memfd,
    hugetlb (memory-backend-memfd on huge pages), plain (-m only), private (a file without
    share=on). `objects` says it all instead: QEMU's options for memory backends of its own.
    older: with a kernel before 5.11, and its KVM in /kvm.
    loaded: with the program of that name, and the libraries that it needs.
    kernel: the file of another one; `modules` is the part of an initramfs with what goes with it.
    """

    def __init__(self, lab, name="vm1", machine="q35", cpu="max", memory="512M", backend="file",
                 qmp=True, uid=None, extra=(), memory_option=None, append="", kexec=False,
                 objects=(), older=False, loaded=False, kernel=None, modules=None, smp=1):
        self.lab = lab
        self.name = name
        self.qmp_path = lab.path("qmp", f"{name}.sock")
        self.ram_path = lab.path("ram", name)
        self.uid = uid
        self.backend = backend
        self._boots = 0
        self._argv = [QEMU, "-name", name, "-accel", "tcg", "-cpu", cpu,
                      "-smp", str(smp), "-m", memory_option or memory, "-nodefaults",
                      "-no-user-config", "-display", "none",
                      "-kernel", kernel or lab.guest_file("older-vmlinuz" if older else "vmlinuz"),
                      "-initrd", lab.initrd("kexec" if kexec else "older" if older else
                                            "loaded" if loaded else None, modules),
                      "-append", f"{lab.guest_cmdline()} {append}".strip()]
        self._argv += (["-machine", machine, *objects] if objects else
                       self._memory_arguments(machine, memory, backend))
        if qmp:
            self._argv += ["-qmp", f"unix:{self.qmp_path},server=on,wait=off"]
        self._argv += list(extra)
        self.child = None
        self.console = None
        self.qmp = None
        self.start()

    def _memory_arguments(self, machine, memory, backend):
        if backend == "plain":
            return ["-machine", machine]
        objects = {
            "file": f"memory-backend-file,id=ram,size={memory},mem-path={self.ram_path},share=on",
            "private": f"memory-backend-file,id=ram,size={memory},mem-path={self.ram_path},"
                       "share=off",
            "relative": f"memory-backend-file,id=ram,size={memory},"
                        f"mem-path={os.path.relpath(self.ram_path)},share=on",
            "memfd": f"memory-backend-memfd,id=ram,size={memory},share=on",
            "hugetlb": f"memory-backend-memfd,id=ram,size={memory},share=on,hugetlb=on,"
                       "hugetlbsize=2M",
        }
        return ["-machine", f"{machine},memory-backend=ram", "-object", objects[backend]]

    def start(self):
        """Starts QEMU; again after kill()."""
        console, console_peer = socket.socketpair()
        monitor, monitor_peer = socket.socketpair()
        argv = self._argv + [
            "-chardev", f"socket,id=console,fd={console_peer.fileno()}", "-serial",
            "chardev:console",
            "-chardev", f"socket,id=monitor,fd={monitor_peer.fileno()}", "-mon",
            "chardev=monitor,mode=control"]
        self.child = Child(argv, self.lab.log(f"{self.name}-qemu"), uid=self.uid,
                           pass_fds=(console_peer.fileno(), monitor_peer.fileno()))
        self.lab.own(self.child)
        console_peer.close()
        monitor_peer.close()
        monitor.settimeout(60)
        try:
            self.qmp = Qmp(monitor)
        except (OSError, ValueError) as error:
            raise RuntimeError(f"QEMU did not start: {self.child.text()}") from error
        self.console = Console(console, self.lab.log(f"{self.name}-console"))
        self._boots = 0

    @property
    def pid(self):
        return self.child.pid

    def boot(self, timeout=90.0):
        """Waits for the next boot that was not asked for yet; what the guest says about it."""
        self._boots += 1
        return self.console.truth(self._boots, timeout)

    def reset(self):
        self.qmp.execute("system_reset")

    def panic(self):
        self.console.send("echo c >/proc/sysrq-trigger")

    def random_page(self, minimum=0):
        """A page with random bytes inside the guest: (guest-physical address, bytes)."""
        name = f"/run/page{self.console.mark()}"
        words = self.console.run(f"guest-tool page {name} {minimum:#x}").split()
        address, offset = int(words[1], 16), int(words[3])
        text = self.console.run(f"tail -c +{offset + 1} {name} | head -c 4096 | hexdump -v -e "
                                "'1/1 \"%02x\"'; echo")
        return address, bytes.fromhex(text.strip())

    def kill(self):
        """SIGKILL, as a crash of QEMU."""
        self.child.kill()
        self.console.close()
        self.qmp.close()

    def remove_ram(self):
        if os.path.exists(self.ram_path):
            os.unlink(self.ram_path)

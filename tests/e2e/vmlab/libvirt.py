# SPDX-License-Identifier: Apache-2.0
"""A libvirtd of the lab's own, with everything that it keeps in file systems that vanish."""

import glob
import os
import re
import shutil
import subprocess

from .console import parse_truth
from .lab import MS_BIND, _mount
from .process import Child, wait_until

URI = "qemu:///system"
LABELS = "urn:vmsig:labels"

SHARED = {
    "memfd": "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>",
    "file": "<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>",
    "numa": "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
            "<cpu><numa><cell id='0' cpus='0' memory='256' unit='MiB' memAccess='shared'/></numa>"
            "</cpu>",
    "none": "",
}

QEMU_CONF = """
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
"""


class Libvirt:
    """System mode, as on a host: the lab's mount namespace has folders of its own for it."""

    def __init__(self, lab):
        if not shutil.which("libvirtd") or not shutil.which("virsh"):
            raise FileNotFoundError("libvirtd and virsh (libvirt-daemon, libvirt-clients)")
        self.lab = lab
        self._starts = 0
        for folder in ("/run", "/var/lib", "/var/cache", "/var/log", "/etc/libvirt"):
            _mount("vmlibvirt", folder, "tmpfs", 0, "mode=0755")
        with open("/etc/libvirt/qemu.conf", "w", encoding="utf-8") as file:
            file.write(QEMU_CONF + f'memory_backing_dir = "{lab.path("ram")}"\n')
        with open("/etc/libvirt/libvirtd.conf", "w", encoding="utf-8") as file:
            file.write('auth_unix_rw = "none"\nunix_sock_rw_perms = "0700"\n')
        self._add_ids()
        lab.own(self)
        self.start()

    def _add_ids(self):
        """libvirtd does not start without them, and the package that makes them starts it."""
        lines = {"passwd": "libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin",
                 "group": "libvirt-qemu:x:64055:\nkvm:x:64056:"}
        for name, added in lines.items():
            with open(f"/etc/{name}", encoding="utf-8") as file:
                text = file.read()
            for line in added.split("\n"):
                if not re.search(rf"^{line.split(':')[0]}:", text, re.MULTILINE):
                    text += line + "\n"
            path = self.lab.path("tmp", name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(path, 0o644)
            _mount(path, f"/etc/{name}", None, MS_BIND)

    def start(self):
        self._starts += 1
        self.daemon = Child(["libvirtd"], self.lab.log(f"libvirtd-{self._starts}"))
        wait_until("libvirtd answers", lambda: self.virsh("list", check=False) is not None, 60)

    def virsh(self, *arguments, check=True):
        done = subprocess.run(["virsh", "-q", "-c", URI, *arguments], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=60, check=False)
        if done.returncode and check:
            raise RuntimeError(f"virsh {' '.join(arguments)}: {done.stderr}")
        return None if done.returncode else done.stdout

    def define(self, name, memory="memfd", labels="", disk=None):
        """A domain that boots the lab's guest; its console goes to a file. `disk`: of qcow2."""
        disk = disk and (f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
                         f"<source file='{disk}'/><target dev='vda' bus='virtio'/></disk>")
        metadata = f"<metadata><v:labels xmlns:v='{LABELS}'>{labels}</v:labels></metadata>"
        path = self.lab.path("tmp", f"{name}.xml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"""<domain type='qemu'><name>{name}</name>{metadata if labels else ''}
<memory unit='MiB'>256</memory><vcpu>1</vcpu>{SHARED[memory]}
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>{self.lab.guest_file('vmlinuz')}</kernel>
<initrd>{self.lab.initrd()}</initrd><cmdline>{self.lab.guest_cmdline()}</cmdline></os>
<features><acpi/></features>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><serial type='file'>
<source path='{self.console(name)}' append='on'/></serial>{disk or ''}<memballoon model='none'/></devices>
</domain>""")
        self.virsh("define", path)

    def console(self, name):
        return self.lab.log(f"{name}-console")

    def truth(self, name, boot=1, timeout=90):
        """What the guest said at its boot-th boot."""
        def probe():
            if not os.path.exists(self.console(name)):
                return None
            with open(self.console(name), encoding="utf-8", errors="replace") as file:
                text = file.read().replace("\r", "")
            found = re.findall(r"^@@TRUTH BEGIN\n(.*?)^@@TRUTH END\n", text,
                               re.DOTALL | re.MULTILINE)
            return found[boot - 1] if len(found) >= boot else None
        return parse_truth(wait_until(f"{name} has booted", probe, timeout, 0.2).splitlines())

    def kill(self):
        """libvirtd alone: its QEMUs live on."""
        self.daemon.kill()

    def signal(self, signum):
        self.daemon.signal(signum)

    def stop(self):
        """Ends the domains as well, which are nobody's children."""
        self.daemon.stop()
        for path in glob.glob("/run/libvirt/qemu/*.pid"):
            with open(path, encoding="utf-8") as file:
                try:
                    os.kill(int(file.read()), 9)
                except (ProcessLookupError, ValueError):
                    pass

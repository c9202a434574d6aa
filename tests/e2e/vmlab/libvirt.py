# SPDX-License-Identifier: Apache-2.0
"""A libvirtd of the lab's own, with everything that it keeps in file systems that vanish."""

import glob
import os
import re
import shutil
import subprocess

from . import Skip, equal, number
from .console import parse_truth
from .lab import MS_BIND, _mount
from .process import Child, wait_until

URI = "qemu:///system"
EMULATOR = os.environ.get("VMSIG_QEMU", "/usr/bin/qemu-system-x86_64")
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


FOLDERS = ("run", "var/lib", "var/cache", "var/log", "etc/libvirt")


class Libvirt:
    """System mode, as on a host: the lab's mount namespace has folders of its own for it.

    `host`: another host than the first one, which has its folders in the lab, and its libvirtd a
    mount namespace and a name. `memory`: the folder of RAM files.
    """

    def __init__(self, lab, host=None, memory=None):
        for program in ("libvirtd", "virsh"):
            if not shutil.which(program):
                raise Skip(f"not installed: {program} (libvirt-daemon, libvirt-clients)")
        self.lab = lab
        self.host = host
        self.root = lab.path(host) if host else ""
        self.uri = f"qemu+unix:///system?socket={self.root}/run/libvirt/libvirt-sock" if host else URI
        self.pids = f"{self.root}/run/libvirt/qemu"
        self._starts = 0
        for folder in FOLDERS:
            if host:
                os.makedirs(f"{self.root}/{folder}")
            else:
                _mount("vmlibvirt", f"/{folder}", "tmpfs", 0, "mode=0755")
        with open(f"{self.root}/etc/libvirt/qemu.conf", "w", encoding="utf-8") as file:
            file.write(QEMU_CONF + f'memory_backing_dir = "{memory or lab.path("ram")}"\n')
        with open(f"{self.root}/etc/libvirt/libvirtd.conf", "w", encoding="utf-8") as file:
            file.write('auth_unix_rw = "none"\nunix_sock_rw_perms = "0700"\n')
            if host:
                file.write('host_uuid = "00000000-1111-2222-3333-444444444444"\n')
        if not host:
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
        argv = ["libvirtd"]
        if self.host:
            mounts = " && ".join(f"mount --bind {self.root}/{folder} /{folder}" for folder in FOLDERS)
            argv = ["unshare", "--mount", "--uts", "sh", "-c",
                    f"hostname {self.host} && {mounts} && exec libvirtd"]
        self.daemon = Child(argv, self.lab.log(f"libvirtd-{self.host or ''}{self._starts}"))
        wait_until("libvirtd answers", lambda: self.virsh("list", check=False) is not None, 60)

    def virsh(self, *arguments, check=True):
        done = subprocess.run(["virsh", "-q", "-c", self.uri, *arguments], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=60, check=False)
        if done.returncode and check:
            raise RuntimeError(f"virsh {' '.join(arguments)}: {done.stderr}")
        return None if done.returncode else done.stdout

    def define(self, name, memory="memfd", labels="", disk=None, uuid=None):
        """A domain that boots the lab's guest; its console goes to a file. `disk`: of qcow2."""
        disk = disk and (f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
                         f"<source file='{disk}'/><target dev='vda' bus='virtio'/></disk>")
        metadata = f"<metadata><v:labels xmlns:v='{LABELS}'>{labels}</v:labels></metadata>"
        path = self.lab.path("tmp", f"{name}.xml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"""<domain type='qemu'><name>{name}</name>{f"<uuid>{uuid}</uuid>" if uuid else ""}
{metadata if labels else ''}
<memory unit='MiB'>256</memory><vcpu>1</vcpu>{SHARED[memory]}
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>{self.lab.guest_file('vmlinuz')}</kernel>
<initrd>{self.lab.initrd()}</initrd><cmdline>{self.lab.guest_cmdline()}</cmdline></os>
<features><acpi/></features>
<devices><emulator>{EMULATOR}</emulator><serial type='file'>
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
        for path in glob.glob(f"{self.pids}/*.pid"):
            with open(path, encoding="utf-8") as file:
                try:
                    os.kill(int(file.read()), 9)
                except (ProcessLookupError, ValueError):
                    pass


def endpoint(name, **more):
    return {"name": name, "adapter": "libvirt", "libvirt": URI, "domain": name,
            "reprove": "500ms", "retry": "100ms", "retry_max": "500ms", **more}


def discovery(libvirt, **more):
    return {"libvirt": libvirt.uri, "pids": libvirt.pids, "reprove": "500ms", "retry": "100ms",
            "retry_max": "500ms", **more}


def prove(holder, name, truth, epoch):
    """The guest's root is the one that it said itself, and its memory can be read through it."""
    def probe():
        entry = holder.endpoints().get(name)
        return entry and entry["state"] == "ready" and entry["epoch"] >= epoch and \
            number(holder.json("info", name)["kcr3"]) == truth.kcr3
    wait_until(f"{name} is ready with its root", probe, 60, 0.2)
    equal(holder.read_text(name, truth.symbols["linux_banner"], 512).strip(), truth.version,
          "linux_banner")
    return holder.endpoint(name)["epoch"]


def found(holder, *names):
    """Waits until these are the endpoints, and no others."""
    wait_until(f"endpoints {names}", lambda: sorted(holder.endpoints()) == sorted(names), 60, 0.2)

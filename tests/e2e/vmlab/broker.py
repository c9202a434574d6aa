# SPDX-License-Identifier: Apache-2.0
"""vmsigd under test: its configuration, identities, life and log."""

import json
import os
import shutil
import signal
import subprocess

from .process import Child, wait_until


def flow(value):
    """Flow style: JSON is YAML."""
    return json.dumps(value)


class Broker:
    """`endpoints` and `tenants` are the configuration's, as dictionaries; or `served` is the part of
    it that says what is served, as it is written in a file.
    """

    def __init__(self, lab, endpoints, tenants, limits=None, uid=None, start=True,
                 discover=None, served=None):
        self.lab = lab
        self.uid = uid
        self.socket = lab.path("run", "ctx.sock")
        self.write_socket = lab.path("run", "write.sock")
        self.admin_socket = lab.path("run", "admin.sock")
        self.config = lab.path("run", "vmsigd.yaml")
        self.endpoints = list(endpoints)
        self.tenants = list(tenants)
        self.limits = limits
        self.discover = discover
        self.served = served
        self.child = None
        self._starts = 0
        self._make_pki()
        self.write_config()
        if uid is not None:
            for name in ("state", "run"):
                os.chown(lab.path(name), uid, uid)
        if start:
            self.start()

    def _pki(self, *arguments):
        subprocess.run([self.lab.program("vmsigctl"), "pki", *arguments], check=True,
                       stdout=subprocess.DEVNULL, timeout=30)

    def _make_pki(self):
        """ca/ and one folder for each identity, owned by the uid that uses it."""
        if not os.path.exists(self.lab.path("pki", "ca")):
            self._pki("init", self.lab.path("pki", "ca"))
        self.issue("broker/lab", self.uid or 0)
        for tenant in self.tenants:
            for uid in tenant["uids"]:
                self.issue(f"{tenant['role']}/{tenant['name']}", uid)

    def identity(self, name, uid=0):
        return self.lab.path("pki", f"{name.replace('/', '-')}-{uid}")

    def issue(self, name, uid=0):
        folder = self.identity(name, uid)
        if os.path.exists(folder):
            return folder
        role, _, who = name.partition("/")
        self._pki("issue", "--ca", self.lab.path("pki", "ca"), role, who, folder)
        os.chown(folder, uid, uid)
        for entry in os.scandir(folder):
            os.chown(entry.path, uid, uid)
        return folder

    def write_config(self):
        identity = self.identity("broker/lab", self.uid or 0)
        config = {
            "state_dir": self.lab.path("state"),
            "tls": {"ca": f"{identity}/ca.pem", "cert": f"{identity}/cert.pem",
                    "key": f"{identity}/key.pem"},
            "listen": {"ctx": {"path": self.socket, "mode": "0666"},
                       "write": {"path": self.write_socket, "mode": "0666"},
                       "admin": {"path": self.admin_socket, "mode": "0666"}},
            "log": {"level": "info", "format": "json"},
            "tenants": self.tenants,
        }
        if not self.served:
            config["endpoints"] = self.endpoints
        if self.discover:
            config["discover"] = self.discover
        if self.limits:
            config["limits"] = self.limits
        with open(self.config, "w", encoding="utf-8") as file:
            for key, value in config.items():
                file.write(f"{key}: {flow(value)}\n")
            file.write(self.served or "")
        os.chmod(self.config, 0o644)

    def start(self):
        self._starts += 1
        self.child = self.lab.own(Child(
            [self.lab.program("vmsigd"), "-c", self.config],
            self.lab.log(f"vmsigd-{self._starts}"), uid=self.uid))
        wait_until("vmsigd is ready", self._is_ready, 20)

    def _is_ready(self):
        if not self.child.is_alive():
            raise RuntimeError(f"vmsigd ended: {self.child.text()}")
        return any(record.get("msg") == "vmsigd is ready" for record in self.records())

    def records(self):
        """The log of the current process."""
        records = []
        for line in self.child.text().splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                records.append({"msg": line})
        return records

    @property
    def pid(self):
        return self.child.pid

    def stop(self):
        status = self.child.stop()
        if status != 0:
            raise RuntimeError(f"vmsigd ended with {status}: {self.child.text()[-2000:]}")

    def crash(self):
        self.child.signal(signal.SIGKILL)
        self.child.wait()

    def restart(self, crash=False):
        if crash:
            self.crash()
        else:
            self.stop()
        self.start()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def forget_state(self):
        shutil.rmtree(self.lab.path("state"))
        os.mkdir(self.lab.path("state"))

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vmsigd as the service that its units make it, under a real systemd."""

import glob
import os
import subprocess

import vmlab
from vmlab import Broker, Holder, Operator, Sensor, check, equal, number, wait_until
from vmlab.guest import QEMU
from vmlab.lab import SOURCE
from vmlab.systemd import Systemd

UNITS = os.path.join(SOURCE, "deploy", "systemd")
RECIPE = os.path.join(SOURCE, "deploy", "recipes", "vmsig-guest@.service")
WATCHDOG = "WatchdogSec=10s"
VMSIG_UID, GUEST_UID = 64061, 64062
FREE = 0x50000  # Linux keeps the first MiB for firmware
SERVICE = "vmsigd.service"
TIMES = {"reprove": "500ms", "retry": "100ms", "retry_max": "500ms"}


class Inside(Holder):
    """A tenant whose vmsigctl runs where the service does."""

    def __init__(self, systemd, broker, name):
        super().__init__(broker, name)
        self.systemd = systemd

    def argv(self, *arguments):
        return self.systemd.argv(*super().argv(*arguments))


def guest_options(lab):
    # Without KASLR each boot looks like the one before: only the connection that systemd keeps tells.
    return (f"-accel tcg -nodefaults -display none -kernel {lab.guest_file('vmlinuz')} "
            f"-initrd {lab.initrd()} -append \"{lab.guest_cmdline()} nokaslr\"")


class Service:
    """vmsigd and a guest, web1, as services; `endpoints` and `discover` as the configuration has them."""

    def __init__(self, lab, endpoints, discover=None):
        self.broker = Broker(lab, endpoints, [vmlab.tenant(), vmlab.operator_tenant(ttl_max="1h")],
                             uid=VMSIG_UID, start=False, discover=discover)
        self.broker.socket = "/run/vmsig/ctx.sock"
        self.broker.write_socket = "/run/vmsig/write.sock"
        with open(self.broker.config, encoding="utf-8") as file:
            config = file.read()
        for plane in ("ctx", "admin", "write"):
            config = config.replace(lab.path("run", f"{plane}.sock"), f"/run/vmsig/{plane}.sock")
        config = config.replace(lab.path("state"), "/var/lib/vmsig")
        log = lab.log("vmsigd")
        guest = f"MEMORY=256M\nOPTIONS={guest_options(lab)}\n"
        self.systemd = Systemd(
            lab, [*glob.glob(f"{UNITS}/vmsigd*"), *glob.glob(f"{UNITS}/vmsig-keys.*"),
                  f"{UNITS}/run-vmsig-ram.mount", RECIPE],
            changes={SERVICE: f"[Service]\nStandardError=append:{log}\n{WATCHDOG}",
                     "vmsig-guest@.service": f"[Service]\nStandardError=append:{log}\n"},
            files={"vmsig/vmsigd.yaml": config, "vmsig-guests/web1.conf": guest},
            users={"vmsig": VMSIG_UID, "web1": GUEST_UID},
            programs=[lab.program("vmsigd"), lab.program("vmsigctl")])
        self.holder = Inside(self.systemd, self.broker, "sensor/acme")
        self.systemd.run("start", "vmsigd-ctx.socket", "vmsigd-write.socket", "vmsigd-admin.socket",
                         SERVICE)
        equal(self.systemd.run("is-active", SERVICE), "active", "the service")
        self.systemd.run("start", "vmsig-guest@web1.service")
        wait_until("web1 is known", lambda: "web1" in self.holder.endpoints(), 60)
        self.info = self.holder.wait_ready("web1", timeout=120)
        equal(self.holder.endpoint("web1")["guard"], "ro-mount", "the guard")

    def live_on(self, verbs):
        """Neither the sensor's epoch nor the operator's lease ends with the broker."""
        sensor = Sensor(self.holder)
        sensor.wait_context()
        operator = Operator(self.broker, "web1", within=self.systemd.argv)
        operator.must("acquire", 3600000)
        for verb in verbs:
            self.systemd.run(verb, SERVICE)
            wait_until("web1 is known", lambda: "web1" in self.holder.endpoints(), 60)
            equal(self.holder.wait_ready("web1")["epoch"], self.info["epoch"], f"the epoch after {verb}")
            operator.must("idle", 200)
            operator.must("write", hex(FREE), "0123456789abcdef")
        check(not any(event["event"] == "invalidated" for event in sensor.history()),
              f"{sensor.history()}")
        equal(number(self.holder.json("info", "web1")["kcr3"]), number(self.info["kcr3"]), "kcr3")


def until(systemd, path):
    """When a certificate, or a list, ends."""
    kind, option = ("crl", "-nextupdate") if "crl" in path else ("x509", "-enddate")
    return subprocess.run(systemd.argv("openssl", kind, "-in", path, "-noout", option), check=True,
                          capture_output=True, text=True, timeout=60).stdout


def keys_are_renewed(lab, service):
    """The timer's service, once without an authority and once with keys that end soon."""
    systemd, crl, cert = service.systemd, "/etc/vmsig/ca/crl.pem", "/etc/vmsig/broker/cert.pem"

    def pki(*arguments):
        subprocess.run(systemd.argv("vmsigctl", "pki", *arguments), check=True, timeout=60,
                       stdout=subprocess.DEVNULL)

    def reloads():
        with open(lab.log("vmsigd"), encoding="utf-8") as file:
            return file.read().count("configuration reloaded")

    before = reloads()
    systemd.run("start", "vmsig-keys.timer", "vmsig-keys.service")
    equal(systemd.property("vmsig-keys.service", "ConditionResult"), "no", "without an authority")
    pki("init", "/etc/vmsig/ca")
    pki("issue", "--ca", "/etc/vmsig/ca", "--days", "10", "broker", "h", "/etc/vmsig/broker")
    pki("renew", "--ca", "/etc/vmsig/ca", "--crl", "--days", "10")
    subprocess.run(systemd.argv("chown", "-R", "vmsig", "/etc/vmsig/broker"), check=True, timeout=60)
    old = until(systemd, crl), until(systemd, cert)
    systemd.run("start", "vmsig-keys.service")
    check(until(systemd, crl) != old[0] and until(systemd, cert) != old[1], f"renewed: {old}")
    wait_until("the broker has read them", lambda: reloads() > before, 60)
    new = until(systemd, cert)
    systemd.run("start", "vmsig-keys.service")
    equal(until(systemd, cert), new, "a certificate that is not due")


def systemd_service(lab):
    """Started and ready by notify, started anew without a new epoch, and ended by the watchdog."""
    service = Service(lab, [{"name": "web1", "adapter": "qemu", "min_guard": "ro-mount",
                             "qmp": "/run/vmsig-guest-web1/qmp.sock", **TIMES, "writable": True}])
    service.live_on(("restart", "reload", "restart"))
    keys_are_renewed(lab, service)
    # It has nothing to leave, so that nobody can say that the guest was not reset meanwhile.
    service.systemd.run("kill", "--signal=STOP", SERVICE)
    wait_until("the watchdog has ended it",
               lambda: service.systemd.property(SERVICE, "NRestarts") == "1", 90)
    check(service.holder.wait_ready("web1")["epoch"] > service.info["epoch"],
          "the epoch after a broker that was killed")


def systemd_discovered(lab):
    """A guest that nobody has configured, found in a folder of its own, lives on just as well."""
    service = Service(lab, [], discover=[{"qmp": "/run/vmsig-guest-*/qmp.sock", "min_guard": "ro-mount",
                                          **TIMES, "writable": True}])
    service.live_on(("restart", "restart"))
    service.systemd.run("stop", "vmsig-guest@web1.service")
    wait_until("web1 is gone", lambda: not service.holder.endpoints(), 60)


if __name__ == "__main__":
    vmlab.main({"systemd_discovered": systemd_discovered, "systemd_service": systemd_service})

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Guests that nobody has configured: found by their QMP sockets, and by what they are called."""

import vmlab
from vmlab import Broker, Guest, Holder, check, equal, number, wait_until

UUID = "6d1f5c1e-8a52-4b6e-9f0a-0123456789ab"


def found(holder, *names):
    """Waits until these are the endpoints, and no others."""
    wait_until(f"endpoints {names}", lambda: sorted(holder.endpoints()) == sorted(names), 60, 0.2)


def prove(holder, name, truth, above=0):
    """The guest's root is the one that it said itself, and its memory can be read through it."""
    def probe():
        entry = holder.endpoint(name)
        return entry["state"] == "ready" and entry["epoch"] > above and \
            number(holder.json("info", name)["kcr3"]) == truth.kcr3
    wait_until(f"{name} is ready with its root", probe, 60, 0.2)
    equal(holder.read_text(name, truth.symbols["linux_banner"], 512).strip(), truth.version,
          "linux_banner")
    return holder.endpoint(name)["epoch"]


def sockets_discovered(lab):
    """Two QEMUs come and go, one is killed; the policy knows one by its UUID; the broker too."""
    web1 = Guest(lab, "web1", extra=["-uuid", UUID])
    tenants = [vmlab.tenant("all"), vmlab.tenant("one", endpoints=[f"label:uuid={UUID}"])]
    broker = Broker(lab, [], tenants, discover=[
        {"qmp": lab.path("qmp", "*.sock"), "reprove": "500ms", "retry": "100ms",
         "retry_max": "500ms"}])
    everybody, one = Holder(broker, "sensor/all"), Holder(broker, "sensor/one")
    found(everybody, "web1")
    web2 = Guest(lab, "web2")
    found(everybody, "web1", "web2")
    found(one, "web1")
    first = prove(everybody, "web1", web1.boot())
    truth = web2.boot()
    second = prove(everybody, "web2", truth)

    # A new broker asks again, and the guests live on.
    broker.stop()
    broker.start()
    found(everybody, "web1", "web2")
    prove(everybody, "web2", truth, second - 1)

    # What a killed QEMU leaves behind is no endpoint; the next one in its place is.
    web1.kill()
    found(everybody, "web2")
    web1.remove_ram()
    web1.start()
    found(everybody, "web1", "web2")
    check(prove(everybody, "web1", web1.boot(), first) > first, "the epoch outlived its QEMU")

    web2.qmp.execute("quit")
    found(everybody, "web1")
    broker.stop()


if __name__ == "__main__":
    vmlab.main({"sockets_discovered": sockets_discovered})

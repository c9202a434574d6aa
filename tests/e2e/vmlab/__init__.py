# SPDX-License-Identifier: Apache-2.0
"""Scenarios on real guests: a lab, guests, a broker, holders, and what must be so.

Standard library only. A scenario is a function that takes a Lab; `main` runs it.
"""

import argparse
import json
import os
import subprocess
import sys
import traceback

from . import history
from .broker import Broker
from .guest import Guest
from .holder import CtlError, Holder, Sensor, number
from .lab import SOURCE, Lab, build_guest
from .operator import Operator, Wire
from .process import Child, wait_until

decode = json.loads
REPROVE_S = 0.5  # how often the broker looks at a guest
SKIPPED = 77  # what ctest is told with SKIP_RETURN_CODE

__all__ = ["Broker", "Child", "CtlError", "Guest", "Holder", "Lab", "Operator", "SOURCE",
           "Sensor", "Skip", "Wire",
           "become_root", "check", "decode", "equal", "history", "main", "number",
           "operator_tenant", "qemu_endpoint", "tenant", "wait_until"]


class Skip(Exception):
    """The scenario cannot be run here, and why."""


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def equal(got, wanted, what):
    if got != wanted:
        show = hex if isinstance(got, int) and isinstance(wanted, int) else repr
        raise AssertionError(f"{what}: got {show(got)}, wanted {show(wanted)}")


def qemu_endpoint(lab, name="vm1", **more):
    return {"name": name, "adapter": "qemu", "qmp": lab.path("qmp", f"{name}.sock"),
            "reprove": f"{int(REPROVE_S * 1000)}ms", "retry": "100ms", "retry_max": "500ms", **more}


def tenant(name="acme", uids=(0,), endpoints=("*",), role="sensor"):
    return {"name": name, "role": role, "uids": list(uids), "endpoints": list(endpoints)}


def operator_tenant(name="ops", uids=(0,), **rule):
    return {**tenant(name, uids, role="operator"), "write": [{"endpoints": ["*"], **rule}]}


def become_root():
    """Starts the program again with sudo when it has to; a skip when that is not possible."""
    if os.getuid() == 0:
        return
    sudo = ["sudo", "-n", "-E", sys.executable, "-B"]
    if subprocess.run(["sudo", "-n", "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        print("SKIP: needs root: mount namespaces, several uids; sudo asks for a password")
        sys.exit(SKIPPED)
    os.execvp("sudo", sudo + sys.argv)


def contain(build):
    """Starts the program again such that nothing of it outlives it: tests/support/contain.c."""
    if "VMSIG_TEST_CONTAINED" not in os.environ:
        program = os.path.join(os.path.abspath(build), "tests", "bin", "contain")
        os.execv(program, [program, sys.executable, "-B", *sys.argv])


def main(scenarios):
    """Runs the scenario that the command line names; --list: prints their names."""
    if sys.argv[1:] == ["--list"]:
        print("\n".join(scenarios))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True, help="build folder")
    parser.add_argument("scenario", choices=sorted(scenarios))
    options = parser.parse_args()
    build_guest(options.build)
    contain(options.build)
    become_root()
    lab = Lab(options.build)
    try:
        scenarios[options.scenario](lab)
    except Skip as reason:
        print(f"SKIP: {reason}")
        sys.exit(SKIPPED)
    except BaseException:
        for name, text in lab.logs():
            print(f"---- {name}\n{text[-6000:]}", file=sys.stderr)
        traceback.print_exc()
        sys.exit(1)
    finally:
        lab.close()
    print(f"{options.scenario}: ok")

# SPDX-License-Identifier: Apache-2.0
"""A guest that starts and ends processes all the time, while it is looked at."""

import json

from vmlab import CtlError, check, wait_until

PER_SECOND, SECONDS, LOOKS = 60, 20, 8
TORN, GONE = 11, 3  # exit statuses


def _list(holder, *words):
    """What is found; of a list that was torn whenever it was walked, as far as it goes."""
    try:
        return holder.json(*words)
    except CtlError as error:
        if error.status == GONE:
            return []
        if error.status != TORN:
            raise
        return json.loads(error.stderr[error.stderr.index("["):])


def look(guest, holder):
    """Every process that is listed was there, and all that is asked of it has an end."""
    before = {process["pid"] for process in holder.json("ps", "vm1")}
    parent = int(guest.console.run(
        f"guest-tool forks {PER_SECOND} {SECONDS} /run/forked >/run/forks 2>&1 & echo $!"))
    wait_until("it forks", lambda: guest.console.run("cat /run/forked 2>/dev/null; true").strip())
    listed, looks = {}, 0
    while looks < LOOKS or not guest.console.run("cat /run/forks").strip():
        processes = _list(holder, "ps", "vm1")
        listed |= {process["pid"]: process["name"] for process in processes}
        newest = max(process["pid"] for process in processes)
        for words in (("threads", "vm1", newest), ("maps", "vm1", newest),
                      ("files", "vm1", newest)):
            _list(holder, *words)
        looks += 1
    made = {int(word) for word in guest.console.run("cat /run/forked").split()}
    invented = {pid for pid, name in listed.items() if name == "guest-tool"} - made - before
    check(invented <= {parent}, f"processes that never were: {invented - {parent}}")
    check(len(made) > LOOKS, f"{len(made)} processes were made")
    check(before & set(listed), "none of those that were there all the time")
    # Whoever reads the list in the guest is a process, too.
    names = {"guest-tool", "init", "cat", "sh"}
    odd = {pid: name for pid, name in listed.items()
           if pid not in before and name not in names and not name.startswith("kworker")}
    check(not odd, f"processes of another name: {odd}")

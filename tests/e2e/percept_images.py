# SPDX-License-Identifier: Apache-2.0
"""Programs and libraries of a guest's process, against what readelf says of their files."""

import re
import subprocess

from vmlab import CtlError, check, equal, number

RUN = ("(LD_LIBRARY_PATH=/lib loaded >/run/loaded.txt 2>&1 &) ; "
       "until grep -q loaded /run/loaded.txt; do sleep 1; done; cat /run/loaded.txt")
PROGRAM = "/bin/loaded"


def _readelf(option, path):
    return subprocess.run(["readelf", option, "-W", path], capture_output=True, text=True,
                          check=True).stdout


class File:
    """What readelf says of one; addresses are as the file has them."""

    def __init__(self, path):
        self.exports, self.imports = set(), set()
        for line in _readelf("--dyn-syms", path).splitlines():
            words = line.split()
            if len(words) < 8 or not words[0].rstrip(":").isdigit():
                continue
            name = words[7].split("@")[0]
            if words[6] == "UND":
                self.imports.add(name)
            elif words[4] in ("GLOBAL", "WEAK", "UNIQUE") and words[5] in ("DEFAULT", "PROTECTED"):
                fixed = words[3] == "TLS" or words[6] == "ABS"
                self.exports.add((name, int(words[1], 16), fixed))
        self.needed = re.findall(r"\(NEEDED\).*\[(.*)\]", _readelf("-d", path))
        self.sections = {(match[1], int(match[2], 16)) for match in re.finditer(
            r"^ *\[ *\d+\] (\S+) +\S+ +([0-9a-f]{16}) .* (?:[WXMSILG]*A[A-Z]*) +\d+ +\d+ +\d+$",
            _readelf("-S", path), re.M)}


def _names(holder, command, pid, path):
    return {(entry["name"], number(entry["addr"]))
            for entry in holder.json(command, "vm1", "--pid", pid, path)}


def _compare(holder, pid, image, path):
    file, bias = File(path), number(image["bias"])
    where = f"{image['path']} at {image['base']}"
    equal(_names(holder, "exports", pid, image["path"]),
          {(name, value if fixed else value + bias) for name, value, fixed in file.exports},
          f"exports of {where}")
    equal({name for name, _ in _names(holder, "imports", pid, image["path"])}, file.imports,
          f"imports of {where}")
    equal(_names(holder, "sections", pid, image["path"]),
          {(name, value + bias) for name, value in file.sections}, f"sections of {where}")
    check(len(file.sections) > 5, f"readelf says that {path} has sections {file.sections}")
    equal(image["needed"], file.needed, f"what {where} needs")


def _maps(guest, pid):
    """Where the first page of each file is mapped."""
    starts = {}
    for line in guest.console.run(f"cat /proc/{pid}/maps").splitlines():
        words = line.split()
        if len(words) == 6 and (words[5].startswith("/") or words[5] == "[vdso]"):
            starts.setdefault(words[5], int(words[0].split("-")[0], 16))
    return starts


def start(guest):
    equal(guest.console.run(RUN).split(), ["loaded", "8"], "what the program says")


def compare(lab, guest, holder):
    pid = guest.console.run("pidof loaded").strip()
    images = {image["path"]: image for image in holder.json("modules", "vm1", "--pid", pid)}
    equal({path: number(image["base"]) for path, image in images.items()}, _maps(guest, pid),
          "programs and libraries")
    equal([path for path, image in images.items() if image["program"]], [PROGRAM], "the program")
    check(all(image["resident"] for image in images.values()), f"not resident: {images}")
    files = {**lab.libraries(), PROGRAM: lab.path("tests", "loaded")}
    equal(set(files) | {"[vdso]"}, set(images), "files")
    for path, file in files.items():
        _compare(holder, pid, images[path], file)
    # Where imports lead is where the library has them.
    library = "/lib/libloaded_library.so"
    leads = dict(_names(holder, "imports", pid, PROGRAM))
    offered = dict(_names(holder, "exports", pid, library))
    equal(leads["library_offers"], offered["library_offers"], "where an import leads")
    check("library_hidden" not in offered and offered["library_of_thread"] < 0x1000,
          f"what the library offers: {offered}")
    vdso = dict(_names(holder, "exports", pid, "[vdso]"))
    start = number(images["[vdso]"]["base"])
    check(start < vdso["__vdso_gettimeofday"] < start + images["[vdso]"]["size"], f"the vdso: {vdso}")
    # By the last part of its path, and as tables.
    table = holder.ctl("imports", "vm1", "--pid", pid).decode()
    check("library_offers" in table and f"0x{leads['library_offers']:016x}" in table, table)
    check("library_data" in holder.ctl("exports", "vm1", "--pid", pid, "libloaded_library.so").decode(),
          "a library by the last part of its path")
    check(library in holder.ctl("modules", "vm1", "--pid", pid).decode(), "modules as a table")
    for words, status in ((("exports", "vm1", "--pid", pid, "libnothing.so"), 3),
                          (("imports", "vm1"), 2), (("sections", "vm1"), 2),
                          (("modules", "vm1", "--pid", "x"), 2), (("imports", "vm1", "--pid", "2"), 3)):
        try:
            holder.ctl(*words)
        except CtlError as error:
            equal(error.status, status, f"exit status of {words}")
        else:
            raise AssertionError(f"{words} did not fail")
    # One that is linked statically takes nothing from anybody.
    equal(holder.json("imports", "vm1", "--pid", "1"), [], "imports of a static program")

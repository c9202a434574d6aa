#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the C code of the extension module: what libvmsig's public headers declare, as cffi takes it.

    build_ffi.py --compiler CC -o FILE INCLUDE-FOLDER...

The headers themselves are the declarations; the compiler that builds the module compares every
structure, so that nothing of them is written down twice.
"""

import argparse
import pathlib
import re
import subprocess
import tempfile

import cffi

HEADERS = ("vmsig.h", "vmsig_mem.h", "vmsig_os.h", "vmsig_write.h")
SYSTEM_HEADERS = ("stdbool.h", "stddef.h", "stdint.h", "sys/types.h")
# What cffi has no word for; `int...` leaves their size to the compiler.
TYPES = "typedef int... uid_t;\ntypedef int... pid_t;\n"
CALLBACKS = """
extern "Python" int vmsig_py_range(void *, const vmsig_range *);
extern "Python" int vmsig_py_match(void *, uint64_t);
extern "Python" void vmsig_py_written(void *, const vmsig_write_result *);
"""


def preprocess(compiler, folders, *options):
    """The headers without what they include of the system."""
    with tempfile.TemporaryDirectory() as empty:
        for header in SYSTEM_HEADERS:
            path = pathlib.Path(empty, header)
            path.parent.mkdir(exist_ok=True)
            path.touch()
        includes = "".join(f"#include <vmsig/{header}>\n" for header in HEADERS)
        return subprocess.run(
            [compiler, "-E", "-P", "-nostdinc", f"-I{empty}", *(f"-I{f}" for f in folders),
             "-D__attribute__(x)=", "-D_Static_assert(...)=", "-D_Alignas(x)=", *options,
             "-x", "c", "-"],
            input=includes, capture_output=True, check=True, text=True).stdout


def without_bodies(text):
    """Inline functions are declared; the compiler has their bodies from the headers."""
    result, depth, inline = [], 0, False
    for line in text.splitlines():
        if depth == 0 and line.startswith("static inline"):
            inline = True
            line = line.removeprefix("static inline ")
        if not inline:
            result.append(line)
            continue
        if depth == 0 and "{" in line:
            result.append(line[:line.index("{")] + ";")
        elif depth == 0:
            result.append(line if line.strip() != "{" else ";")
        depth += line.count("{") - line.count("}")
        if depth == 0 and "}" in line:
            inline = False
    return "\n".join(line for line in result if line.strip() != ";" or inline or line == ";")


def constants(text):
    """The macros that are numbers."""
    pattern = re.compile(r"#define (VMSIG_\w+) \(?(?:0x[0-9a-fA-F]+|\d+)u?l*\b")
    names = (match[1] for match in map(pattern.match, text.splitlines()) if match)
    return "".join(f"#define {name} ...\n" for name in names)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compiler", required=True)
    parser.add_argument("-o", dest="output", required=True)
    parser.add_argument("folders", nargs="+")
    arguments = parser.parse_args()

    declarations = without_bodies(preprocess(arguments.compiler, arguments.folders))
    macros = constants(preprocess(arguments.compiler, arguments.folders, "-dM"))
    ffi = cffi.FFI()
    ffi.cdef(TYPES + declarations.replace("_Bool", "bool") + "\n" + macros + CALLBACKS)
    ffi.set_source("vmsig._vmsig", "#include <sys/types.h>\n" + "".join(
        f"#include <vmsig/{header}>\n" for header in HEADERS), py_limited_api=True)
    ffi.emit_c_code(arguments.output)


if __name__ == "__main__":
    main()

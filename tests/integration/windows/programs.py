# SPDX-License-Identifier: Apache-2.0
"""PE files by a real compiler and a real linker (clang, lld-link): a kernel whose accessors return the
members of a layout, drivers, libraries and programs. loaded() puts one into memory as a loader does."""
import os
import struct
import subprocess

CLANG = ["clang", "--target=x86_64-pc-windows-msvc", "-O2", "-ffreestanding", "-Wno-everything", "-c"]
LINK = ["lld-link", "/nodefaultlib", "/noentry", "/incremental:no", "/dll"]

KERNEL = """
typedef unsigned long long u64;
typedef struct { void *next, *previous; } list;
#define X __declspec(dllexport)
X char *PsInitialSystemProcess = (char *)1;
/* Behind what is exported: the heads of two lists, as in every kernel, without a name. */
X struct { unsigned build, pad; list processes, modules; } NtBuildNumber = {0xf0000000u | %(build)d};
X char KeData[4096 * 3] = {1};
__attribute__((section("PAGE"))) X int MmPaged(int n) { return n * 3; }
X int KeUsed(int n) { return n + 1; }
X u64 PsGetProcessId(char *p) { return *(u64 *)(p + %(pid)d); }
X u64 PsGetProcessInheritedFromUniqueProcessId(char *p) { return *(u64 *)(p + %(parent)d); }
X char *PsGetProcessImageFileName(char *p) { return p + %(image_name)d; }
X u64 PsGetProcessPeb(char *p) { return *(u64 *)(p + %(peb)d); }
X u64 PsGetProcessSectionBaseAddress(char *p) { return *(u64 *)(p + %(section_base)d); }
X u64 PsGetProcessCreateTimeQuadPart(char *p) { return *(u64 *)(p + %(created)d); }
X int PsGetProcessExitStatus(char *p) { return *(int *)(p + %(exit_status)d); }
X u64 PsGetProcessWow64Process(char *p) { return *(u64 *)(p + %(wow64)d); }
X u64 PsGetThreadTeb(char *p) { return *(u64 *)(p + %(teb)d); }
%(extra)s
"""
# How functions are reached that others stand for, and such as do more than to return a member.
PROCESS = "X u64 PsGetThreadProcess(char *p) { return *(u64 *)(p + %(thread_process)d); }\n"
DIRECT = PROCESS + "X u64 PsGetThreadId(char *p) { return *(u64 *)(p + %(thread_id)d); }"
SILENT = """X u64 PsGetThreadProcess(char *p) { return *p ? *(u64 *)(p + %(thread_process)d) : 0; }
X u64 PsGetThreadId(char *p) { return *p ? *(u64 *)(p + %(thread_id)d) : 0; }"""
JUMP = PROCESS + """static u64 thread_id(char *p) __attribute__((noinline, used));
static u64 thread_id(char *p) { return *(u64 *)(p + %(thread_id)d); }
X __attribute__((naked)) u64 PsGetThreadId(char *p) { __asm__("endbr64\\n jmp thread_id"); }"""

DRIVER = """
__declspec(dllimport) int KeUsed(int);
__declspec(dllimport) extern struct { unsigned build; } NtBuildNumber;
__declspec(dllexport) int DriverEntry(int n) { return KeUsed(n) + NtBuildNumber.build; }
"""

NTDLL = """
#define X __declspec(dllexport)
X int NtClose(int h) { return h; }
X int NtOpen(int h) { return h + 1; }
int RtlNumbered(int h) { return h + 2; }
int RtlAlsoNumbered(int h) { return h + 3; }
X char RtlData[6000] = {1};
"""
KERNEL32 = """
__declspec(dllimport) int NtClose(int);
__declspec(dllimport) int RtlNumbered(int);
__declspec(dllexport) int CloseHandle(int h) { return NtClose(h); }
__declspec(dllexport) int Numbered(int h) { return RtlNumbered(h); }
__declspec(dllexport) int table[3000] = {1};
"""
PROGRAM = """
__declspec(dllimport) int CloseHandle(int);
__declspec(dllimport) int NtOpen(int);
int start(int n) { return CloseHandle(NtOpen(n)); }
int (*volatile reference)(int) = start;
"""


def build(folder, name, source, *options, anew=False):
    """folder/name and folder/name.lib; what was built there before is taken, unless anew."""
    path = os.path.join(folder, name)
    if os.path.exists(path) and not anew:
        with open(path, "rb") as file:
            return file.read()
    with open(path + ".c", "w", encoding="ascii") as file:
        file.write(source)
    subprocess.run([*CLANG, "-o", path + ".obj", path + ".c"], check=True)
    subprocess.run([*LINK, "/out:" + path, "/implib:" + path + ".lib", path + ".obj", *options],
                   check=True, stdout=subprocess.DEVNULL)
    with open(path, "rb") as file:
        return file.read()


def libraries(folder):
    """Name -> bytes of what processes have; all of them have each other's addresses to come."""
    def lib(name):
        return os.path.join(folder, name + ".lib")
    made = {
        "ntdll.dll": build(folder, "ntdll.dll", NTDLL, "/subsystem:console,6.1",
                           "/export:RtlNumbered,@8,NONAME", "/export:RtlAlsoNumbered,@12,NONAME",
                           "/export:RtlBeep=kernel32.Beep"),
    }
    made["kernel32.dll"] = build(folder, "kernel32.dll", KERNEL32, lib("ntdll.dll"),
                                 "/subsystem:console,6.1")
    made["program.exe"] = build(folder, "program.exe", PROGRAM, lib("ntdll.dll"), lib("kernel32.dll"),
                                "/subsystem:console,6.1", "/entry:start", "/include:reference")
    return made


def accessors(layout):
    if layout.name.endswith("-silent"):
        return SILENT
    return JUMP if layout.build >= 17134 else DIRECT


def kernel(folder, layout):
    """ntoskrnl.exe and a driver for it, of one layout."""
    numbers = layout._asdict() | {"thread_id": layout.client + 8}
    numbers["extra"] = accessors(layout) % numbers
    if layout.build >= 10240:
        # From 10 on the head of the list of modules is exported.
        numbers["extra"] += "\n__asm__(\".globl PsLoadedModuleList\\nPsLoadedModuleList = " \
            "NtBuildNumber + 24\\n.section .drectve,\\\"yn\\\"\\n.ascii \\\" " \
            "/EXPORT:PsLoadedModuleList,DATA\\\"\");"
    version = "10.0" if layout.build >= 10240 else {7601: "6.1", 9200: "6.2", 9600: "6.3"}[layout.build]
    made = {"ntoskrnl.exe": build(folder, "ntoskrnl.exe", KERNEL % numbers,
                                  "/subsystem:native," + version, "/base:0x140000000", anew=True)}
    for name in ("driver.sys", "rootkit.sys"):
        made[name] = build(folder, name, DRIVER, os.path.join(folder, "ntoskrnl.exe.lib"),
                           "/subsystem:native,6.1")
    return made


class Pe:
    """Headers of a PE file, and what a loader makes of it."""

    def __init__(self, data):
        self.data = data
        self.nt = struct.unpack_from("<I", data, 60)[0]
        count, optional_size = struct.unpack_from("<H12xH", data, self.nt + 6)
        optional = self.nt + 24
        self.image_base, = struct.unpack_from("<Q", data, optional + 24)
        self.size, self.headers = struct.unpack_from("<II", data, optional + 56)
        self.directories = [struct.unpack_from("<II", data, optional + 112 + 8 * i) for i in range(16)]
        self.sections = []
        for i in range(count):
            at = optional + optional_size + 40 * i
            name = data[at:at + 8].rstrip(b"\0").decode()
            self.sections.append((name, *struct.unpack_from("<4I12xI", data, at + 8)))

    def exports(self):
        """Name or #number -> address in the image; forwarders are left out."""
        at, size = self.directories[0]
        image = self.mapped()
        if not at:
            return {}
        base, functions, names, functions_at, names_at, ordinals_at = struct.unpack_from(
            "<6I", image, at + 16)
        found = {}
        for i in range(functions):
            address, = struct.unpack_from("<I", image, functions_at + 4 * i)
            if address and not at <= address < at + size:
                found["#%d" % (base + i)] = address
        for i in range(names):
            name_at, = struct.unpack_from("<I", image, names_at + 4 * i)
            ordinal, = struct.unpack_from("<H", image, ordinals_at + 2 * i)
            name = bytes(image[name_at:image.index(0, name_at)]).decode()
            if "#%d" % (base + ordinal) in found:
                found[name] = found["#%d" % (base + ordinal)]
        return found

    def mapped(self):
        image = bytearray(self.size)
        image[:self.headers] = self.data[:self.headers]
        for _, size, at, file_size, file_at, _ in self.sections:
            n = min(file_size, size)
            image[at:at + n] = self.data[file_at:file_at + n]
        return image

    def loaded(self, base, addresses):
        """As it lies at `base`; addresses: (library, name) -> address of what it uses."""
        image = self.mapped()
        struct.pack_into("<Q", image, self.nt + 24 + 24, base)
        at, size = self.directories[5]
        end = at + size
        while at < end:
            page, length = struct.unpack_from("<II", image, at)
            for i in range((length - 8) // 2):
                word, = struct.unpack_from("<H", image, at + 8 + 2 * i)
                if word >> 12 == 10:
                    where = page + (word & 0xfff)
                    value, = struct.unpack_from("<Q", image, where)
                    struct.pack_into("<Q", image, where, value - self.image_base + base)
            at += length
        self.bind(image, addresses)
        return image

    def bind(self, image, addresses):
        at = self.directories[1][0]
        while at and struct.unpack_from("<I", image, at + 12)[0]:
            lookup, _, _, name, address = struct.unpack_from("<5I", image, at)
            library = bytes(image[name:image.index(0, name)]).decode()
            i = 0
            while struct.unpack_from("<Q", image, lookup + i)[0]:
                value, = struct.unpack_from("<Q", image, lookup + i)
                if value >> 63:
                    wanted = "#%d" % (value & 0xffff)
                else:
                    wanted = bytes(image[value + 2:image.index(0, value + 2)]).decode()
                struct.pack_into("<Q", image, address + i, addresses[library, wanted])
                i += 8
            at += 20

    def protection(self, at):
        """(writable, executable) of the page at `at`."""
        for _, size, where, _, _, flags in self.sections:
            if where <= at < where + size:
                return bool(flags & 0x80000000), bool(flags & 0x20000000)
        return False, False

"""Runs a command that may run programs of 64-bit ARM, with nothing changed on this machine. For root.

In: a command line. Out: its exit code. The command gets a user and a mount namespace of its own, in which the kernel's
binfmt_misc hands ARM programs to qemu-aarch64-static. Where the machine hands them over already, it runs as it is.
"""

import ctypes
import os
import sys
from pathlib import Path

INTERPRETER = "/usr/bin/qemu-aarch64-static"
# What an ELF file for 64-bit ARM begins with, and which bits of it count (Documentation/admin-guide/binfmt-misc.rst):
# class, byte order and version, then the type (executable or shared) and the machine.
MAGIC = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00"
MASK = b"\xff" * 7 + b"\x00" + b"\xff" * 8 + b"\xfe\xff\xff\xff"
# F: the interpreter is opened now, so that it is found from within a chroot. O, C, P: the program's rights and name.
FLAGS = "OCPF"

CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """A function of the C library that returns 0, or an error."""
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def registered() -> bool:
    entries = Path("/proc/sys/fs/binfmt_misc")
    return any("aarch64" in entry.name for entry in entries.iterdir()) if entries.is_dir() else False


def escaped(octets: bytes) -> str:
    return "".join(f"\\x{octet:02x}" for octet in octets)


def register() -> None:
    mounted = Path("/proc/sys/fs/binfmt_misc")
    call("mount", b"binfmt_misc", str(mounted).encode(), b"binfmt_misc", 0, None)
    line = f":fcam-aarch64:M::{escaped(MAGIC)}:{escaped(MASK)}:{INTERPRETER}:{FLAGS}"
    (mounted / "register").write_text(line)


def enter() -> None:
    """Leaves this process in the namespaces, as their root; a child from before writes the maps, from outside."""
    ready, done = os.pipe(), os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.read(ready[0], 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{parent}/{name}").write_text("0 0 65536\n")
        os.write(done[1], b".")
        os._exit(0)
    call("unshare", CLONE_NEWUSER | CLONE_NEWNS)
    os.write(ready[1], b".")
    os.read(done[0], 1)
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise OSError("the namespace's users could not be set")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit("foreign.py COMMAND ...")
    if not registered():
        try:
            enter()
            register()
        except OSError as error:
            sys.exit(f"no programs of 64-bit ARM on this machine: {error} (as root, with qemu-user-static?)")
    os.execvp(sys.argv[1], sys.argv[1:])


main()

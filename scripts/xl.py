"""Fetch what a Xen toolstack domain is made of, and pack it as an initrd; nothing is installed.

Usage: xl.py DIRECTORY, after kernels.py. Leaves `dom0.cpio` there: busybox, xl, xenstored, xenconsoled,
their libraries and the kernel modules that they need, and scripts/xl/init. Tests append their guests.
"""

from __future__ import annotations

import json
import lzma
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from debian_packages import download, fail, output, unpack
from newc import DEVICES, Entry, archive, folders, tree

PROGRAMS = ("xl", "xenstored", "xenconsoled", "xen-init-dom0", "libxl-save-helper")
MODULES = ("xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-privcmd", "xenfs")  #: in the order of insmod
APPLETS = (
    "sh basename cat cut echo grep insmod ln ls mkdir mount poweroff sed sleep tail"  # what init uses
).split()
# Not in any NEEDED: glibc opens it when a thread is cancelled, which xl does; it aborts without.
OPENED = ("libgcc_s.so.1",)


def library_packages(package: str) -> list[str]:
    """The libraries that `package` depends on, theirs, and so on."""
    found: list[str] = []
    queue = [package]
    while queue:
        for line in output("apt-cache", "depends", "--important", queue.pop()).splitlines():
            kind, _, name = line.strip().partition(": ")
            if kind == "Depends" and re.match(r"(lib|zlib)", name) and name not in found:
                found.append(name)
                queue.append(name)
    return sorted(found)


def needed(binary: Path) -> list[str]:
    """The shared objects that an ELF file names in DT_NEEDED."""
    return re.findall(r"\(NEEDED\).*\[(.+)\]", output("readelf", "--dynamic", "--wide", str(binary)))


def libraries(programs: list[Path], pool: Path) -> dict[str, Path]:
    """Everything that `programs` load, from the unpacked packages alone, by soname."""
    there = {path.name: path for path in sorted(pool.rglob("*.so*"))}
    found: dict[str, Path] = {}
    queue = [*OPENED, *(name for program in programs for name in needed(program))]
    while queue:
        name = queue.pop()
        if name in found:
            continue
        if name not in there:
            fail(f"no fetched package has {name}")
        found[name] = there[name]
        queue += needed(there[name])
    return found


def lay_out(root: Path, pool: Path, modules: Path) -> None:
    """Put dom0's files below `root`."""
    binaries = next((pool / "usr/lib").glob("xen-*/bin"))
    into = root / binaries.relative_to(pool)
    into.mkdir(parents=True)
    programs = [Path(shutil.copy(binaries / name, into / name)) for name in PROGRAMS]
    (root / "lib64").mkdir()
    for name, path in libraries(programs, pool).items():
        shutil.copy(path, root / "lib64" / name)
    (root / "lib").mkdir()
    (root / "lib/x86_64-linux-gnu").symlink_to("/lib64")
    for number, name in enumerate(MODULES):
        (module,) = modules.rglob(f"{name}.ko*")
        data = module.read_bytes()
        (root / "modules").mkdir(exist_ok=True)
        plain = lzma.decompress(data) if module.suffix == ".xz" else data
        (root / f"modules/{number}-{name}.ko").write_bytes(plain)
    (root / "bin").mkdir()
    busybox = next(path for path in (pool / "bin/busybox", pool / "usr/bin/busybox") if path.exists())
    shutil.copy(busybox, root / "bin/busybox")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/xen").mkdir(parents=True)
    # dom0 has a fixed share of memory here; ballooning would only take time.
    (root / "etc/xen/xl.conf").write_text('autoballoon="off"\nclaim_mode=0\n')
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "init").write_bytes(Path(__file__).with_name("xl").joinpath("init").read_bytes())
    (root / "init").chmod(0o755)


def main(directory: str) -> int:
    """Make `dom0.cpio` and say what is in it."""
    root = Path(directory).resolve()
    try:
        listing = json.loads((root / "kernels.json").read_text())
    except FileNotFoundError:
        fail(f"{root}/kernels.json is missing: make kernels")
        raise
    utils = listing["xen"]["package"].replace("hypervisor", "utils").removesuffix("-amd64")
    debs = Path(os.environ.get("BOOTBUILD_DEBS") or root / "debs").resolve()
    packages = [download(name, debs) for name in [utils, "busybox-static", *library_packages(utils)]]
    pool = root / "xl-packages"
    for package in packages:
        unpack(package, pool)
        print(f"{package.name} {package.version}")
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        lay_out(files, pool, root / "generic/package")
        entries = tree(files)
        empty = [Entry(name, 0o40755) for name in ("proc", "sys", "run", "tmp", "var")]
        data = archive([*DEVICES, *folders(["proc/xen"]), *empty, *entries])
    (root / "dom0.cpio").write_bytes(data)
    print(f"dom0.cpio ({len(data)} bytes)")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: xl.py DIRECTORY")
    sys.exit(main(sys.argv[1]))

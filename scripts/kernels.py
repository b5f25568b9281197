"""Fetch the real kernels that tests boot, three of Debian's and Xen; nothing is installed.

Usage: kernels.py DIRECTORY. Leaves there, for each kernel, vmlinuz, vmlinux and System.map, `xen/xen`,
`initrd.cpio` and `kernels.json`, which tests/conftest.py reads. What lies there already is kept.
BOOTBUILD_DEBS names a folder of `.deb` files to take instead of downloading.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

from debian_packages import Package, depended_on, download, fail, newest, output, unpack
from newc import DEVICES, Entry, archive

LINUX = {  #: our name → (Debian's metapackage, what it stands for)
    "cloud": ("linux-image-cloud-amd64", r"linux-image-[\w.+-]+-cloud-amd64"),
    "generic": ("linux-image-amd64", r"linux-image-[\w.+-]+-amd64"),
    "newer": ("linux-image-6.12-cloud-amd64", r"linux-image-6\.12[\w.+-]+-cloud-amd64"),
}
XEN = r"xen-hypervisor-[0-9.]+-amd64"


def unlz4(payload: bytes, size: int) -> bytes:
    """Undo LZ4's legacy frame: magic, then blocks of up to 8 MiB, each after its compressed size."""
    import lz4.block

    result, at = bytearray(), 4
    while len(result) < size:
        (length,) = struct.unpack_from("<I", payload, at)
        result += lz4.block.decompress(payload[at + 4 : at + 4 + length], uncompressed_size=8 << 20)
        at += 4 + length
    return bytes(result)


def unzstd(payload: bytes) -> bytes:
    """Undo zstd's frame, whose header need not tell the size."""
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj().decompress(payload)


def vmlinux(bzimage: bytes) -> bytes:
    """The ELF inside a bzImage: boot.rst, payload_offset and payload_length (protocol 2.08).

    Done here by hand, since what tests compare bootbuild's own reader with must not come from that reader.
    """
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    start = ((bzimage[0x1F1] or 4) + 1) * 512 + offset
    payload = bzimage[start : start + length]
    if payload.startswith(b"\x1f\x8b"):
        elf = zlib.decompressobj(wbits=31).decompress(payload)
    elif payload.startswith(b"\xfd7zXZ\0"):
        elf = lzma.LZMADecompressor().decompress(payload)
    elif payload.startswith(b"\x28\xb5\x2f\xfd"):
        elf = unzstd(payload)
    elif payload.startswith(b"\x02\x21\x4c\x18"):
        elf = unlz4(payload, struct.unpack_from("<I", payload, length - 4)[0])
    else:
        fail(f"a kernel is compressed in a way that this script does not know ({payload[:6].hex()})")
        raise AssertionError
    if not elf.startswith(b"\x7fELF"):
        fail("a kernel's payload is no ELF")
    return elf


def system_map(kernel: Path, into: Path) -> None:
    """Derive the symbols of a stripped kernel from its kallsyms (Debian's own System.map is a stub)."""
    finder = Path(sys.executable).with_name("kallsyms-finder")
    done = subprocess.run([finder, kernel], capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if len(line.split()) == 3]
    if done.returncode or not any(line.endswith(" startup_64") for line in lines):
        fail(f"kallsyms-finder found no symbols in {kernel}:\n{done.stderr[-2000:]}")
    into.write_text("\n".join(lines) + "\n")


def digest(path: Path) -> str:
    """SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def described(package: Package, release: str, root: Path, **files: Path) -> dict[str, Any]:
    """One entry of kernels.json; paths relative to `root`."""
    return {
        "package": package.name,
        "version": package.version,
        "release": release,
        "files": {name: str(path.relative_to(root)) for name, path in files.items()},
        "sha256": {name: digest(path) for name, path in files.items()},
    }


def linux(name: str, debs: Path, root: Path) -> dict[str, Any]:
    """Unpack one Linux; its modules are dropped unless a toolstack domain needs them (see xl.py)."""
    package = download(depended_on(*LINUX[name]), debs)
    folder = root / name
    tree = unpack(package, folder / "package")
    image = next((tree / "boot").glob("vmlinuz-*"))
    release = image.name.removeprefix("vmlinuz-")
    bzimage, elf, symbols = (folder / f"{kind}-{release}" for kind in ("vmlinuz", "vmlinux", "System.map"))
    shutil.copyfile(image, bzimage)
    elf.write_bytes(vmlinux(bzimage.read_bytes()))
    system_map(elf, symbols)
    return described(package, release, root, vmlinuz=bzimage, vmlinux=elf, system_map=symbols)


def xen(debs: Path, root: Path) -> dict[str, Any]:
    """Unpack the hypervisor; QEMU's -kernel wants it uncompressed."""
    package = download(newest(XEN), debs)
    folder = root / "xen"
    tree = unpack(package, folder / "package")
    packed = next(path for path in (tree / "boot").glob("xen-*.gz"))
    binary = folder / "xen"
    binary.write_bytes(gzip.decompress(packed.read_bytes()))
    return described(package, packed.name.removeprefix("xen-").removesuffix(".gz"), root, xen=binary)


def initrd(root: Path) -> Path:
    """Compile /init and pack it; the same toolchain gives the same bytes."""
    source, program, image = Path(__file__).parent / "initrd/init.c", root / "init", root / "initrd.cpio"
    flags = "-Os -s -static -nostdlib -nostartfiles -ffreestanding -fno-stack-protector -fcf-protection=none"
    output("gcc", *flags.split(), "-Wl,--build-id=none", "-mno-sse", "-o", str(program), str(source))
    image.write_bytes(archive([*DEVICES, Entry("init", 0o100755, program.read_bytes())]))
    program.unlink()
    return image


def intact(root: Path) -> dict[str, dict[str, Any]]:
    """The entries of kernels.json, by our names, whose files are there with the bytes that it names."""
    try:
        found = json.loads((root / "kernels.json").read_text())
        entries: dict[str, dict[str, Any]] = {**found["linux"], "xen": found["xen"]}
    except (OSError, ValueError, KeyError):
        return {}

    def is_whole(entry: dict[str, Any]) -> bool:
        try:
            return all(digest(root / path) == entry["sha256"][name] for name, path in entry["files"].items())
        except (OSError, KeyError):
            return False

    return {name: entry for name, entry in entries.items() if is_whole(entry)}


def main(directory: str) -> int:
    """Make the folder complete and print what is in it."""
    root = Path(directory).resolve()
    root.mkdir(parents=True, exist_ok=True)
    debs = Path(os.environ.get("BOOTBUILD_DEBS") or root / "debs").resolve()
    there = intact(root)
    found = {
        "linux": {name: there.get(name) or linux(name, debs, root) for name in LINUX},
        "xen": there.get("xen") or xen(debs, root),
    }
    if there.keys() != {*LINUX, "xen"}:
        temporary = root / "kernels.json.new"
        temporary.write_text(json.dumps(found, indent=2) + "\n")
        temporary.replace(root / "kernels.json")
    image = initrd(root)
    for entry in (*found["linux"].values(), found["xen"]):
        print(f"{entry['package']} {entry['version']}")
        for name, path in entry["files"].items():
            print(f"  {entry['sha256'][name]}  {path}")
    print(f"initrd\n  {digest(image)}  {image.name} ({image.stat().st_size} bytes)")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: kernels.py DIRECTORY")
    sys.exit(main(sys.argv[1]))

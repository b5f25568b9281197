"""What target efi makes starts for real, by OVMF: hello of both widths, beside boot services and without.

By QEMU's -kernel, from a disk, by systemd-boot's entry and GRUB's chainloader; and so does Debian's kernel,
by its own stub and by our application, to user space.
"""

from __future__ import annotations

import json
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest

import efi_paths
import ovmf as firmware
import pe_edits
from bootbuild.errors import RefusedError
from debian_kernels import Kernels
from efi_paths import Chainloader, Shim, Started, SystemdBoot
from grub import Grub
from oracle import Transcript, run_until
from ovmf import Ovmf
from recipe_text import build_text
from tiny_linux import without_efi_stub

CMDLINE = "greeting=hello and=more"
MODULE = bytes(range(256)) * 33 + b"odd"
ARGUMENTS = "of=its own"


@dataclass(frozen=True)
class Makes:
    """Hello as an application, with what is to be said of the target."""

    payloads: dict[int, Path]
    module: Path
    folder: Path
    made: dict[tuple[int, str], Path]

    def __call__(self, width: int = 64, target: str = "", arguments: str = ARGUMENTS) -> Path:
        if (width, target) not in self.made:
            self.made[width, target] = self._make(width, target, arguments)
        return self.made[width, target]

    def _make(self, width: int, target: str, arguments: str) -> Path:
        text = f"""
            api = 1
            [payload]
            path = {json.dumps(str(self.payloads[width]))}
            startup = "startup_{width}"
            width = {width}
            cmdline = "{CMDLINE}"
            [[payload.modules]]
            path = {json.dumps(str(self.module))}
            cmdline = "{arguments}"
            [targets.efi]
            profiles = ["ovmf"]
            {target}
            [expect]
            console = "hello: done"
        """
        folder = self.folder / str(len(self.made))
        folder.mkdir()
        record = build_text(text, folder)
        assert [v.outcome.name for image in record.images for v in image.verdicts] == ["BOOTED"]
        return Path(record.images[0].path)


@pytest.fixture(scope="module")
def makes(hello64: Path, hello32: Path, tmp_path_factory: pytest.TempPathFactory) -> Makes:
    folder = tmp_path_factory.mktemp("efi")
    module = folder / "module.bin"
    module.write_bytes(MODULE)
    return Makes({64: hello64, 32: hello32}, module, folder, {})


def ran(command: list[str], *fail: str) -> str:
    transcript = run_until(command, ["hello: done"], fail=[*firmware.FAILS, *fail], timeout=60)
    assert transcript.reached, str(transcript)
    return transcript.text


def found(text: str, cmdline: str, arguments: str = ARGUMENTS) -> None:
    """What hello prints, with all that was handed to it."""
    assert "hello from efi on tcg" in text
    assert f"cmdline {cmdline}\n" in text
    behind = f" cmdline {arguments}" if arguments else ""
    assert f" size {len(MODULE)} crc32 {zlib.crc32(MODULE):#x}{behind}\n" in text
    assert "rsdp 0x0\n" not in text


@pytest.mark.parametrize("width", [64, 32])
def test_hello_is_started_by_ovmf(makes: Makes, ovmf: Ovmf, qemu: Path, tmp_path: Path, width: int) -> None:
    found(ran(ovmf.by_kernel(qemu, makes(width), tmp_path)), CMDLINE)


def test_hello_is_started_from_a_disk(makes: Makes, ovmf: Ovmf, qemu: Path, tmp_path: Path) -> None:
    found(ran(ovmf.from_disk(qemu, makes(), tmp_path)), CMDLINE)


def test_shim_starts_hello(makes: Makes, ovmf: Ovmf, qemu: Path, shim: bytes, tmp_path: Path) -> None:
    """The sections that it reads are those of the image that shim has put into its own place."""
    command = Shim(shim).command(ovmf, qemu, Started(makes()), tmp_path)
    found(ran(command), CMDLINE)


def test_systemd_boot_brings_command_line_and_initrd(
    makes: Makes, ovmf: Ovmf, qemu: Path, systemd_boot: Path, tmp_path: Path
) -> None:
    """It names the initrd in the options as well, for kernels that know only that."""
    started = Started(makes(target="embed = false", arguments=""), "from=the entry", makes.module)
    command = SystemdBoot(systemd_boot).command(ovmf, qemu, started, tmp_path)
    found(ran(command, *efi_paths.FAILS), "initrd=\\EFI\\acme\\initrd from=the entry", arguments="")


def test_grubs_chainloader_starts_hello(
    makes: Makes, ovmf: Ovmf, qemu: Path, grub_efi: Grub, tmp_path: Path
) -> None:
    """What stands behind the file's name takes the place of the image's own command line."""
    started = Started(makes(), "from=grub.cfg and=more")
    command = Chainloader(grub_efi).command(ovmf, qemu, started, tmp_path)
    found(ran(command, *efi_paths.FAILS), started.cmdline)


def test_the_shell_begins_the_options_with_the_programs_name(
    makes: Makes, ovmf: Ovmf, qemu: Path, tmp_path: Path
) -> None:
    """OVMF starts it where there is nothing else, and it a script."""
    script = {"startup.nsh": "fs0:\n\\acme\\hello.efi\n"}
    command = ovmf.from_disk(qemu, makes(), tmp_path, name="acme/hello.efi", files=script)
    transcript = run_until(command, ["hello: done"], timeout=60)
    assert transcript.reached, str(transcript)
    found(transcript.text, CMDLINE)


def test_an_application_above_4_gib_starts_32_bit_code(
    makes: Makes, ovmf: Ovmf, qemu: Path, tmp_path: Path
) -> None:
    """OVMF must load it at its ImageBase: it says that it has no relocations. The module must come down."""
    moved = pe_edits.fields(characteristics=0x23, base=5 << 30)
    image = tmp_path / "high.efi"
    image.write_bytes(moved(makes(32).read_bytes()))
    found(ran(ovmf.by_kernel(qemu, image, tmp_path, memory=6144)), CMDLINE)


def test_boot_services_live_on_in_ovmf(makes: Makes, ovmf: Ovmf, qemu: Path, tmp_path: Path) -> None:
    image = makes(target="boot_services = true")
    assert "\nflags 0x1\n" in ran(ovmf.by_kernel(qemu, image, tmp_path))


def test_a_command_line_comes_with_the_boot_option(
    makes: Makes, ovmf: Ovmf, qemu: Path, tmp_path: Path
) -> None:
    """Without Secure Boot it takes the place of the image's own. An initrd QEMU gives to bzImages only."""
    found(ran(ovmf.by_kernel(qemu, makes(), tmp_path, cmdline="from=outside")), "from=outside")


def test_the_post_stub_sets_ovmfs_virtual_map(
    mapping_kernel: Path, ovmf: Ovmf, qemu: Path, tmp_path: Path
) -> None:
    record = build_text(
        f"""
        api = 1
        [payload]
        path = {json.dumps(str(mapping_kernel))}
        startup = "startup_64"
        [targets.efi]
        profiles = ["ovmf"]
        """,
        tmp_path,
    )
    command = ovmf.by_kernel(qemu, Path(record.images[0].path), tmp_path)
    transcript = run_until(
        command, ["virtual map: done"], fail=[*firmware.FAILS, "virtual map: wrong.*"], timeout=60
    )
    assert transcript.reached, str(transcript)


OPTIONS = "console=ttyS0"


@dataclass(frozen=True)
class Linux:
    """Debian's cloud kernel, and the same without its EFI stub, as files that a recipe names."""

    kernels: Kernels
    stubless: Path

    def __call__(self, payload: Path, entry: str, folder: Path) -> Path:
        """The application; with the initrd in it, if it is ours. Raises RefusedError."""
        modules = f"[[payload.modules]]\npath = {json.dumps(str(self.kernels.initrd))}"
        (folder / "recipe").mkdir()
        record = build_text(
            f"""
            api = 1
            [payload]
            path = {json.dumps(str(payload))}
            symbols = {json.dumps(str(self.kernels.cloud.system_map))}
            guest = "linux"
            startup = "startup_64"
            cmdline = "{OPTIONS}"
            {modules if entry == "insert" else ""}
            [targets.efi]
            entry = "{entry}"
            profiles = ["ovmf"]
            """,
            folder / "recipe",
        )
        assert [v.outcome.name for image in record.images for v in image.verdicts] == ["BOOTED"]
        return Path(record.images[0].path)

    def ours(self, folder: Path) -> Path:
        return self(self.stubless, "insert", folder)

    def native(self, folder: Path) -> Path:
        return self(self.kernels.cloud.vmlinuz, "native", folder)


@pytest.fixture(scope="module")
def linux(kernels: Kernels, tmp_path_factory: pytest.TempPathFactory) -> Linux:
    stubless = tmp_path_factory.mktemp("linux") / "stubless"
    stubless.write_bytes(without_efi_stub(kernels.cloud.vmlinuz.read_bytes()))
    return Linux(kernels, stubless)


def up(command: list[str]) -> str:
    """User space is reached; what was printed."""
    fail = [*firmware.FAILS, *efi_paths.FAILS, "Kernel panic"]
    transcript: Transcript = run_until(command, ["bootbuild-initrd up"], fail=fail, timeout=120)
    assert transcript.reached, str(transcript)
    return transcript.text


def test_a_linux_without_an_efi_stub_gets_to_user_space(
    linux: Linux, ovmf: Ovmf, qemu: Path, tmp_path: Path
) -> None:
    """It has the system table, and gives the runtime services their virtual addresses."""
    said = up(ovmf.from_disk(qemu, linux.ours(tmp_path), tmp_path, memory=1024))
    assert "efi: EFI v2.70 by EDK II" in said
    assert "SMBIOS 2.8 present" in said
    assert "Registered efivars operations" in said
    assert "efifb" not in said


def test_and_draws_on_the_screen(linux: Linux, ovmf: Ovmf, qemu: Path, tmp_path: Path) -> None:
    screen = ["-device", "VGA"]
    said = up(ovmf.from_disk(qemu, linux.ours(tmp_path), tmp_path, memory=1024, options=screen))
    assert "efifb: framebuffer at 0xc0000000, using 4000k, total 4000k" in said
    assert "efifb: mode is 1280x800x32, linelength=5120, pages=1" in said
    assert "efifb: Truecolor: size=8:8:8:8, shift=24:16:8:0" in said


def test_which_is_no_application_itself(linux: Linux, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        linux(linux.stubless, "native", tmp_path)
    assert [problem.rule.id for problem in caught.value.problems] == ["BB-L501"]


def test_and_by_grubs_chainloader(
    linux: Linux, ovmf: Ovmf, qemu: Path, grub_efi: Grub, tmp_path: Path
) -> None:
    up(Chainloader(grub_efi).command(ovmf, qemu, Started(linux.ours(tmp_path)), tmp_path, memory=1024))


def test_debians_kernel_gets_to_user_space_by_its_own_stub(
    linux: Linux, ovmf: Ovmf, qemu: Path, tmp_path: Path
) -> None:
    image, initrd = linux.native(tmp_path), linux.kernels.initrd
    assert image.read_bytes() == linux.kernels.cloud.vmlinuz.read_bytes()
    up(ovmf.by_kernel(qemu, image, tmp_path, cmdline=OPTIONS, initrd=initrd, memory=1024))


def test_and_by_systemd_boot(
    linux: Linux, ovmf: Ovmf, qemu: Path, systemd_boot: Path, tmp_path: Path
) -> None:
    started = Started(linux.native(tmp_path), OPTIONS, linux.kernels.initrd)
    up(SystemdBoot(systemd_boot).command(ovmf, qemu, started, tmp_path, memory=1024))


def test_and_by_grubs_chainloader_which_has_no_initrd_to_give(
    linux: Linux, ovmf: Ovmf, qemu: Path, grub_efi: Grub, tmp_path: Path
) -> None:
    """Its stub reads the file that the options name from the disk that it came from."""
    started = Started(linux.native(tmp_path), f"{OPTIONS} initrd=/initrd")
    command = Chainloader(grub_efi).command(ovmf, qemu, started, tmp_path, memory=1024)
    shutil.copyfile(linux.kernels.initrd, tmp_path / "disk/initrd")
    up(command)

"""`bootbuild boot IMAGE`: what is to be reached, by whom, and what it prints."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny_guest
from bootbuild.errors import ExitCode
from bootbuild.host import Host
from debian_kernels import Kernels

Bootbuild = Callable[..., subprocess.CompletedProcess[str]]

IMAGE = "out/hello64-pvh.elf"
BOTH = ("--as", "pvh@qemu", "--as", "pvh@xen-domu")
RUN = (
    *("target", "profile", "outcome", "stop", "entered", "level", "unpacked", "placed", "instructions"),
    *("seconds", "console", "handover", "findings", "traces"),
)
COM1_K = bytes.fromhex("66baf803 b04b ee faf4")


def runs(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    report = json.loads(done.stdout)
    assert list(report) == ["schema", "image", "runs"]
    assert report["schema"] == "bootbuild/boot/1"
    found: list[dict[str, Any]] = report["runs"]
    return found


def test_a_profile_is_booted(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild("boot", IMAGE, "--as", "pvh@qemu")
    assert re.sub(r" +[0-9,]+  startup", "  N  startup", done.stdout) == (
        "RESULT  IMAGE                PROFILE    INSTRS  REACHED\n"
        "BOOTED  out/hello64-pvh.elf  pvh@qemu  N  startup_64\n"
        "\n"
        "oracle: pvh@qemu 7.2\n"
    )
    assert done.stderr == "bootbuild: booting out/hello64-pvh.elf as pvh@qemu\n"
    assert done.returncode == ExitCode.OK


def test_a_bzimage_is_booted_as_it_is_or_by_its_vmlinux(bootbuild: Bootbuild, hello: Path) -> None:
    image = "out/hello64-linux.bzimage"
    recipe = (hello / "hello.toml").read_text().replace("[targets.pvh]", "[targets.linux]")
    (hello / "linux.toml").write_text(recipe)
    assert bootbuild("linux.toml", "-q", "--set", 'targets.linux.profiles=["qemu-16bit"]').returncode == 0
    done = bootbuild("boot", image, "--as", "linux@qemu-16bit", "--as", "pvh@qemu", "--until", "startup_64")
    assert done.stderr == (
        f"bootbuild: booting {image} as linux@qemu-16bit\nbootbuild: booting {image} (vmlinux) as pvh@qemu\n"
    )


def test_a_target_stands_for_all_its_profiles(bootbuild: Bootbuild, hello: Path) -> None:
    of_target = runs(bootbuild("boot", IMAGE, "--as", "pvh", "--json"))
    everyone = [f"{run['target']}@{run['profile']}" for run in of_target]
    assert everyone == list(Host.discover().profiles_of("pvh"))
    named = bootbuild("boot", IMAGE, "--as", "pvh@xen-domu", "--as", "pvh@qemu", "--as", "pvh", "--json")
    first = ["pvh@xen-domu", "pvh@qemu"]
    assert [f"{run['target']}@{run['profile']}" for run in runs(named)] == [
        *first,
        *(name for name in everyone if name not in first),
    ]


def test_json_has_the_documented_keys_and_no_other(bootbuild: Bootbuild, hello: Path) -> None:
    (run,) = runs(bootbuild("boot", IMAGE, "--as", "pvh@qemu", "--json"))
    assert tuple(run) == RUN
    assert run["outcome"] == "BOOTED"
    assert run["stop"] == {
        "kind": "checkpoint",
        "ip": "0xffffffff80100000",
        "detail": "reached startup",
        "checkpoint": "startup",
        "rule": None,
        "address": None,
        "physical": None,
    }
    assert run["entered"] == "0x200000"
    assert run["instructions"] > 0 and run["seconds"] > 0
    assert (run["console"], run["findings"]) == ("", [])
    assert run["handover"]["boot_type"] == "pvh" and run["handover"]["hypervisor_type"] == "tcg"


def test_traces_are_the_digests_of_the_three_runs(bootbuild: Bootbuild, hello: Path) -> None:
    (first,) = runs(bootbuild("boot", IMAGE, "--as", "pvh@qemu", "--json"))
    (again,) = runs(bootbuild("boot", IMAGE, "--as", "pvh@qemu", "--json"))
    assert len(first["traces"]) == 3 and len(set(first["traces"])) == 1
    assert re.fullmatch("[0-9a-f]{64}", first["traces"][0])
    assert again["traces"] == first["traces"]
    (other,) = runs(bootbuild("boot", IMAGE, "--as", "pvh@qemu", "--json", "--cmdline", "x"))
    assert other["traces"][0] != first["traces"][0]


def test_what_was_not_run_is_null(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild("boot", "hello64.elf", "--as", "pvh@qemu", "--until", "startup_64", "--json")
    (run,) = runs(done)
    assert done.returncode == ExitCode.FAILED
    assert [finding["rule"] for finding in run["findings"]] == ["BB-L104"]
    assert tuple(run) == RUN
    nothing = ("stop", "entered", "level", "unpacked", "placed", "instructions", "seconds", "console")
    assert run["handover"] is None
    assert [run[key] for key in nothing] == [None] * len(nothing)
    assert run["traces"] == [None, None, None]


def test_a_guest_that_fails_is_not_run_again(bootbuild: Bootbuild, tmp_path: Path) -> None:
    (tmp_path / "dead.elf").write_bytes(tiny_guest.guest(first=b"\xfa\xf4"))  # cli; hlt
    done = bootbuild("boot", "dead.elf", "--as", "pvh@qemu", "--until", hex(tiny_guest.STARTUP), "--json")
    (run,) = runs(done)
    assert (done.returncode, run["outcome"], run["stop"]["kind"]) == (ExitCode.FAILED, "FAILED", "halted")
    assert run["traces"][0] is not None and run["traces"][1:] == [None, None]


def test_trace_adds_blocks_and_events(bootbuild: Bootbuild, hello: Path) -> None:
    (run,) = runs(bootbuild("boot", IMAGE, "--as", "pvh@qemu", "--json", "--trace"))
    assert list(run) == [*RUN, "blocks", "startup_blocks", "events"]
    assert run["blocks"][0][0] == run["entered"]
    assert 0 < run["startup_blocks"] <= len(run["blocks"])
    shown = bootbuild("boot", IMAGE, "--as", "pvh@qemu", "--trace").stdout
    assert f"\ntrace in pvh@qemu\n  {int(run['entered'], 16):#018x}  " in shown
    assert shown.count("\n  0x") == len(run["blocks"])


def test_cmdline_and_module_reach_the_guest(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild(
        "boot", IMAGE, "--as", "pvh@qemu", "--json", "--cmdline", "a=b c", "--module", "module.txt"
    )
    (run,) = runs(done)
    assert (done.returncode, run["outcome"]) == (ExitCode.OK, "BOOTED")
    assert run["handover"]["cmdline"] == "a=b c"
    assert [module["size"] for module in run["handover"]["modules"]] == [
        (hello / "module.txt").stat().st_size
    ]


def test_a_module_with_a_command_line_is_refused_where_none_is_passed(
    bootbuild: Bootbuild, hello: Path
) -> None:
    for modules in (["--module", "module.txt=quiet"], ["--module", "module.txt", "--module", "hello.toml"]):
        done = bootbuild("boot", IMAGE, *BOTH, "--json", *modules)
        assert done.returncode == ExitCode.FAILED
        assert [[f["rule"] for f in run["findings"]] for run in runs(done)] == [["BB-L004"], ["BB-L004"]]


def test_until_a_symbol_or_an_address(bootbuild: Bootbuild, hello: Path) -> None:
    symbol = bootbuild("boot", IMAGE, "--as", "pvh@qemu", "--until", "startup_64")
    linked = bootbuild("boot", IMAGE, "--as", "pvh@qemu", "--until", "0xffffffff80100000")
    physical = bootbuild("boot", IMAGE, "--as", "pvh@qemu", "--until", "0x100000")
    assert [done.returncode for done in (symbol, linked, physical)] == [ExitCode.OK] * 3
    assert "  startup_64\n" in symbol.stdout
    assert "  0xffffffff80100000\n" in linked.stdout
    assert "  0x100000\n" in physical.stdout


def test_until_a_place_behind_the_startup_path(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild("boot", IMAGE, "--as", "pvh@qemu", "--until", "hello", "--json")
    (run,) = runs(done)
    assert (done.returncode, run["findings"], run["handover"]) == (ExitCode.OK, [], None)
    asked = bootbuild("boot", IMAGE, "--as", "pvh@qemu", "--until", "hello", "--guest", "native", "--json")
    assert {finding["rule"] for finding in runs(asked)[0]["findings"]} == {"BB-H003"}


def test_until_a_text_on_the_console(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild("boot", IMAGE, *BOTH, "--until", "console:hello: done")
    assert done.returncode == ExitCode.OK, done.stdout
    assert done.stdout.count("  startup_64, console 'hello: done'\n") == 2
    assert "\nconsole in pvh@qemu\n  | " in done.stdout
    never = bootbuild("boot", IMAGE, "--as", "pvh@qemu", "--until", "console:no such text")
    assert never.returncode == ExitCode.FAILED
    assert "  BB-B023: 'no such text' was not printed" in never.stdout


def test_an_image_that_does_not_name_its_startup_path_can_be_held_to_its_console(
    bootbuild: Bootbuild, tmp_path: Path
) -> None:
    (tmp_path / "any.elf").write_bytes(tiny_guest.guest(startup=COM1_K))
    done = bootbuild("boot", "any.elf", "--as", "pvh@qemu", "--until", "console:K")
    assert done.returncode == ExitCode.OK, done.stdout
    assert "  entry, console 'K'\n" in done.stdout
    never = bootbuild("boot", "any.elf", "--as", "pvh@qemu", "--until", "console:L")
    assert never.returncode == ExitCode.FAILED
    assert "  BB-B023: 'L' was not printed" in never.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], ExitCode.USAGE, "Missing option '--as'."),
        (["--as", "pvh@qemu", "--memory", "lots"], ExitCode.USAGE, "not a size"),
        (["--as", "pvh@qemu", "--budget", "0"], ExitCode.USAGE, "0 is not in the range"),
        (["--as", "pvh@qemu", "--timeout", "nan"], ExitCode.USAGE, "'nan' is not a number."),
        (["--as", "pvh@qem"], ExitCode.PLUGIN, "(BB-P001); did you mean 'pvh@qemu'?"),
        (["--as", "pvj"], ExitCode.PLUGIN, "(BB-P001); did you mean 'pvh'?"),
        (["--as", "pvh", "--guest", "nativ"], ExitCode.PLUGIN, "(BB-P001); did you mean 'native'?"),
        (["--as", "pvh", "--until", "startup"], ExitCode.INPUT, "no symbol 'startup' (BB-E080)"),
        (["--as", "pvh", "--until", "5"], ExitCode.INPUT, "(BB-E081)"),
        (
            ["--as", "pvh", "--module", "absent"],
            ExitCode.INPUT,
            "absent: no such file or directory (BB-E031)",
        ),
        (["--as", "pvh", "--symbols", "module.txt"], ExitCode.INPUT, "module.txt"),
        (["--as", "pvh", "--until", "console:"], ExitCode.USAGE, "'console:' without a text."),
        (
            ["--as", "efi", "--until", "console:x", "--level", "stub"],
            ExitCode.USAGE,
            "a boot to a text goes beyond every level.",
        ),
    ],
)
def test_what_cannot_be_booted_is_one_line(
    bootbuild: Bootbuild, hello: Path, arguments: list[str], code: ExitCode, said: str
) -> None:
    done = bootbuild("boot", IMAGE, *arguments, *(["-q"] if arguments else []))
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr.splitlines()[-1]
    if code is not ExitCode.USAGE:
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (
            "module.txt",
            "module.txt: not a kernel: neither ELF nor bzImage; it begins with 'A module'",
        ),
        ("out", "out: a directory (BB-E031)"),
        ("absent", "absent: no such file or directory (BB-E031)"),
        (
            "hello64.elf",
            "hello64.elf: the image does not say where its startup path is, and has no entry for pvh",
        ),
    ],
)
def test_an_image_that_is_none_is_4(bootbuild: Bootbuild, hello: Path, image: str, said: str) -> None:
    done = bootbuild("boot", image, "--as", "pvh@qemu", "-q")
    assert (done.returncode, done.stdout) == (ExitCode.INPUT, "")
    assert done.stderr.startswith(f"bootbuild: error: {said}")


@pytest.mark.parametrize(
    ("target", "rules"),
    [("multiboot2", ["BB-L135", "BB-L135"]), ("multiboot1", ["BB-L135", "BB-L104"])],
)
def test_a_file_without_an_entry_is_refused_by_its_loaders(
    bootbuild: Bootbuild, hello: Path, target: str, rules: list[str]
) -> None:
    done = bootbuild("boot", "hello64.elf", "--as", target, "--until", "console:hello", "--json")
    assert done.returncode == ExitCode.FAILED
    assert [found["rule"] for run in runs(done) for found in run["findings"]] == rules


@pytest.mark.parametrize("memory", ["64K", "4095M", "1T", "3000001"])
def test_memory_that_the_machine_cannot_have_is_refused(
    bootbuild: Bootbuild, hello: Path, memory: str
) -> None:
    done = bootbuild("boot", IMAGE, *BOTH, "--memory", memory, "--json")
    assert done.returncode == ExitCode.FAILED
    assert [[f["rule"] for f in run["findings"]] for run in runs(done)] == [["BB-L003"], ["BB-L003"]]


def test_a_linux_kernel_is_booted_to_its_entry(bootbuild: Bootbuild, kernels: Kernels) -> None:
    for image in (kernels.cloud.vmlinux, kernels.cloud.vmlinuz):
        done = bootbuild("boot", image, "--as", "pvh@qemu", "--json", "--cmdline", "quiet")
        (run,) = runs(done)
        assert (done.returncode, run["outcome"]) == (ExitCode.OK, "BOOTED"), done.stdout
        assert run["stop"]["ip"] == "0x1000000"
        assert run["handover"]["cmdline"] == "quiet"


def test_a_linux_kernel_is_booted_to_a_symbol_of_its_system_map(
    bootbuild: Bootbuild, kernels: Kernels
) -> None:
    done = bootbuild(
        "boot", kernels.cloud.vmlinuz, "--as", "pvh@qemu",
        "--until", "x86_64_start_kernel", "--symbols", kernels.cloud.system_map,
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    assert "  x86_64_start_kernel\n" in done.stdout

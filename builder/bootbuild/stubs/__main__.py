"""`python -m bootbuild.stubs`: build the stubs of a folder, or check them; say where the headers are."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bootbuild.errors import BootbuildError, ExitCode
from bootbuild.stubs.build import build_folder
from bootbuild.stubs.sources import check_folder, include_directory


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bootbuild.stubs", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="assemble every stub that FOLDER/stubs.toml names")
    build.add_argument("folder", type=Path, nargs="+", metavar="FOLDER")
    check = commands.add_parser("check", help="whether each blob is that of its sources; needs no compiler")
    check.add_argument("folder", type=Path, nargs="+", metavar="FOLDER")
    commands.add_parser("include", help="print the folder of bootbuild's headers, for -I")
    options = parser.parse_args(arguments)
    if options.command == "include":
        sys.stdout.write(f"{include_directory()}\n")
        return ExitCode.OK
    told = _checked if options.command == "check" else _built
    code = ExitCode.OK
    for folder in options.folder:
        try:
            for line in told(folder):
                sys.stdout.write(f"{line}\n")
        except BootbuildError as error:
            for problem in error.problems:
                sys.stderr.write(f"bootbuild.stubs: error: {problem}\n")
            code = error.exit_code
        except OSError as error:
            sys.stderr.write(f"bootbuild.stubs: error: {error}\n")
            code = ExitCode.OUTPUT
    return code


def _built(folder: Path) -> list[str]:
    return [
        f"{folder / blob.name}: {len(blob.text)} bytes of text, {blob.bss_size} of NOBITS"
        for blob in build_folder(folder)
    ]


def _checked(folder: Path) -> list[str]:
    return [f"{folder / name}: is that of its sources" for name in check_folder(folder)]


if __name__ == "__main__":
    sys.exit(main())

"""`python -m bootbuild.stubs`: build the stubs of a folder; say where the headers are."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bootbuild.errors import BootbuildError, ExitCode
from bootbuild.stubs.build import build_folder, include_directory


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bootbuild.stubs", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="assemble every stub that FOLDER/stubs.toml names")
    build.add_argument("folder", type=Path, nargs="+", metavar="FOLDER")
    commands.add_parser("include", help="print the folder of bootbuild's headers, for -I")
    options = parser.parse_args(arguments)
    if options.command == "include":
        sys.stdout.write(f"{include_directory()}\n")
        return ExitCode.OK
    try:
        for folder in options.folder:
            for blob in build_folder(folder):
                sizes = f"{len(blob.text)} bytes of text, {blob.bss_size} of NOBITS"
                sys.stdout.write(f"{folder / blob.name}: {sizes}\n")
    except BootbuildError as error:
        for problem in error.problems:
            sys.stderr.write(f"bootbuild.stubs: error: {problem}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"bootbuild.stubs: error: {error}\n")
        return ExitCode.OUTPUT
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())

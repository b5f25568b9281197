"""Loader model `toymon`: whether the monitor takes a file, decided without running anything."""

from __future__ import annotations

from collections.abc import Sequence

from bootbuild.api import Content, Evidence, InputError, LoaderVerdict, read_elf
from bootbuild_toymon.monitor import NO_ENTRY, TOO_LOW, VERSION, read_header


class Toymon:
    """toymon 1, given a file by name."""

    name = "toymon"
    version = "1"
    evidence = Evidence.INFERRED  # a model of a real loader has SOURCE, or ORACLE if a test runs the loader
    source = "README.md of bootbuild-toymon"
    rules = (NO_ENTRY, VERSION, TOO_LOW)

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        try:
            header = read_header(read_elf(content, "the image"))
        except InputError as error:
            first = error.problems[0]
            return [LoaderVerdict("toymon", "refuse", rule=first.rule.id, message=first.message)]
        return [LoaderVerdict("toymon", "accept", entry=header.entry)]

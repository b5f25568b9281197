"""What a recipe names is only ever read: an image that would take an input's place is refused."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from building_site import Site, digest, refused

MakeSite = Callable[..., Site]
Place = Callable[[Site], tuple[str, ...]]  #: puts an input where the image will be; arguments that name it


def a_module(site: Site) -> tuple[str, ...]:
    (site.out / site.image).write_bytes(b"an initrd")
    return ("--module", f"out/{site.image}")


def a_symbol_table(site: Site) -> tuple[str, ...]:
    (site.out / site.image).write_text("0000000000100000 T startup_64\n")
    return ("--set", f'payload.symbols="out/{site.image}"')


def a_link_to_the_kernel(site: Site) -> tuple[str, ...]:
    (site.out / site.image).symlink_to("../kernel.elf")
    return ()


def a_link_to_the_recipe(site: Site) -> tuple[str, ...]:
    (site.out / site.image).symlink_to("../kernel.toml")
    return ()


def another_name_of_the_kernel(site: Site) -> tuple[str, ...]:
    os.link(site.folder / "kernel.elf", site.out / site.image)
    return ()


@pytest.mark.parametrize(
    "place",
    [a_module, a_symbol_table, a_link_to_the_kernel, a_link_to_the_recipe, another_name_of_the_kernel],
    ids=lambda place: place.__name__.replace("_", " "),
)
def test_no_image_takes_the_place_of_an_input(
    place: Callable[[Site], tuple[str, ...]], site: MakeSite
) -> None:
    here = site()
    here.out.mkdir()
    arguments = place(here)
    before = (here.state(), digest(here.out / here.image), here.left())
    refused(here.run(*arguments), "out/kernel-pvh.elf: is the input ")
    refused(here.run(*arguments), "(BB-W093); name another folder with -o")
    assert (here.state(), digest(here.out / here.image), here.left()) == before
    assert here.run(*arguments, "-o", "elsewhere").returncode == 0

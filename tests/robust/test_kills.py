"""kill -9 at any moment of a build leaves an image whole or not there, and no input touched."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from building_site import Site, digest
from debian_kernels import Kernels

MIB = 1 << 20
KEPT = ".bootbuild"  #: the folder of the kept record, hidden beside the images

Moment = Callable[[Site, float], bool]  #: whether it has come; given the seconds since the start


def after(seconds: float) -> Moment:
    def come(site: Site, passed: float) -> bool:
        return passed >= seconds

    return come


def written(size: int) -> Moment:
    """That much of a new image is there, under whatever name."""

    def come(site: Site, passed: float) -> bool:
        if not site.out.exists():
            return False
        for path in site.out.iterdir():
            try:
                if path.name.startswith(".bootbuild-") and path.stat().st_size >= size:
                    return True
            except FileNotFoundError:  # it has its name now
                return True
        return False

    return come


def named(size: int) -> Moment:
    """The new image has its name: an old one has another size."""

    def come(site: Site, passed: float) -> bool:
        path = site.out / site.image
        return path.exists() and path.stat().st_size == size

    return come


def kept(site: Site, passed: float) -> bool:
    """The record is being kept, or was: the last that a build does."""
    return (site.out / KEPT).exists() and any((site.out / KEPT).iterdir())


def kill(site: Site, moment: Moment) -> bool:
    """Build and kill -9 when the moment comes; whether it came before the build had ended."""
    process = site.start("--force")
    began = time.monotonic()
    try:
        while process.poll() is None:
            if moment(site, time.monotonic() - began):
                process.kill()
                return process.wait() == -9
            time.sleep(0.0002)
        return False
    finally:
        process.kill()
        process.communicate()


def moments(size: int, seconds: float, count: int) -> dict[str, Moment]:
    """Of a build that takes `seconds` and whose image has `size` bytes."""
    chance = random.Random(9)
    found = {f"{share:.0%} written": written(int(size * share)) for share in (0, 0.01, 0.3, 0.7, 1)}
    found |= {"it has its name": named(size), "its record is kept": kept}
    times = [chance.uniform(0, 1.1 * seconds) for _ in range(count)]
    return found | {f"after {at:.2f} s": after(at) for at in times}


def sweep(site: Site, old: bytes | None, count: int) -> set[str]:
    """Kill builds of `site` at every moment; the moments that came. Its folder is left as they left it.

    `old` is what has the image's name before each.
    """
    began = time.monotonic()
    assert site.run().returncode == 0
    seconds = time.monotonic() - began
    inputs, whole, image = site.state(), digest(site.out / site.image), site.out / site.image
    size = image.stat().st_size
    came, leftovers = set(), set()
    for name, moment in moments(size, seconds, count).items():
        shutil.rmtree(site.out / KEPT, ignore_errors=True)
        image.unlink(missing_ok=True)
        if old is not None:
            image.write_bytes(old)
        if kill(site, moment):
            came.add(name)
        if old is None:
            assert not image.exists() or digest(image) == whole, name
        else:
            assert image.read_bytes() == old or digest(image) == whole, name
        assert site.state() == inputs, name
        unfinished = {*site.left()} - {site.image, KEPT}
        assert all(left.startswith(".bootbuild-") and left.endswith(".partial") for left in unfinished)
        leftovers |= unfinished
    shutil.rmtree(site.out / KEPT, ignore_errors=True)
    assert leftovers  # they were killed while they wrote
    (site.out / ".bootbuild-abcdefgh.partial").write_bytes(b"of another one")
    assert site.run().returncode == 0
    assert (digest(image), site.state()) == (whole, inputs)
    assert site.left() == [KEPT, site.image]  # and what the killed ones left is gone
    return came


@pytest.mark.slow
@pytest.mark.parametrize("old", [None, b"an image of yesterday"], ids=["nothing there", "an old image there"])
def test_an_image_is_whole_or_not_there(site: Callable[..., Site], old: bytes | None) -> None:
    came = sweep(site(megabytes=48), old, count=8)
    assert came >= {"0% written", "1% written", "30% written", "it has its name"}


@pytest.mark.slow
def test_a_debian_kernel_is_whole_or_not_there(kernels: Kernels, tmp_path: Path, repository: Path) -> None:
    shutil.copy(kernels.cloud.vmlinuz, tmp_path / "vmlinuz")
    shutil.copy(kernels.initrd, tmp_path / "initrd.img")
    recipe = (repository / "recipes/linux-pvh.toml").read_text()
    (tmp_path / "kernel.toml").write_text(f'{recipe}\nprofiles = ["pvh@qemu"]\n')
    site = Site(tmp_path, "kernel.toml", "vmlinuz-pvh.elf", ("vmlinuz", "initrd.img"))
    assert sweep(site, None, count=2) >= {"0% written", "it has its name"}


def test_what_a_killed_record_leaves_vouches_for_nothing(site: Callable[..., Site]) -> None:
    """A kept record that is cut short is as good as none."""
    here = site()
    assert here.run().returncode == 0
    (record,) = (here.out / KEPT).iterdir()
    whole, wanted = record.read_bytes(), digest(here.out / here.image)
    for size in (0, 65, len(whole) // 2, len(whole) - 1):
        record.write_bytes(whole[:size])
        (here.out / here.image).write_bytes(b"not what was booted")
        done = here.run()
        assert (done.returncode, done.stderr) == (0, "")
        assert digest(here.out / here.image) == wanted

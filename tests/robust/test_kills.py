"""kill -9 in the middle of an image, as it gets its name, as its record is kept: whole or not there.

Moments by the clock are in tests/cli/test_interrupted_builds.py; these are by what the build has done so far.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from building_site import Site, digest
from debian_kernels import Kernels

KEPT = ".bootbuild"  #: the folder of the kept record, hidden beside the images

Moment = Callable[[Site, int], bool]  #: whether it has come for the process of that id


def unfinished(site: Site, process: int) -> Iterator[int]:
    """Sizes of the files that it writes into the folder of images and that have no name there yet."""
    for entry in Path(f"/proc/{process}/fd").iterdir():
        try:
            name = str(entry.readlink())
            if name.startswith(f"{site.out}/") and (name.endswith(" (deleted)") or "/.bootbuild-" in name):
                yield entry.stat().st_size
        except FileNotFoundError:  # closed meanwhile
            pass


def written(size: int) -> Moment:
    def come(site: Site, process: int) -> bool:
        return any(there >= size for there in unfinished(site, process))

    return come


def named(size: int) -> Moment:
    """The new image has its name: an old one has another size."""

    def come(site: Site, process: int) -> bool:
        path = site.out / site.image
        return path.exists() and path.stat().st_size == size

    return come


def kept(site: Site, process: int) -> bool:
    """The folder of the record is made: the last that a build does is under way, or done."""
    return (site.out / KEPT).exists()


def kill(site: Site, moment: Moment) -> bool:
    """Build and kill -9 when the moment comes; whether it came before the build had ended."""
    process = site.start("--force")
    try:
        while process.poll() is None:
            if moment(site, process.pid):
                process.kill()
                return process.wait() == -9
            time.sleep(0.0002)
        return False
    except FileNotFoundError:  # it has ended, and /proc/PID with it
        return False
    finally:
        process.kill()
        process.communicate()


def sweep(site: Site, old: bytes | None) -> set[str]:
    """Kill builds of `site` at every moment, each with `old` in the image's place; the moments that came."""
    assert site.run().returncode == 0
    inputs, image = site.state(), site.out / site.image
    whole, size = digest(image), image.stat().st_size
    moments = {f"{share:.0%} written": written(int(size * share)) for share in (0, 0.01, 0.3, 0.7, 1)}
    moments |= {"it has its name": named(size), "its record is kept": kept}
    came = set()
    for name, moment in moments.items():
        shutil.rmtree(site.out)
        if old is not None:
            site.out.mkdir()
            image.write_bytes(old)
        if kill(site, moment):
            came.add(name)
        if image.exists():
            assert image.read_bytes() == old or digest(image) == whole, name
        else:
            assert old is None, name
        assert site.state() == inputs, name
    done = site.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert (digest(image), site.state()) == (whole, inputs)
    return came


@pytest.mark.slow
@pytest.mark.parametrize("old", [None, b"an image of yesterday"], ids=["nothing there", "an old image there"])
def test_an_image_is_whole_or_not_there(site: Callable[..., Site], old: bytes | None) -> None:
    came = sweep(site(megabytes=48), old)
    assert came >= {"0% written", "1% written", "30% written", "70% written", "it has its name"}


@pytest.mark.slow
def test_a_debian_kernel_is_whole_or_not_there(kernels: Kernels, tmp_path: Path, repository: Path) -> None:
    shutil.copy(kernels.cloud.vmlinuz, tmp_path / "vmlinuz")
    shutil.copy(kernels.initrd, tmp_path / "initrd.img")
    recipe = (repository / "recipes/linux-pvh.toml").read_text()
    recipe = recipe.partition("[expect]")[0]  # the shortest boot: it is the writing that is killed
    (tmp_path / "kernel.toml").write_text(f'{recipe}\nprofiles = ["pvh@qemu"]\n')
    site = Site(tmp_path, "kernel.toml", "vmlinuz-pvh.elf", ("vmlinuz", "initrd.img"))
    assert sweep(site, None) >= {"0% written", "1% written", "30% written", "it has its name"}


def test_no_record_vouches_for_another_image_cut_short_or_whole(site: Callable[..., Site]) -> None:
    here = site()
    assert here.run().returncode == 0
    (record,) = (here.out / KEPT).iterdir()
    whole, wanted = record.read_bytes(), digest(here.out / here.image)
    for size in (0, 65, len(whole) // 2, len(whole) - 1, len(whole)):
        record.write_bytes(whole[:size])
        (here.out / here.image).write_bytes(b"not what was booted")
        done = here.run()
        assert (done.returncode, done.stderr) == (0, "")
        assert digest(here.out / here.image) == wanted

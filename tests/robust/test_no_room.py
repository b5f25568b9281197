"""Too little room by a page, no inodes, folders that are locked: one line, no part, inputs as before."""

from __future__ import annotations

import resource
import shlex
import subprocess
import sys
from collections.abc import Callable

import pytest

from building_site import HELD_TO_MODES, Site, refused

MakeSite = Callable[..., Site]
Done = subprocess.CompletedProcess[str]
OLD = b"an image of yesterday"
PAGE = 0x1000
OWN_MOUNTS = ("unshare", "--map-root-user", "--mount")


def mounts_allowed() -> bool:
    """Whether a process may have mounts of its own. Containers, and some systems for users, forbid it."""
    try:
        done = subprocess.run(
            [*OWN_MOUNTS, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


def run(site: Site, *command: str, limit: int = -1) -> Done:
    """A build, by way of `command`, in which no file may have more than `limit` bytes."""
    return subprocess.run(
        [*command, *site.command()],
        cwd=site.folder,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )


def run_mounted(site: Site, mount: str) -> tuple[Done, list[str]]:
    """A build after `mount`, and what is then in its folder of images."""
    site.out.mkdir(exist_ok=True)
    build = shlex.join(map(str, site.command()))
    script = f"{mount} || exit 99; {build}; code=$?; find out -type f >listing; exit $code"
    done = subprocess.run(
        [*OWN_MOUNTS, "sh", "-c", script], cwd=site.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode != 99, done.stderr
    return done, sorted((site.folder / "listing").read_text().split())


def test_an_old_image_stays_where_there_is_no_room_for_the_new(site: MakeSite) -> None:
    here = site(megabytes=4)
    here.out.mkdir()
    (here.out / here.image).write_bytes(OLD)
    inputs, size = here.state(), (here.folder / "kernel.elf").stat().st_size
    for limit in (0, 1, size // 2, size):
        refused(run(here, limit=limit), "out/kernel-pvh.elf: file too large (BB-W092); free some space")
        assert (here.left(), (here.out / here.image).read_bytes()) == ([here.image], OLD)
        assert here.state() == inputs


def test_a_disk_has_the_whole_image_or_none(site: MakeSite) -> None:
    """Disks with a page too few, and just enough. Where mounts are not allowed: limits of that size."""
    here = site()
    assert here.run().returncode == 0
    inputs, size = here.state(), (here.out / here.image).stat().st_size
    pages = -(-size // PAGE)
    mounts = mounts_allowed()
    for room in (1, pages // 2, pages - 1, pages):
        if mounts:
            done, left = run_mounted(here, f"mount -t tmpfs -o size={room * PAGE} none out")
        else:
            (here.out / here.image).unlink(missing_ok=True)
            done = run(here, limit=room * PAGE)
            left = [f"out/{name}" for name in here.left() if name != ".bootbuild"]
        if room < pages:
            said = "no space left on device" if mounts else "file too large"
            refused(done, f"out/kernel-pvh.elf: {said} (BB-W092); free some space")
            assert left == []
        else:  # for a record there is no room: it is not kept
            assert (done.returncode, done.stderr, left) == (0, "", ["out/kernel-pvh.elf"])
    assert here.state() == inputs


def test_a_limit_that_the_image_keeps_is_none_for_its_boots(site: MakeSite) -> None:
    """RLIMIT_FSIZE holds for memory of the kernel's as well, in which the boots have their garbage."""
    here = site()
    assert here.run().returncode == 0
    size = (here.out / here.image).stat().st_size
    (here.out / here.image).unlink()  # else nothing would be booted again
    done = run(here, limit=size)
    assert (done.returncode, done.stderr) == (0, "")


def modes(locked: str) -> Callable[[Site], tuple[Done, list[str]]]:
    def attempt(site: Site) -> tuple[Done, list[str]]:
        folder = site.folder / locked
        folder.mkdir(exist_ok=True)
        folder.chmod(0o555)
        done = run(site, *HELD_TO_MODES)
        folder.chmod(0o755)
        return done, site.left()

    return attempt


def without_inodes(site: Site) -> tuple[Done, list[str]]:
    return run_mounted(site, "mount -t tmpfs -o nr_inodes=1 none out")


WAYS = {
    "folder's mode": (modes("out"), "permission denied"),
    "mode of the folder where it would be": (modes("."), "permission denied"),
}
MOUNTED_WAYS = {"no inodes": (without_inodes, "no space left on device")}


@pytest.mark.parametrize("name", [*WAYS, *(MOUNTED_WAYS if mounts_allowed() else ())])
def test_a_folder_that_takes_no_file_is_said(name: str, site: MakeSite) -> None:
    here = site()
    inputs = here.state()
    attempt, said = (WAYS | MOUNTED_WAYS)[name]
    done, left = attempt(here)
    remedy = "name a folder with -o in which" if said == "permission denied" else "free some space, or name"
    refused(done, f": {said} (BB-W092); {remedy}")
    assert (left, here.state()) == ([], inputs)
    assert here.run().returncode == 0


def test_an_old_image_in_a_read_only_folder_stays(site: MakeSite) -> None:
    here = site()
    here.out.mkdir()
    (here.out / here.image).write_bytes(OLD)
    done, left = modes("out")(here)
    refused(done, "out/kernel-pvh.elf: permission denied (BB-W092)")
    assert left == [here.image] and (here.out / here.image).read_bytes() == OLD


@pytest.mark.parametrize("way", ["O_TMPFILE", "a hidden name"])
def test_a_folder_that_may_be_written_but_not_listed_takes_images(way: str, site: MakeSite) -> None:
    here = site()
    here.out.mkdir()
    here.out.chmod(0o333)
    try:
        if way == "O_TMPFILE":
            done = run(here, *HELD_TO_MODES)
        else:
            code = (
                "import sys; from bootbuild import cli, store; store._nameless = lambda _: -1; "
                "sys.exit(cli.main(sys.argv[1:]))"
            )
            done = subprocess.run(
                [*HELD_TO_MODES, sys.executable, "-c", code, *here.command()[1:]],
                cwd=here.folder,
                capture_output=True,
                text=True,
                check=False,
            )
    finally:
        here.out.chmod(0o755)
    assert (done.returncode, done.stderr) == (0, "")
    assert here.left() == [".bootbuild", here.image]

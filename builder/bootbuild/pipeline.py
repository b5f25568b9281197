"""The whole of bootbuild, in the order in which it happens: recipe → payload → image → boots → record."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import bootbuild
from bootbuild.api.guest import SelfDescribed
from bootbuild.api.target import linux_joins, takes_packed
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject, code_at
from bootbuild.boot.subject import find_startup, is_linux, linux_startup, own_startup, request_subject
from bootbuild.errors import Problem, RefusedError
from bootbuild.formats.whole import whole_files
from bootbuild.model.content import digest
from bootbuild.model.contribution import Contribution, Layout
from bootbuild.model.machine import Offer
from bootbuild.model.payload import ElfImage, Module, Payload, Startup
from bootbuild.model.record import BuildRecord, ImageRecord
from bootbuild.model.verdict import Outcome, ProfileVerdict

if TYPE_CHECKING:
    from bootbuild.host.host import Host
    from bootbuild.model.request import BootRequest
    from bootbuild.recipe.model import Recipe, TargetRecipe

BUDGET = 200_000_000  #: instructions of one run, unless the recipe says otherwise
TIMEOUT = 60.0  #: seconds of one run

Progress = Callable[[str], None]


def build_if_changed(
    recipe: Recipe, host: Host, progress: Progress = lambda _: None, force: bool = False
) -> BuildRecord:
    """`build`, unless nothing that it depends on has changed since: then (without `force`) the old record."""
    from bootbuild.report import kept

    now = kept.state(recipe, host)
    record = kept.load(recipe, now) if now and not force else None
    if record is not None:
        progress(f"{recipe.path}: unchanged since it was built and booted; --force does it again")
        host.hooks.finished(record)
        return record
    record = build(recipe, host, progress)
    if now is not None:
        kept.save(recipe, now, record)
    return record


@whole_files()
def build(recipe: Recipe, host: Host, progress: Progress = lambda _: None) -> BuildRecord:
    """Build every image of a recipe and boot each in every profile that was asked for.

    Raises a BootbuildError when something cannot be built; a guest that fails is in the record.
    """
    began = time.perf_counter()
    progress(f"reading {recipe.payload.path}")
    payloads = read_payloads(recipe, host)
    goals = {name: find_goal(recipe, payload) for name, payload in payloads.items()}
    images = []
    for names in groups(recipe):
        contributions = [contribute(payloads[name], recipe.targets[name], host) for name in names]
        refuse_shadows(recipe, contributions, host)
        image, path, layout = make_image(recipe, payloads[names[0]], contributions, host, progress)
        made = digest(image.file)  # before the boots: the record vouches for these bytes
        verdicts: list[ProfileVerdict] = []
        for name, contribution in zip(names, contributions, strict=True):
            subject = recipe_subject(recipe, payloads[name], contribution, image, layout, host)
            subject = replace(subject, goal=goals[name])
            named = recipe.targets[name].profiles
            verdicts += boot_in_all(subject, named or (name,), host, progress)
        images.append(
            ImageRecord(
                path=str(path),
                targets=tuple(names),
                size=image.file.size,
                digest=made,
                entries={n: entry for n in names if (entry := host.target(n).entry_of(image)) is not None},
                verdicts=tuple(verdicts),
                repairs=layout.repairs,
            )
        )
    first = next(iter(payloads.values()))
    record = BuildRecord(
        recipe=str(recipe.path),
        payload=first.source,
        payload_format=first.format,
        payload_digest=first.digest,
        payload_changes=first.changes,
        images=tuple(images),
        plugins=host.active(),
        bootbuild=bootbuild.__version__,
        seconds=time.perf_counter() - began,
    )
    host.hooks.finished(record)
    return record


@whole_files()
def boot(request: BootRequest, host: Host, progress: Progress = lambda _: None) -> tuple[ProfileVerdict, ...]:
    """Boot an image that anybody made in each profile of the request. Raises a BootbuildError."""
    host.select(request.profiles)  # a wrong name is told before a wrong file
    subject = request_subject(request, host, BUDGET, TIMEOUT)
    return tuple(boot_in_all(subject, request.profiles, host, progress, str(request.image)))


def read_payloads(recipe: Recipe, host: Host) -> dict[str, Payload]:
    """The recipe's kernel, opened once, with the startup path that each target joins."""
    from bootbuild.formats.payload import Fit, open_content, open_payload, open_snapshot
    from bootbuild.formats.symbols import read_system_map

    asked = recipe.payload
    fit = Fit(asked.load, asked.entry, asked.bss, asked.paddr_offset, asked.elf_class, asked.width)
    opened = open_payload(asked.path, fit)
    elf = opened.elf
    if asked.symbols is not None:
        content = open_content(asked.symbols)
        elf = replace(elf, symbols=read_system_map(content, str(asked.symbols), opened.moved))
    linux = opened.format.startswith("bzimage") or is_linux(elf)
    guest = host.guest(asked.guest or ("linux" if linux else "native"))
    width = asked.width or (guest.widths[0] if len(guest.widths) == 1 else opened.bits)
    modules = tuple(Module(m.path.name, open_snapshot(m.path), m.cmdline.encode()) for m in asked.modules)
    payloads = {}
    for name, target in recipe.targets.items():
        startup, key = target.startup, f"targets.{name}.startup"
        if startup is None:
            startup, key = asked.startup, "payload.startup"
        if startup is None and opened.format == "raw":
            startup = elf.entry
        elif startup is None and (own := own_startup(guest, elf)) is not None:
            startup = own - opened.moved
        where = recipe.places.get(key, "")
        path = None
        if startup is None and guest.name == "linux" and is_linux(elf):
            joins = None if target.entry == "insert" else linux_joins(host.target(name))
            path = linux_startup(elf, joins, width, guest, opened.moved)
        payloads[name] = Payload(
            elf=elf,
            source=str(asked.path),
            format=opened.format,
            digest=opened.digest,
            guest=guest.name,
            startup=path or find_startup(elf, startup, width, guest, opened.moved, where),
            cmdline=asked.cmdline.encode(),
            modules=modules,
            repair=asked.repair,
            changes=opened.changes,
            addresses=opened.addresses,
        )
    return payloads


def find_goal(recipe: Recipe, payload: Payload) -> Startup | None:
    """The place behind the startup path that the recipe expects to be reached. Raises InputError."""
    if recipe.expect.reached is None:
        return None
    own = payload.startup
    where = recipe.places.get("expect.reached", "")
    return find_startup(payload.elf, recipe.expect.reached, own.width, moved=own.moved, where=where)


def groups(recipe: Recipe) -> list[list[str]]:
    """Which targets share an image: those of `combine` one, every other its own."""
    together = [name for name in recipe.targets if name in recipe.output.combine]
    alone = [[name] for name in recipe.targets if name not in recipe.output.combine]
    return ([together] if together else []) + alone


def contribute(payload: Payload, target: TargetRecipe, host: Host) -> Contribution:
    """The target's part of the image."""
    plugin, guest = host.target(target.name), host.guest(payload.guest)
    make = {"insert": plugin.contribute, "native": plugin.native, "chain": plugin.chain}[target.entry]
    contribution = make(payload, guest, target.options)
    if contribution.hands_over and isinstance(guest, SelfDescribed):
        told = (*contribution.companions, *guest.settings(payload))
        contribution = replace(contribution, companions=told)
    return contribution


def refuse_shadows(recipe: Recipe, contributions: Sequence[Contribution], host: Host) -> None:
    """Raise RefusedError where a program would start an image by another target than its profile is of."""
    booted = {
        profile
        for name in (c.target for c in contributions)
        for profile in host.select(recipe.targets[name].profiles or (name,))
    }
    shadows = [(c, s) for c in contributions for s in c.shadows if s.profile in booted]
    if shadows:
        raise RefusedError(
            Problem(
                s.rule, recipe.places.get(f"targets.{c.target}", str(recipe.path)), f"{s.profile}: {s.reason}"
            )
            for c, s in shadows
        )


def make_image(
    recipe: Recipe, payload: Payload, contributions: Sequence[Contribution], host: Host, progress: Progress
) -> tuple[ElfImage, Path, Layout]:
    """Lay out, write whole or not at all, have it checked by other code, and read back what was written.

    The image is of those bytes, not of what a file of its name holds later: they are what will be booted.
    Where the payload was packed in them, the check has found it there, and it is not unpacked again.
    """
    from bootbuild.containers import container
    from bootbuild.formats.elf_read import read_elf
    from bootbuild.report.kept import inputs
    from bootbuild.store import make_folder, spare

    kind = contributions[0].container
    holder = container(kind)
    path = recipe.image((contribution.target for contribution in contributions), holder.suffix)
    progress(f"writing {path}")
    make_folder(path.parent)
    spare((recipe.path, *inputs(recipe)), path)
    layout = host.hooks.build(payload, contributions, lambda: holder.lay_out(payload, contributions))
    written = holder.write(payload, layout, path)
    if kind != "elf":
        return replace(payload.elf, name=str(path), packing=written), path, layout
    return read_elf(written, str(path)), path, layout


def recipe_subject(
    recipe: Recipe, payload: Payload, contribution: Contribution, image: ElfImage, layout: Layout, host: Host
) -> Subject:
    """What is to be proved. The startup path is the payload's, never what the image says of itself."""
    return Subject(
        image=image,
        startup=payload.startup,
        guest=host.guest(contribution.guest),
        offer=Offer(
            cmdline=payload.cmdline,
            modules=tuple((m.name, m.content, m.cmdline) for m in payload.modules),
            memory=recipe.boot.memory or 0,
        ),
        stub=layout.stub if contribution.hands_over else None,
        own_entry=contribution.own_entry,
        symbols=payload.elf.symbols,
        expect=(recipe.expect.console or "").encode(),
        budget=recipe.boot.budget or BUDGET,
        timeout=recipe.boot.timeout or TIMEOUT,
        code=code_at(payload.elf, payload.startup),
        unpacking=host.guest("linux") if is_linux(image) else None,
        exact="--exact" if recipe.boot.exact else "",
        level=recipe.boot.level,
    )


def boot_in_all(
    subject: Subject, asked: Sequence[str], host: Host, progress: Progress, file: str = ""
) -> list[ProfileVerdict]:
    """Prove one image in the profiles `asked` for: each by its name, or all of a target's by the target's.

    `file`: the name under which progress shows the image to targets that take it packed.

    A profile that was not named may refuse the file (REFUSED), as long as another of its target takes it.
    """
    verdicts = []
    for name in host.select(asked):
        packed = file and takes_packed(host.target(name.partition("@")[0]))
        progress(f"booting {file if packed else subject.image.name} as {name}")
        verdicts.append(boot_in(subject, name, host, required=name in asked))
    started = {verdict.target for verdict in verdicts if verdict.outcome is not Outcome.REFUSED}
    return [v if v.target in started else replace(v, outcome=Outcome.FAILED) for v in verdicts]


def boot_in(subject: Subject, name: str, host: Host, *, required: bool) -> ProfileVerdict:
    """Prove one image in one profile; plugins may add findings."""
    profile = host.profile(name)
    if not takes_packed(host.target(profile.target)):
        subject = replace(subject, image=subject.image.unpacked)
    loader = host.loader(profile.loader) if profile.loader else None
    verdict = host.hooks.boot(
        subject.image, profile, lambda: prove(subject, profile, loader, required=required)
    )
    added = host.hooks.judge(verdict)
    if added:
        verdict = replace(verdict, findings=(*verdict.findings, *added), outcome=Outcome.FAILED)
    if not verdict.findings:
        return verdict
    from bootbuild.host.catalogue import all_rules

    rules = all_rules(host)
    findings = [
        f if f.remedy or f.rule not in rules else replace(f, remedy=rules[f.rule][0].remedy)
        for f in verdict.findings
    ]
    return replace(verdict, findings=tuple(findings))

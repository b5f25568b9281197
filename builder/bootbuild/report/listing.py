"""What `bootbuild plugins` shows: everything that is offered, whose it is, and what is wrong with it."""

from __future__ import annotations

from bootbuild.host import Host
from bootbuild.host.discovery import Offer
from bootbuild.report.json_form import dump
from bootbuild.report.table import plain, printable, table

PLUGINS = "bootbuild/plugins/1"


def plugins_text(host: Host, width: int | None = None) -> str:
    """A table of all offers, then the problems, one a line."""
    rows = [(o.kind or "?", o.name, o.distribution, o.version, str(o.major), o.value) for o in host.offers()]
    text = plain(table(("KIND", "NAME", "DISTRIBUTION", "VERSION", "API", "OBJECT"), rows, width, shorten=5))
    problems = "".join(f"{printable(str(problem))}\n" for problem in host.problems())
    return f"{text}\n{problems}" if problems else text


def plugins_json(host: Host) -> str:
    """The same for programs."""
    problems = [
        {"rule": p.rule.id, "where": p.where, "message": p.message, "remedy": p.remedy or p.rule.remedy}
        for p in host.problems()
    ]
    plugins = [_form(offer) for offer in host.offers()]
    return dump({"schema": PLUGINS, "plugins": plugins, "problems": problems})


def _form(offer: Offer) -> dict[str, str | int | None]:
    return {
        "kind": offer.kind or None,
        "name": offer.name,
        "distribution": offer.distribution,
        "version": offer.version,
        "api": offer.major,
        "object": offer.value,
    }

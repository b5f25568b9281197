"""docs/xen-pv.md says what the code does: the target's keys, the rules, the hypercalls."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from bootbuild_xenpv.options import INSERTED, Options
from bootbuild_xenpv.rules import PROFILE_RULES, RULES


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "xen-pv.md").read_text(encoding="utf-8")


def test_every_key_of_the_target_is_there_with_its_default(page: str) -> None:
    """That of an inserted entry; a kernel's own has none."""
    rows = dict(re.findall(r"^\| `(\w+)` \| [a-z, ]+ \| (`[^`]*`|–|computed) \|", page, re.MULTILINE))
    defaults = {
        name: "–" if value is None else f"`{json.dumps(value)}`"
        for name, value in dataclasses.asdict(INSERTED).items()
    } | dict.fromkeys(("virt_base", "paddr_offset"), "computed")
    assert rows == defaults


def test_every_rule_is_named_or_in_a_range(page: str) -> None:
    named = set(re.findall(r"BB-[LBU]\d{3}", page))
    for first, last in re.findall(r"(BB-[LBU]\d{3}) to (BB-[LBU]\d{3})", page):
        named |= {f"{first[:4]}{number:03}" for number in range(int(first[4:]), int(last[4:]) + 1)}
    assert {rule.id for rule in (*RULES, *PROFILE_RULES)} <= named


@pytest.mark.parametrize("text", ["é", "x" * 16])
def test_a_note_that_does_not_fit_xens_buffer_is_refused(text: str) -> None:
    message = "is .*, not ASCII of at most 15 characters"
    with pytest.raises(ValueError, match=f"guest_os {message}"):
        Options(guest_os=text)
    with pytest.raises(ValueError, match=f"guest_version {message}"):
        Options(guest_version=text)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("!bogus", "features has '!bogus', for which Xen refuses the image; known are "),
        ("dom0|bogus", "features has 'bogus', which Xen ignores; known are "),
    ],
)
def test_a_feature_that_xen_does_not_know_is_an_error_of_the_recipe(features: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Options(features=features)


@pytest.mark.parametrize("key", ["virt_base", "paddr_offset", "init_p2m", "hypercall_page"])
@pytest.mark.parametrize("value", [0x8000000800, 1 << 64, -4096])
def test_an_address_is_that_of_a_page(key: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{key} is {value:#x}, no multiple of 4096 in 64 bits"):
        dataclasses.replace(Options(), **{key: value})  # type: ignore[arg-type]


def test_a_version_of_another_xen_is_an_error_of_the_recipe() -> None:
    with pytest.raises(ValueError, match="xen_version is 'xen-4', which does not begin with xen-3"):
        Options(xen_version="xen-4")


def test_a_pae_mode_is_one_of_three() -> None:
    with pytest.raises(ValueError, match="pae_mode is 'maybe'; known are yes, no, bimodal"):
        Options(pae_mode="maybe")


def test_a_supported_feature_is_one_of_xens() -> None:
    with pytest.raises(ValueError, match="supported_features has 'bogus', which is no feature of Xen"):
        Options(supported_features="dom0|bogus")


def test_a_required_feature_that_no_pv_domain_has() -> None:
    with pytest.raises(ValueError, match="xl says `PV Autotranslate guests"):
        Options(features="!auto_translated_physmap")


def test_a_rule_for_own_notes_is_one_of_three() -> None:
    with pytest.raises(ValueError, match="notes is 'drop'; known are replace, merge, keep"):
        Options(notes="drop")

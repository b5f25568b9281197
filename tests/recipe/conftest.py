"""A folder with recipes, and a host with plugins that are complete but boot nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from bootbuild.errors import PluginError, Problem, RecipeError
from bootbuild.host import Host
from bootbuild.host.discovery import Offer
from bootbuild.host.rules import BROKEN
from bootbuild.recipe.model import Recipe
from bootbuild.recipe.overrides import Overrides
from bootbuild.recipe.read import read


@dataclass(frozen=True)
class ToyOptions:
    """One option of every type that a recipe can write."""

    mode: Literal["fast", "slow"] = "fast"
    order: tuple[str, ...] = ()
    limit: int = 7
    deep: bool = False
    ratio: float = 1.0
    table: Path | None = None
    tables: tuple[Path, ...] = ()
    named: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.limit > 100:
            raise ValueError("limit is above 100")
        if self.limit == 50 and self.mode == "slow":
            raise ValueError("slow and limit do not go together" + "." * 1000)


class Plugin:
    """A plugin with the attributes that reading a recipe asks for."""

    def __init__(self, options: type[Any] | None = None) -> None:
        self.options = options


class Broken(Host):
    """A host whose target `broken` does not load."""

    def target(self, name: str) -> Any:
        if name == "broken":
            raise PluginError(Problem(BROKEN, "target.broken", "x:y of z 1 does not load: KeyError"))
        return super().target(name)


@pytest.fixture
def host() -> Host:
    """Targets toy (with options), tin, bare (no profile) and broken; guests native and linux."""
    names = [
        *(("target", name) for name in ("toy", "tin", "bare", "broken")),
        *(("guest", name) for name in ("native", "linux")),
        *(("profile", name) for name in ("toy@box", "toy@bag", "tin@can", "broken@x")),
    ]
    plugins = {"toy": Plugin(ToyOptions)}
    return Broken(
        (),
        [(Offer(kind, name, "toys", "1", "x:y", 1), plugins.get(name, Plugin())) for kind, name in names],
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a kernel and two modules."""
    for name in ("kernel", "one", "two"):
        (tmp_path / name).write_bytes(name.encode())
    monkeypatch.chdir(tmp_path)
    return tmp_path


Read = Callable[..., Recipe]
Problems = Callable[..., Sequence[str]]


@pytest.fixture
def read_text(folder: Path, host: Host) -> Read:
    """read_text(text, overrides): the recipe with this text, at `r.toml` in the current folder."""

    def read_it(text: str | bytes, overrides: Overrides | None = None) -> Recipe:
        data = text.encode() if isinstance(text, str) else text
        (folder / "r.toml").write_bytes(data)
        return read(Path("r.toml"), host, overrides)

    return read_it


@pytest.fixture
def problems(read_text: Read) -> Problems:
    """problems(text, overrides): every problem of a recipe, as it is printed but without the remedy."""

    def collect(text: str | bytes, overrides: Overrides | None = None) -> list[str]:
        with pytest.raises((RecipeError, PluginError)) as error:
            read_text(text, overrides)
        return [f"{one.where}: {one.message} ({one.rule.id})" for one in error.value.problems]

    return collect

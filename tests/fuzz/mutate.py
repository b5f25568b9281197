"""Mutations that know the format: a valid file in which one to three things mean something else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from specimens import MULTIBOOT, Field, Specimen, elf_fields, pack

PAGE = 0x1000
LIMITS = (0, 1, 2, 4, 8, 1 << 20, 1 << 31, 1 << 32, 1 << 47, 1 << 63, 1 << 64)
MAX_SIZE = 1 << 16  #: bytes; what grows stays small, so that cases are many


Fields = Mapping[str, Sequence[Field]]  #: by kind


def by_kind(fields: Iterable[Field]) -> Fields:
    found: dict[str, list[Field]] = defaultdict(list)
    for field in fields:
        found[field.kind].append(field)
    return dict(found)


@dataclass
class Case:
    """A file being mutated, and what it may be spliced with."""

    random: Random
    data: bytearray
    fields: Fields
    others: Sequence[Specimen]

    def number(self, field: Field) -> int:
        return int.from_bytes(self.data[field.at : field.at + field.size], "little")

    def put(self, field: Field, value: int) -> None:
        if field.at + field.size <= len(self.data):
            raw = (value % (1 << 8 * field.size)).to_bytes(field.size, "little")
            self.data[field.at : field.at + field.size] = raw

    def kind(self) -> str:
        """Structures are equally likely, however many fields each has; the magic number is rare."""
        kinds = [*self.fields]
        kind = self.random.choice(kinds)
        return self.random.choice(kinds) if kind == "ident" and self.random.random() < 0.9 else kind

    def field(self) -> Field:
        return self.random.choice(self.fields[self.kind()])


def boundary(case: Case) -> None:
    """A field at a limit of its type, of the file, of a page, or next to one."""
    limit = case.random.choice((*LIMITS, len(case.data), PAGE, PAGE))
    case.put(case.field(), limit + case.random.choice((-1, 0, 0, 1)))


def nearby(case: Case) -> None:
    """A field a little off what it was."""
    field = case.field()
    step = case.random.choice((1, 2, 4, 8, 0x10, 0x100, PAGE, 1 << 21, 1 << 31))
    case.put(field, case.number(field) + case.random.choice((-step, step)))


def borrowed(case: Case) -> None:
    """A field with the value of another: sizes as offsets, addresses as sizes."""
    field = case.field()
    other = case.field()
    case.put(field, case.number(other))


def anything(case: Case) -> None:
    """A field of random bits, or with one bit flipped."""
    field = case.field()
    bit = 1 << case.random.randrange(8 * field.size)
    case.put(field, case.random.choice((case.random.getrandbits(8 * field.size), case.number(field) ^ bit)))


def entry_over_entry(case: Case) -> None:
    """One structure copied over another of its kind: two tables, two notes, segments twice."""
    alike = case.fields[case.kind()]
    size = case.random.choice((4, 8, 16, 24, 32, 40, 56, 64))
    source, target = case.random.choice(alike).at, case.random.choice(alike).at
    if max(source, target) + size <= len(case.data):
        case.data[target : target + size] = case.data[source : source + size]


def contents(case: Case) -> None:
    """Bytes anywhere: compressed data, code, strings."""
    for _ in range(case.random.choice((1, 1, 4, 32))):
        if case.data:
            case.data[case.random.randrange(len(case.data))] = case.random.choice((0, 1, 0x7F, 0x80, 0xFF))


def truncated(case: Case) -> None:
    """The file ends early: at a field, or anywhere, most often near its end."""
    places = (case.field().at, case.random.randrange(len(case.data) + 1), len(case.data) - 1)
    at = case.random.choice((*places, len(case.data) - case.random.randrange(1, 64)))
    del case.data[max(at, 0) :]


def grown(case: Case) -> None:
    """The file goes on, with zeros or with another file."""
    more = case.random.choice((bytes(1), bytes(PAGE), case.random.randbytes(100), other(case)))
    case.data += more[: max(0, MAX_SIZE - len(case.data))]


def spliced(case: Case) -> None:
    """The rest of the file is that of another."""
    at = case.random.choice((case.field().at, case.random.randrange(len(case.data) + 1)))
    case.data[at:] = other(case)[at:]


def moved(case: Case) -> None:
    """A few bytes are cut out or put in, so that all behind them is elsewhere."""
    at = case.random.randrange(len(case.data) + 1)
    size = case.random.choice((1, 4, 8, 0x38, 0x40))
    if case.random.random() < 0.5:
        del case.data[at : at + size]
    else:
        case.data[at:at] = bytes(size)


def other(case: Case) -> bytes:
    return case.random.choice(case.others).data


def summed(case: Case) -> None:
    """Multiboot headers add up again: else whatever is changed in one leaves none."""
    for magic, words in MULTIBOOT.items():
        at = case.data.find(magic.to_bytes(4, "little"))
        found = [Field("multiboot", at + 4 * i, 4) for i in range(words)]
        if at >= 0:
            case.put(found[-1], -sum(case.number(field) for field in found[:-1]))


MUTATIONS: tuple[tuple[Callable[[Case], None], int], ...] = (
    (boundary, 30),
    (nearby, 20),
    (borrowed, 12),
    (anything, 12),
    (entry_over_entry, 8),
    (contents, 6),
    (truncated, 4),
    (grown, 4),
    (spliced, 3),
    (moved, 1),
)
_CHOICES, _WEIGHTS = zip(*MUTATIONS)


def mutate(random: Random, data: bytes, fields: Fields, others: Sequence[Specimen]) -> bytes:
    """`data` after one to three mutations."""
    case = Case(random, bytearray(data), fields, others)
    for mutation in random.choices(_CHOICES, _WEIGHTS, k=random.choice((1, 1, 2, 3))):
        if case.data:
            mutation(case)
    if "multiboot" in fields and random.random() < 0.8:
        summed(case)
    return bytes(case.data)


class Herd:
    """The specimens, and every case that is made of them."""

    def __init__(self, found: Sequence[Specimen]) -> None:
        self._all = found
        self._fields = [by_kind(specimen.fields()) for specimen in found]
        self._inner = [by_kind(elf_fields(specimen.inner)) if specimen.inner else {} for specimen in found]

    def case(self, seed: int, index: int) -> tuple[str, bytes, Random]:
        """Case `index` of `seed`, always the same: name, file, and the randomness for what is done with it.

        Half of the bzImages are sound around a mutated kernel.
        """
        random = Random(f"{seed}:{index}")
        which = random.randrange(len(self._all))
        specimen = self._all[which]
        if specimen.inner and random.random() < 0.5:
            mutated = mutate(random, specimen.inner, self._inner[which], self._all)
            return f"{specimen.name}, packed again", pack(mutated, specimen.compression), random
        return specimen.name, mutate(random, specimen.data, self._fields[which], self._all), random

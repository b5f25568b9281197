"""All that a plugin may import, with `bootbuild.platform`. Everything here is stable within API_VERSION.

A plugin is a distribution with entry points in the group `bootbuild1`, one for each thing it offers,
named `kind.name`: `target.pvh`, `guest.freebsd`, `profile.pvh@bhyve`, `loader.xen-libelf`, `hook.name`.
Each points to a class that is called without arguments, or to an object.
"""

from __future__ import annotations

from bootbuild.api.environment import Profile, Scene
from bootbuild.api.guest import Follower, Guest, GuestView, SelfDescribed, Unpacking
from bootbuild.api.hooks import hookimpl
from bootbuild.api.loader import Loader, LoaderVerdict, Said, decompress, read_elf
from bootbuild.api.machine import Cpu, Platform
from bootbuild.api.moved import REACH, grain_of, words_of
from bootbuild.api.stubs import chain_of, load_blob, switches
from bootbuild.api.target import Target
from bootbuild.errors import InputError, PluginError, Problem, RefusedError
from bootbuild.formats.notes import claims_target, phys32_entry
from bootbuild.formats.pe_read import PeError, PeFile, PeSection, read_pe
from bootbuild.formats.stand_in import Packed, packed_kernel
from bootbuild.guests.given import cmdline_fault, map_fault, module_faults
from bootbuild.guests.record import record_faults
from bootbuild.guests.state import state_faults
from bootbuild.model.blob import Blob
from bootbuild.model.content import Content, FileContent, MemoryContent, part_of
from bootbuild.model.content import digest as content_digest
from bootbuild.model.contribution import (
    AddressOf,
    Application,
    BzimageSpec,
    Contribution,
    HeaderSpec,
    Layout,
    Loaded,
    NoteSpec,
    PlacedSegment,
    Shadow,
)
from bootbuild.model.machine import (
    Descriptor,
    EntryState,
    Filling,
    Framebuffer,
    Given,
    GivenModule,
    Load,
    MapEntry,
    Offer,
    Region,
    RegionKind,
    TableRegister,
    Undefined,
)
from bootbuild.model.payload import ElfImage, Module, Note, Payload, Segment, Startup, Words
from bootbuild.model.record import BuildRecord, ImageRecord
from bootbuild.model.rule import Rule
from bootbuild.model.span import Span, align_up, holes
from bootbuild.model.trace import BootTrace, Event, Placed, Stop, StopKind
from bootbuild.model.verdict import Evidence, Finding, Level, Outcome, ProfileVerdict
from bootbuild.model.waist import NoRoute, Piece, Waist, route

API_VERSION = 1

__all__ = [
    "API_VERSION",
    "REACH",
    "AddressOf",
    "Application",
    "Blob",
    "BootTrace",
    "BuildRecord",
    "BzimageSpec",
    "Content",
    "Contribution",
    "Cpu",
    "Descriptor",
    "ElfImage",
    "EntryState",
    "Event",
    "Evidence",
    "FileContent",
    "Filling",
    "Finding",
    "Follower",
    "Framebuffer",
    "Given",
    "GivenModule",
    "Guest",
    "GuestView",
    "HeaderSpec",
    "ImageRecord",
    "InputError",
    "Layout",
    "Level",
    "Load",
    "Loaded",
    "Loader",
    "LoaderVerdict",
    "MapEntry",
    "MemoryContent",
    "Module",
    "NoRoute",
    "Note",
    "NoteSpec",
    "Offer",
    "Outcome",
    "Packed",
    "Payload",
    "PeError",
    "PeFile",
    "PeSection",
    "Piece",
    "Placed",
    "PlacedSegment",
    "Platform",
    "PluginError",
    "Problem",
    "Profile",
    "ProfileVerdict",
    "RefusedError",
    "Region",
    "RegionKind",
    "Rule",
    "Said",
    "Scene",
    "Segment",
    "SelfDescribed",
    "Shadow",
    "Span",
    "Startup",
    "Stop",
    "StopKind",
    "TableRegister",
    "Target",
    "Undefined",
    "Unpacking",
    "Waist",
    "Words",
    "align_up",
    "chain_of",
    "claims_target",
    "cmdline_fault",
    "content_digest",
    "decompress",
    "grain_of",
    "holes",
    "hookimpl",
    "load_blob",
    "map_fault",
    "module_faults",
    "packed_kernel",
    "part_of",
    "phys32_entry",
    "read_elf",
    "read_pe",
    "record_faults",
    "route",
    "state_faults",
    "switches",
    "words_of",
]

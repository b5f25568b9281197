"""What a recipe may say under `[targets.xen-pv]` of the notes of owner Xen."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

from bootbuild_xenpv.notes import FEATURE_BITS, NAMED_FEATURES, PAGE

RULES_OF_NOTES = ("replace", "merge", "keep")
XEN_3 = "xen-3.0"  #: all that is asked of XEN_VERSION is that it begins so (elf_xen_note_check)
PAE_MODES = ("yes", "no", "bimodal")
_TEXT = 15  #: characters: char guest_os[16], struct elf_dom_parms, of xen/include/xen/libelf.h


@dataclass(frozen=True)
class Options:
    """One key a note, by what elfnote.h calls it; None: the recipe does not say."""

    notes: str = field(
        default="replace",
        metadata={
            "meaning": "what becomes of the payload's own note of that type: `replace`, `merge`, `keep`"
        },
    )
    xen_version: str | None = field(
        default=None, metadata={"meaning": "note XEN_VERSION (5), which begins with `xen-3.0`"}
    )
    guest_os: str | None = field(default=None, metadata={"meaning": "note GUEST_OS (6), a name"})
    guest_version: str | None = field(default=None, metadata={"meaning": "note GUEST_VERSION (7), a text"})
    loader: str | None = field(
        default=None, metadata={"meaning": "note LOADER (8): `generic` is what Xen takes"}
    )
    pae_mode: str | None = field(
        default=None, metadata={"meaning": "note PAE_MODE (9): `yes`, `no` or `bimodal`"}
    )
    features: str | None = field(
        default=None,
        metadata={"meaning": "note FEATURES (10), separated by |, required ones with a ! before them"},
    )
    supported_features: str | None = field(
        default=None, metadata={"meaning": "note SUPPORTED_FEATURES (17), separated by |"}
    )
    virt_base: int | None = field(default=None, metadata={"meaning": "note VIRT_BASE (3), a virtual address"})
    paddr_offset: int | None = field(default=None, metadata={"meaning": "note PADDR_OFFSET (4), bytes"})
    hypercall_page: int | str | None = field(
        default=None,
        metadata={"meaning": "note HYPERCALL_PAGE (2): an address, a symbol, or `stub` for a page of ours"},
    )
    init_p2m: int | None = field(
        default=None, metadata={"meaning": "note INIT_P2M (15): where the frame table is to be mapped"}
    )
    mod_start_pfn: bool | None = field(
        default=None, metadata={"meaning": "note MOD_START_PFN (16): the module need not be mapped"}
    )
    suspend_cancel: bool | None = field(
        default=None, metadata={"meaning": "note SUSPEND_CANCEL (14): a suspend can be cancelled"}
    )

    def __post_init__(self) -> None:
        if self.notes not in RULES_OF_NOTES:
            raise ValueError(f"notes is {self.notes!r}; known are {', '.join(RULES_OF_NOTES)}")
        for name in ("xen_version", "guest_os", "guest_version", "loader"):
            text = getattr(self, name)
            if text is not None and (len(text) > _TEXT or not text.isascii() or "\0" in text):
                raise ValueError(f"{name} is {text!r}, not ASCII of at most {_TEXT} characters")
        if self.xen_version is not None and not self.xen_version.startswith(XEN_3):
            text = "Xen says `Xen will only load images built for Xen v3.0`"
            raise ValueError(
                f"xen_version is {self.xen_version!r}, which does not begin with {XEN_3}: {text}"
            )
        if self.pae_mode not in (None, *PAE_MODES):
            raise ValueError(f"pae_mode is {self.pae_mode!r}; known are {', '.join(PAE_MODES)}")
        for word in words(self.features):
            _check_feature(word)
        for word in words(self.supported_features):
            if word not in FEATURE_BITS:
                text = f"supported_features has {word!r}, which is no feature of Xen"
                raise ValueError(f"{text}; known are {', '.join(FEATURE_BITS)}")
        for name in ("virt_base", "paddr_offset", "init_p2m", "hypercall_page"):
            value = getattr(self, name)
            if isinstance(value, int) and (value % PAGE or not 0 <= value < 1 << 64):
                raise ValueError(f"{name} is {value:#x}, no multiple of 4096 in 64 bits")

    @property
    def silent(self) -> bool:
        """Whether the recipe asks for no note."""
        return self == Options(notes=self.notes)

    def over(self, others: Options) -> Options:
        """These, and what these do not say as the others have it."""
        said = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        return replace(others, **said)


def words(text: str | None) -> list[str]:
    """The names in a list of features."""
    return text.split("|") if text else []


def _check_feature(word: str) -> None:
    name = word.removeprefix("!")
    if name not in NAMED_FEATURES:
        text = "for which Xen refuses the image" if word.startswith("!") else "which Xen ignores"
        raise ValueError(f"features has {word!r}, {text}; known are {', '.join(NAMED_FEATURES)}")
    if word == "!auto_translated_physmap":
        raise ValueError(f"features has {word!r}: xl says `PV Autotranslate guests no longer supported`")


#: What an inserted entry has that the recipe does not speak of. VIRT_BASE and PADDR_OFFSET are computed.
INSERTED = Options(xen_version=XEN_3, guest_os="bootbuild", loader="generic", supported_features="dom0")

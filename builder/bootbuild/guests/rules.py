"""Rules of the native handover: what a startup path may rely on (docs/handover.md)."""

from __future__ import annotations

from bootbuild.model.rule import Rule

_WHY = "Early boot has semantics only if what is handed over is what the environment gave: "
_FIX = "mend the entry stub; compare the record's fields in `bootbuild boot --json` with what was offered"

RULES = (
    Rule(
        "BB-H001",
        "no arguments at the startup path",
        "At width 32 boot type and record are cdecl arguments on a stack of the stub's own.",
        "enter the startup path with ESP on a mapped stack",
    ),
    Rule(
        "BB-H002",
        "no valid record",
        "The second argument is the physical address of a record whose magic, version, size and checksum "
        "hold and which the mapping in force reaches.",
        "pass the record's address in RSI (width 64) or on the stack (width 32), checksum recomputed last",
    ),
    Rule(
        "BB-H003",
        "CPU state at the startup path",
        "docs/handover.md fixes the state: mode, IF=DF=0, stack as after a call with return address 0, at "
        "width 64 an identity map of the first 4 GiB and the linked mapping.",
        "establish the state that docs/handover.md lists before the jump",
    ),
    Rule("BB-H004", "boot type", _WHY + "the boot type says by which entry the image was started.", _FIX),
    Rule("BB-H005", "hypervisor type", _WHY + "the hypervisor type says what is underneath.", _FIX),
    Rule("BB-H006", "data pointer", _WHY + "`data` is the environment's own structure.", _FIX),
    Rule("BB-H007", "addresses in the record", _WHY + "absent things are 0, others where they are.", _FIX),
    Rule("BB-H008", "command line", _WHY + "the command line is passed byte for byte.", _FIX),
    Rule(
        "BB-H009",
        "memory map",
        _WHY
        + "the normal-form map has every entry of the environment's, sorted by address, types unchanged.",
        _FIX,
    ),
    Rule("BB-H010", "modules", _WHY + "every module is there, in order, byte for byte.", _FIX),
    Rule(
        "BB-H011",
        "stub range",
        "The guest keeps stub_base to stub_base+stub_size until it is done with record and post stub, so "
        "both must lie inside, with the copies of command lines, module list and map that the record leads "
        "to, and the range must be the image's.",
        "let stub_base and stub_size cover everything that the stub leaves behind",
    ),
)

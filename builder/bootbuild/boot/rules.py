"""Rules that the judge applies over whole runs; what stops a single run is in machine/rules.py."""

from __future__ import annotations

from bootbuild.model.rule import Rule

_POISON = (
    "Each profile is run three times: in its exact state, and twice with garbage wherever the ABI promises "
    "nothing. A guest that reads what is not promised takes another way there; then each undefined thing is "
    "poisoned alone to name it. "
)
_FIX = "do not read it before it has been set"

RULES = (
    Rule(
        "BB-B020",
        "the payload is not as it was loaded",
        "When control arrives at the startup path, it is at its physical address and its bytes are what they "
        "are in the file; where only stubs ran before, so are all bytes of the payload.",
        "find what overwrote the kernel: a stub, the loader's structures, or the kernel itself",
    ),
    Rule(
        "BB-B021",
        ".bss is not zero at the startup path",
        "A kernel may rely on zeros between p_filesz and p_memsz; a loader that does not clear them leaves "
        "it to the front stub.",
        "clear the range before the startup path, and keep the environment's structures out of it",
    ),
    Rule(
        "BB-B022",
        "the guest stopped before its startup path",
        "It asked the platform to power off, to reset, or reported a crash, before the shared startup path.",
        "read the console output: the stub says in one line why it cannot go on",
    ),
    Rule(
        "BB-B023",
        "expected console output did not come",
        "The recipe's [expect] names text that the guest must print after its startup path. Under Xen COM1 "
        "is no console: the guest prints there by CONSOLE_WRITE; that of the handover's post stub reaches "
        "the console of every environment. The emulator delivers no interrupts: a kernel that waits for one "
        "prints nothing more here, as Linux does under Xen before it has its console.",
        "compare the console in `--json` with the expectation, or expect a place: `reached` in [expect]",
    ),
    Rule(
        "BB-B024",
        "the loader refuses the file",
        "The loader model of this profile does not accept the image, so it was not booted. A model that "
        "knows which of its rules is broken names that one instead.",
        "mend what the loader's message names",
    ),
    Rule(
        "BB-B025",
        "wall time ran out",
        "Nothing is proved by the clock alone: the verdict is INCONCLUSIVE.",
        "raise `[boot] timeout`, or lower what the guest does before its startup path",
    ),
    Rule(
        "BB-B026",
        "a chained stub changed the entry state",
        'With `entry = "chain"` the stub runs first and then enters the payload at its own entry, with the '
        "general, flags, control and segment registers, the descriptor tables, the structures, the modules "
        "and the bytes of the payload as the environment left them.",
        "report this as a defect of the target's chain stub",
    ),
    Rule(
        "BB-B027",
        "the loader enters the image elsewhere",
        "The loader model of this profile finds another entry in the file than the profile does, so a boot "
        "from the profile's would show nothing. Two PHYS32_ENTRY notes do this: Xen uses the last, QEMU the "
        "first of a segment.",
        "leave one entry in the file",
    ),
    Rule(
        "BB-B028",
        "startup path entered in another mode",
        "Code of one width is other code at another: 64-bit code needs EFER.LMA and CS.L, 32-bit code CS.D "
        "without CS.L. Compatibility mode is 32-bit.",
        "switch modes before the jump; or say what the startup path is: `width` in the recipe, `--width`",
    ),
    Rule("BB-U001", "relies on an undefined register", _POISON, _FIX),
    Rule(
        "BB-U002",
        "relies on ESP",
        _POISON + "Xen and Firecracker enter PVH with ESP=0, QEMU with a usable stack.",
        "load a stack of your own before the first push or call",
    ),
    Rule(
        "BB-U003",
        "relies on GDTR or IDTR",
        _POISON + "No monitor leaves the same descriptor tables.",
        "load a GDT of your own before the first segment load or far jump",
    ),
    Rule(
        "BB-U004", "relies on selector values", _POISON, "load every segment register from a GDT of your own"
    ),
    Rule(
        "BB-U005", "relies on undefined flags", _POISON, "clear the direction flag (cld) and set the others"
    ),
    Rule(
        "BB-U006",
        "relies on the contents of free memory",
        _POISON + "Only what the loader put there or cleared has known contents.",
        "write memory before reading it",
    ),
    Rule(
        "BB-U007",
        "relies on zeros in .bss",
        _POISON + "The crate linux-loader, and so Firecracker and Cloud Hypervisor, loads the bytes that a "
        "segment has in the file and does not clear the rest: it holds what lay there before.",
        "clear .bss in the entry code, before the first use of it",
    ),
    Rule(
        "BB-U008",
        "relies on what a hypercall leaves in its argument registers",
        _POISON
        + "Xen's ABI calls the registers of a hypercall's arguments clobbered (arch-x86/xen-x86_64.h, "
        "xen-x86_32.h), and debug builds of Xen do clobber them.",
        "treat them as lost: name them as outputs of the inline assembly",
    ),
    Rule(
        "BB-U009",
        "relies on undefined state",
        _POISON + "Here no single thing explains the difference, only several together.",
        "compare the traces of the runs (`bootbuild boot --trace`)",
    ),
)

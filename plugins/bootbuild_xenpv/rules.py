"""Rules of Xen PV: what a file must say of itself, and what a guest may not do in a domain."""

from __future__ import annotations

from bootbuild.api import Rule

_GUEST = "xen/arch/x86/pv of Xen 4.17"

NO_ENTRY = Rule(
    "BB-L201",
    "no Xen PV notes",
    "A PV domain is built by the notes of owner Xen: XEN_VERSION (5) `xen-3.0`, and LOADER (8) `generic` or "
    "GUEST_OS (6) `linux`. Without them Xen says `Not a Xen-ELF image` or `Will only load images built for "
    "the generic loader or Linux images`.",
    'insert an entry with `entry = "insert"`, or build the kernel with CONFIG_XEN_PV',
)
DOES_NOT_FIT = Rule(
    "BB-L202",
    "image and modules do not fit into the domain's memory",
    "A PV domain's memory is one range of pseudo-physical frames from 0, and its builder puts kernel, "
    "modules, frame table, start_info, rings, page tables and stack into it one after the other, with 512 "
    "KiB to spare, up to a multiple of 4 MiB. xl says `not enough memory for initial mapping`.",
    "give the domain more memory (`[boot] memory`, `--memory`), or link the kernel nearer to VIRT_BASE",
)
MODULES = Rule(
    "BB-L203",
    "more modules than a PV domain is given",
    "start_info has room for one module, mod_start and mod_len, without a command line of its own.",
    "join the files into one module, or leave this profile out of `profiles`",
)
NOT_64 = Rule(
    "BB-L204",
    "32-bit PV guest",
    "PV guests of 32 bits need a Xen with CONFIG_PV32, which distributions leave out: Debian's says `Found "
    "32-bit PV kernel, but CONFIG_PV32 missing`. They are not emulated here.",
    "build the kernel for 64 bits, or start it as a PVH domain",
)
NO_ROUTE = Rule(
    "BB-L205",
    "no way from Xen PV to this guest",
    "The front leaves the machine in ring 3, in 64-bit code, on Xen's page tables. A guest protocol that "
    "takes segments, page tables or physical addresses for its own cannot be entered there by a stub: only "
    "a kernel that was written for Xen PV can, by its own entry.",
    'use `entry = "native"`, or leave `[targets.xen-pv]` out',
)
HYPERCALL_PAGE = Rule(
    "BB-L206",
    "HYPERCALL_PAGE that is no page of the image",
    "Xen fills the page that note 2 names with the code of all hypercalls. It looks neither whether the "
    "address is a multiple of 4096, and then fills another place than the kernel calls, nor whether "
    "the page is part of the kernel, and then writes over what lies there; outside the bootstrap region dom0 "
    "ends with `Invalid HYPERCALL_PAGE field in ELF notes.`",
    "give a whole, aligned page of the kernel's own; or drop the note and use `syscall`",
)
INIT_P2M = Rule(
    "BB-L207",
    "INIT_P2M that no builder takes",
    "libxenguest takes note 15 only if it is a multiple of 4096 below VIRT_BASE, and maps the frame table in "
    "the bootstrap region otherwise (xc_dom_build_image, tools/libs/guest/xg_dom_core.c). A table of eight "
    "bytes for each page that reaches beyond VIRT_BASE ends the builder: `overlapping mappings`, or for dom0 "
    "`DOM0 P->M table overlaps initial mapping`.",
    "name an aligned address well below VIRT_BASE, or drop the note and use start_info.mfn_list",
)
TRANSLATED = Rule(
    "BB-L211",
    "wants a domain whose frames Xen translates",
    "A kernel that requires the feature auto_translated_physmap knows no machine frames. No PV domain is "
    "like that any more: xl begins to build one and says `PV Autotranslate guests no longer supported` "
    "(bootearly, tools/libs/guest/xg_dom_x86.c). Of a dom0 Xen does not look at it.",
    "start it as a PVH domain, or leave this profile out of `profiles`",
)
ASKED_NOTES = Rule(
    "BB-L210",
    "notes that the recipe asks for make no domain",
    "The keys of `[targets.xen-pv]` and the payload's own notes together are what a builder reads: LOADER or "
    "GUEST_OS must name a kind that it knows, kernel and entry must lie where VIRT_BASE and PADDR_OFFSET put "
    "them (virtual = p_paddr + VIRT_BASE - PADDR_OFFSET), and the frame table must lie outside the kernel.",
    "change the key that the message names, or say `notes` otherwise: `replace`, `merge` or `keep`",
)
SYMBOL_TABLE = Rule(
    "BB-L209",
    "symbol table that would be loaded behind the kernel",
    "With note 11 (BSD_SYMTAB) libelf puts the file's symbol and string tables behind the kernel, and all "
    "that follows moves. The domains emulated here are not built like that.",
    "leave the note out of the copy that is tried here",
)
FRAMES = Rule(
    "BB-U010",
    "relies on how machine frames are arranged",
    "Each profile is run three times. The memory of a PV domain is any machine frames in any order: in the "
    "first run extents of 2 MiB, as xl asks for them, in the others single frames. Only the frame table "
    "(start_info.mfn_list) tells which.",
    "look every frame up in the frame table, also that of a page's neighbour",
)
UNHANDLED = Rule(
    "BB-B040",
    "exception that the guest has no handler for",
    "Xen hands an exception to the handler that set_trap_table named. Without one it ends the domain: "
    f"`Unhandled: vec …` ({_GUEST}/traps.c).",
    "look at the exception that the report names; set the trap table before anything can fault",
)
PRIVILEGED = Rule(
    "BB-B041",
    "privileged instruction in a PV guest",
    "A PV guest runs in ring 3: an instruction of ring 0 raises #GP. Xen emulates some (moves to and from "
    "CR0, CR2, CR3, CR4 and debug registers, CLTS, WBINVD, RDMSR, WRMSR, XSETBV; ports, CLI and STI once "
    f"set_iopl was called: {_GUEST}/emul-priv-op.c) and hands the others to the guest as #GP. A stub "
    "may use none of them.",
    "use the hypercall that does it: iret, set_trap_table, set_gdt, mmuext_op, stack_switch …",
)
TABLE_WRITE = Rule(
    "BB-B042",
    "write to a page table",
    "While a frame is in use as a page table no guest has a writable mapping of it: a write raises #PF. The "
    "page tables that the domain was built with lie directly below the boot stack.",
    "change page tables by mmu_update, update_va_mapping or mmuext_op; keep to the one page of the boot "
    "stack, or bring a stack of your own",
)
STACK = Rule(
    "BB-B043",
    "no stack for an exception",
    "Xen pushes the frame of an exception on the stack that the guest runs on. If that is not writable, it "
    "ends the domain (create_bounce_frame, xen/arch/x86/x86_64/entry.S).",
    "keep RSP in writable memory from the first instruction on",
)
BAD_IRET = Rule(
    "BB-B044",
    "iret that Xen cannot make",
    "The iret hypercall takes nine words from the stack: rax, r11, rcx, flags, rip, cs, rflags, rsp, ss. "
    "With CS of ring 3 it returns to the guest's user mode, which needs page tables of its own (mmuext_op "
    f"NEW_USER_BASEPTR); otherwise Xen ends the domain ({_GUEST}/iret.c). CS, SS and RIP must be such that "
    "IRETQ takes them: if it faults, the guest has that exception where it wanted to go, and without a "
    "handler Xen ends the domain.",
    "keep the RPL that Xen cleared in the frame's CS, and push the words that the hypercall wants",
)
REFUSED_UPDATE = Rule(
    "BB-B045",
    "page table update that Xen refuses",
    "An entry may only lead to a frame of the domain's own, writable only if that is no page table, and a "
    "table may only be made of frames that nobody can write to. Frame numbers are machine frames: a "
    "pseudo-physical one is another domain's, or nobody's (get_page_from_l1e, xen/arch/x86/mm.c). The guest "
    "went on and stopped.",
    "translate frame numbers by the frame table, and make tables read-only before they are used",
)

RULES = (
    NO_ENTRY,
    DOES_NOT_FIT,
    MODULES,
    NOT_64,
    NO_ROUTE,
    HYPERCALL_PAGE,
    INIT_P2M,
    SYMBOL_TABLE,
    ASKED_NOTES,
)
PROFILE_RULES = (
    NO_ENTRY,
    DOES_NOT_FIT,
    MODULES,
    NOT_64,
    HYPERCALL_PAGE,
    INIT_P2M,
    SYMBOL_TABLE,
    TRANSLATED,
    FRAMES,
    UNHANDLED,
    PRIVILEGED,
    TABLE_WRITE,
    STACK,
    BAD_IRET,
    REFUSED_UPDATE,
)

"""A command line on its way through GRUB: its shell takes it apart, its loader puts it together again."""

from __future__ import annotations

import re

from bootbuild.api import InputError, Problem, Rule

WORDS = Rule(
    "BB-L333",
    "a command line that GRUB's shell would not pass on",
    "A line of grub.cfg is read by GRUB's shell: `$` begins a variable, `;`, `&`, `|`, `<` and `>` end a "
    "command, as a line break does; `{` and `}` are in no word, `#` begins none, and a quotation has an end.",
    "put the word in single quotation marks, as in grub.cfg, and leave line breaks out",
)
_BLANKS = (b" ", b"\t")  #: all that there are: other white space is of a word
_BARE = re.compile(rb"[^ \t'\"\\$;&|<>{}]+")
_SINGLE = re.compile(rb"'([^']*)'")
_DOUBLE = re.compile(rb'"((?:[^"\\$]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_LINE_END = re.compile(rb"[\r\n]")
_SPECIAL = re.compile(rb"[\\'\"]")


def as_passed(text: bytes, name: str) -> bytes:
    """What a kernel or module finds of `text`, written in grub.cfg behind its file. Raises InputError.

    grub_create_loader_cmdline: one blank between words, a word with a blank in it in quotation marks, and a
    backslash before each quotation mark and backslash that is in it (later GRUBs spare `xHH`).
    """
    return b" ".join(_rebuilt(word) for word in words(text, name))


def words(text: bytes, name: str) -> list[bytes]:
    """As grub-core/kern/parser.c and the lexer of its script language split a line. Raises InputError."""
    found_words: list[bytes] = []
    if broken := _LINE_END.search(text):
        raise _refused(text[broken.start() :], name)
    at = 0
    while True:
        while text[at : at + 1] in _BLANKS:
            at += 1
        if at == len(text):
            return found_words
        if text[at] == ord("#"):
            raise _refused(text[at:], name)
        word = b""
        while at < len(text) and text[at : at + 1] not in _BLANKS:
            if found := _BARE.match(text, at):
                word += found[0]
            elif found := _SINGLE.match(text, at) or _ESCAPE.match(text, at):
                word += found[1]
            elif found := _DOUBLE.match(text, at):
                word += re.sub(rb'\\([\\"$])', rb"\1", found[1])
            else:
                raise _refused(text[at:], name)
            at = found.end()
        found_words.append(word)


def _rebuilt(word: bytes) -> bytes:
    escaped = _SPECIAL.sub(rb"\\\g<0>", word)
    return b'"' + escaped + b'"' if b" " in word else escaped


def _refused(rest: bytes, name: str) -> InputError:
    return InputError(Problem(WORDS, name, f"GRUB's shell would stop at {rest[:40].decode('latin-1')!r}"))

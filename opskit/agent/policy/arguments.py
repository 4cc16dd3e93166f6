"""Reads the words after a program by the rule of that program, as the program itself would."""

from typing import Self

from opskit.agent.policy.rules import CommandRule, Objection
from opskit.records import MutableRecord, field, replace

#: GNU's getopt takes any beginning of a long option; shorter ones than `--x` name nothing.
_SHORTEST = 3
_MAY_BEGIN_WITH_DASH = frozenset({"signed", "ps_sort"})


class ReadArguments(MutableRecord):
    """What the words of a command mean.

    `command` is the program with its commands (`docker compose ps`), `rule` the rule that holds at its end.
    `values` are the values of flags, `operands` all other words, each with its kind; `denied` is about the
    first flag that runs or writes something, `objection` about the first word that the rule does not have.
    `words` are still to be read, `ended` tells that `--` ended the flags.
    """

    command: str
    rule: CommandRule
    flags: set[str] = field(default_factory=set)
    values: list[tuple[str, str]] = field(default_factory=list)
    operands: list[tuple[str, str]] = field(default_factory=list)
    denied: Objection | None = None
    objection: Objection | None = None

    words: list[str] = field(default_factory=list)
    ended: bool = False

    @property
    def reads_all(self) -> bool:
        """Whether it reads the files below the folders that it is given."""
        needs = self.rule.reads_all
        return needs is not None and (not needs or bool(needs & self.flags))

    def _object(self, rule: str, why: str) -> None:
        self.objection = self.objection or Objection(rule, why)

    def read(self) -> Self:
        """Read all words, also after one that is not known: a denied flag may follow."""
        if self.rule.dashless and self.words and not self.words[0].startswith("-"):
            self.words[0] = f"-{self.words[0]}"
        while self.words:
            word = self.words.pop(0)
            if word == "--" and not self.ended and not self.rule.plain:
                self.ended = True
            elif word.startswith("-") and len(word) > 1 and not self.ended:
                self._flag(word)
            elif self.rule.commands:
                self._command(word)
            else:
                self._operand(word)
        if self.rule.commands and not self.rule.bare:
            self._object("unknown-command", f"{self.command} needs one of its commands")
        for names in self.rule.requires:
            if not names & self.flags:
                why = f"{self.command} is allowed only with {'|'.join(sorted(names))}"
                self._object("missing-flag", why)
        return self

    def _command(self, word: str) -> None:
        rule = self.rule
        inner = rule.commands.get(word)
        if inner is not None and not self.ended:
            self.command, self.rule = f"{self.command} {word}", inner
            return
        if rule.asks is not None and word not in rule.asks:
            why = f"`{self.command} {word}` may be an alias, which can run any program"
            self.denied = self.denied or Objection(f"{self.command}.alias", why)
        self._object("unknown-command", f"`{self.command} {word}` is not a command that only reads")
        self.rule = replace(rule, commands={}, asks=None)

    def _operand(self, word: str) -> None:
        kinds, number = self.rule.operands, len(self.operands)
        if number >= len(kinds) and not self.rule.repeated:
            self._object("operand", f"{self.command} takes no further word: {word}")
        kind = kinds[min(number, len(kinds) - 1)] if kinds else "path"
        if kind == "path" and word.startswith("+"):
            self._unknown(word)
        self.operands.append((kind, word))

    def _flag(self, word: str) -> None:
        rule = self.rule
        if word[1:].isdecimal() and "-#" in rule.flags:
            return
        if rule.plain or word.startswith("--"):
            self._whole(word)
        else:
            self._letters(word)

    def _whole(self, word: str) -> None:
        rule = self.rule
        name, equals, value = (word, "", "") if word in rule.flags else word.partition("=")
        flag = rule.flags.get(name)
        if flag is None and (denied := self._denied_by(name)):
            self._deny(denied)
        elif flag is None or (equals and not flag.kind):
            self._unknown(word)
        else:
            self.flags.add(name)
            if equals:
                self.values.append((flag.kind, value))
            elif flag.kind and not flag.optional:
                self._next_value(name, flag.kind)

    def _letters(self, word: str) -> None:
        """Read `-abc` and `-n5`: letters up to the first that takes a value, which is what follows it."""
        rule = self.rule
        for index, letter in enumerate(word[1:], start=2):
            name, rest = f"-{letter}", word[index:]
            flag = rule.flags.get(name)
            if name in rule.denied:
                self._deny(name)
            elif flag is None:
                self._unknown(name)
            else:
                self.flags.add(name)
                if flag.kind:
                    if rest:
                        self.values.append((flag.kind, rest))
                    elif not flag.optional:
                        self._next_value(name, flag.kind)
                    return

    def _next_value(self, name: str, kind: str) -> None:
        # A program whose value is optional (`journalctl -n`) takes the next word with a dash as a flag.
        if not self.words or (self.words[0].startswith("-") and kind not in _MAY_BEGIN_WITH_DASH):
            self._object("missing-value", f"{name} of {self.command} needs a value")
            return
        self.values.append((kind, self.words.pop(0)))

    def _denied_by(self, name: str) -> str | None:
        """Return the denied flag that a word is, or that it is the beginning of."""
        long = len(name) >= _SHORTEST and name.startswith("--")
        return next(
            (flag for flag in sorted(self.rule.denied) if flag == name or (long and flag.startswith(name))),
            None,
        )

    def _deny(self, name: str) -> None:
        program = self.command
        why = f"{name} of {program} can run another program, write or delete"
        self.denied = self.denied or Objection(f"{program.replace(' ', '.')}.{name}", why)

    def _unknown(self, word: str) -> None:
        self._object("unknown-flag", f"{word} is not a flag of {self.command} that only reads")

"""Quality rules as data: what is checked, when, what is expected, and how bad it is if it is not so.

A rule is a table of a TOML file. Its conditions are lists whose first word is an operator and whose names are facts of
the rule's scope (``rules/vocabulary.toml``); nothing is ever evaluated as code. A condition over a fact that is not
known is neither true nor false, and a rule whose condition is neither does not apply. Every rule brings one example
that it passes and one that it fails; a file whose examples do not is refused.

The rules of INCISIVE's quality tool are not public; the default set covers the families of the specification (C.1).
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..core.errors import FileRejected, reason_of

Facts = Mapping[str, Any]
SEVERITIES = ("info", "warning", "error")
FAMILIES = ("completeness", "integrity", "consistency", "plausibility", "temporal", "protocol", "privacy")


@dataclass(frozen=True)
class Rule:
    """A rule.

    scope          what it is asked of: a table of the vocabulary
    when, expect   conditions; it applies where ``when`` is true, and fails where ``expect`` is false
    message        what a failure means and what to do
    source         author, year and DOI, a standard's clause, or ``ASSUMED: …``
    passes, fails  facts of an example of each
    """

    id: str
    family: str
    severity: str
    scope: str
    expect: tuple[Any, ...]
    message: str
    source: str
    passes: Facts
    fails: Facts
    when: tuple[Any, ...] = ("always",)


@dataclass(frozen=True)
class Failure:
    """Where a rule fails: the pseudonym or identifier of what it was asked of, and the facts that it speaks of."""

    rule: str
    scope: str
    name: str
    subject: str | None
    found: Facts


@dataclass(frozen=True)
class Outcome:
    """What came of one rule: how often it was asked, how often it did not apply, and where it failed."""

    rule: Rule
    asked: int
    not_applicable: int
    failures: tuple[Failure, ...]


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[Facts, Sequence[Any]], bool | None]:
    """An operator over a fact and a constant or another fact."""

    def compared(facts: Facts, terms: Sequence[Any]) -> bool | None:
        one, other = facts.get(terms[0]), facts.get(terms[1]) if isinstance(terms[1], str) else terms[1]
        return None if one is None or other is None else test(one, other)

    return compared


def _over(test: Callable[[Any, Sequence[Any]], bool]) -> Callable[[Facts, Sequence[Any]], bool | None]:
    """An operator over a fact and constants."""
    return lambda facts, terms: None if facts.get(terms[0]) is None else test(facts[terms[0]], terms[1:])


OPERATORS: Mapping[str, tuple[str, Callable[[Facts, Sequence[Any]], bool | None]]] = {
    "always": ("", lambda facts, terms: True),
    "known": ("fact", lambda facts, terms: facts.get(terms[0]) is not None),
    "true": ("fact", _over(lambda fact, _: bool(fact))),
    "false": ("fact", _over(lambda fact, _: not fact)),
    "equal": ("fact constant", _over(lambda fact, terms: bool(fact == terms[0]))),
    "one_of": ("fact constants", _over(lambda fact, terms: fact in terms[0])),
    "at_least": ("fact number", _compare(lambda one, other: bool(one >= other))),
    "at_most": ("fact number", _compare(lambda one, other: bool(one <= other))),
    "above": ("fact number", _compare(lambda one, other: bool(one > other))),
    "below": ("fact number", _compare(lambda one, other: bool(one < other))),
    "between": ("fact number number", _over(lambda fact, terms: bool(terms[0] <= fact <= terms[1]))),
    "has": ("list constant", _over(lambda fact, terms: terms[0] in fact)),
    "count_at_least": ("list number", _over(lambda fact, terms: len(fact) >= terms[0])),
    "count_at_most": ("list number", _over(lambda fact, terms: len(fact) <= terms[0])),
    "within": ("list number number", _over(lambda fact, terms: all(terms[0] <= one <= terms[1] for one in fact))),
    "only": ("list constants", _over(lambda fact, terms: set(fact) <= set(terms[0]))),
    "spread_at_most": ("list number", _over(lambda fact, terms: not fact or max(fact) - min(fact) <= terms[0])),
}
"""Operators and what they take. ``number`` may be the name of another fact."""

JOINING: Mapping[str, Callable[[list[bool | None]], bool | None]] = {
    "all": lambda each: False if False in each else None if None in each else True,
    "any": lambda each: True if True in each else None if None in each else False,
    "not": lambda each: None if each[0] is None else not each[0],
}
"""Over other conditions, in the logic of Kleene: what is not known stays so unless it cannot matter."""


def holds(condition: Sequence[Any], facts: Facts) -> bool | None:
    """Whether a condition holds; None if a fact that it needs is not known."""
    operator, *terms = condition
    if operator in JOINING:
        return JOINING[operator]([holds(one, facts) for one in terms])
    return OPERATORS[operator][1](facts, terms)


def verdict(rule: Rule, facts: Facts) -> bool | None:
    """Whether what is expected is so; None where the rule does not apply."""
    return holds(rule.expect, facts) if holds(rule.when, facts) else None


def named_facts(condition: Sequence[Any]) -> tuple[str, ...]:
    """The facts that a condition speaks of."""
    operator, *terms = condition
    if operator in JOINING:
        return tuple(dict.fromkeys(name for one in terms for name in named_facts(one)))
    kinds = OPERATORS[operator][0].split()
    return tuple(term for kind, term in zip(kinds, terms) if kind in ("fact", "list") or _is_name(kind, term))


def outcomes(rules: Iterable[Rule], found: Iterable[tuple[str, str, str | None, Facts]]) -> tuple[Outcome, ...]:
    """Every rule asked of everything of its scope. ``found`` is (scope, name, subject, facts)."""
    rules = tuple(rules)
    asked = dict.fromkeys((rule.id for rule in rules), 0)
    passed_over = dict(asked)
    failures: dict[str, list[Failure]] = {rule.id: [] for rule in rules}
    for scope, name, subject, facts in found:
        for rule in rules:
            if rule.scope != scope:
                continue
            asked[rule.id] += 1
            answer = verdict(rule, facts)
            passed_over[rule.id] += answer is None
            if answer is False:
                names = dict.fromkeys((*named_facts(rule.when), *named_facts(rule.expect)))
                failures[rule.id].append(Failure(rule.id, scope, name, subject, {one: facts[one] for one in names}))
    return tuple(Outcome(rule, asked[rule.id], passed_over[rule.id], tuple(failures[rule.id])) for rule in rules)


@cache
def vocabulary() -> Mapping[str, Mapping[str, str]]:
    """The facts of every scope, with their meaning and unit."""
    found: Mapping[str, Mapping[str, str]] = tomllib.loads((_folder() / "vocabulary.toml").read_text(encoding="utf-8"))
    return found


def default_rules() -> tuple[Rule, ...]:
    """The rules that come with the program."""
    return rules_from((_folder() / "default.toml").read_text(encoding="utf-8"), "default.toml")


def rules_of(path: Path | str | None) -> tuple[Rule, ...]:
    """The default rules; with those of a file beside them, or in their place where one has the id of another.

    A file that begins with ``only = true`` stands alone. Raises FileRejected for a file that holds no sound rules.
    """
    if path is None:
        return default_rules()
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        alone = tomllib.loads(text).get("only") is True
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _refused(path.name, reason_of(error)) from error
    own = rules_from(text, path.name)
    taken = {rule.id for rule in own}
    return own if alone else (*(rule for rule in default_rules() if rule.id not in taken), *own)


def rules_from(text: str, name: str) -> tuple[Rule, ...]:
    """The rules that a TOML text defines. Raises FileRejected, saying which rule is wrong and how."""
    try:
        found = tuple(_rule(one) for one in tomllib.loads(text).get("rule", ()))
    except (tomllib.TOMLDecodeError, ValueError, TypeError) as error:
        raise _refused(name, str(error)) from error
    ids = [rule.id for rule in found]
    if len(set(ids)) != len(ids):
        raise _refused(name, "two rules have one id")
    return found


def _folder() -> Any:
    return files(__package__) / "rules"


def _rule(content: Mapping[str, Any]) -> Rule:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    identity = content.get("id", "without id")
    try:
        rule = Rule(**values)
    except TypeError as error:
        raise ValueError(f"rule {identity}: {str(error).split('__init__() ')[-1]}") from error
    if rule.severity not in SEVERITIES or rule.family not in FAMILIES or rule.scope not in vocabulary():
        raise ValueError(
            f"rule {rule.id}: severity is one of {', '.join(SEVERITIES)}, family one of {', '.join(FAMILIES)}, "
            f"scope one of {', '.join(vocabulary())}"
        )
    for condition in (rule.when, rule.expect):
        _check(condition, rule)
    for example in (rule.passes, rule.fails):
        if unknown := example.keys() - vocabulary()[rule.scope].keys():
            raise ValueError(f"rule {rule.id}: an example has no fact {sorted(unknown)[0]!r}")
    if (verdict(rule, rule.passes), verdict(rule, rule.fails)) != (True, False):
        raise ValueError(f"rule {rule.id}: it must pass its example 'passes' and fail its example 'fails'")
    return rule


def _check(condition: Any, rule: Rule) -> None:
    """Raises ValueError unless a condition is made of known operators over facts of the rule's scope."""
    if not isinstance(condition, (list, tuple)) or not condition:
        raise ValueError(f"rule {rule.id}: a condition is a list that begins with an operator")
    operator, *terms = condition
    if operator in JOINING:
        if not terms or (operator == "not" and len(terms) != 1):
            raise ValueError(f"rule {rule.id}: {operator} takes conditions")
        for one in terms:
            _check(one, rule)
        return
    if operator not in OPERATORS:
        known = ", ".join((*JOINING, *OPERATORS))
        raise ValueError(f"rule {rule.id}: the operators are {known}")
    kinds = OPERATORS[operator][0].split()
    if len(terms) != len(kinds) or not all(_fits(kind, term, rule.scope) for kind, term in zip(kinds, terms)):
        raise ValueError(f"rule {rule.id}: {operator} takes {' '.join(kinds) or 'nothing'}, facts of {rule.scope}")


def _is_name(kind: str, term: Any) -> bool:
    return kind == "number" and isinstance(term, str)


def _fits(kind: str, term: Any, scope: str) -> bool:
    match kind:
        case "fact" | "list":
            return term in vocabulary()[scope]
        case "number":
            return term in vocabulary()[scope] if isinstance(term, str) else isinstance(term, (int, float))
        case "constants":
            return isinstance(term, list)
        case _:
            return isinstance(term, (str, int, float, bool))


def _refused(name: str, why: str) -> FileRejected:
    return FileRejected(
        f"{name!r} holds no sound rules: {why}", "rules as the guide on quality describes", "correct it"
    )

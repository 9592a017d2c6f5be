"""Checks of JSON values, put together from small ones: a table of checks is the whole knowledge of a request's shape.

A check is a function from a value to None when it is right, else to a `Flaw`. Nothing is built on the way when all
is well, which is why this is a few microseconds where a model class would be hundreds; the path to a flaw is put
together only while it travels up. Values come from a JSON parser: dict, list, str, int, float, bool and None.

This module knows no field's name; those are in `fields.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgewise.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong, and where: `path` is '' at the value itself, else '.key' and '[0]' steps below it."""

    message: str
    path: str = ""
    code: str = "invalid_type"

    def under(self, step: str) -> Flaw:
        return Flaw(self.message, step + self.path, self.code)

    def error(self, name: str) -> InvalidRequest:
        where = name + self.path
        return InvalidRequest(f"Invalid value for '{where}': {self.message}.", param=where, code=self.code)


Check = Callable[[Any], Flaw | None]

_KINDS = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


def _expected(what: str, value: Any) -> Flaw:
    return Flaw(f"expected {what}, but got {_KINDS.get(type(value), 'something else')}")


def anything(_: Any) -> Flaw | None:
    """Every value is right."""
    return None


def boolean(value: Any) -> Flaw | None:
    return None if value is True or value is False else _expected("a boolean", value)


def text(*, at_most: int | None = None, at_least: int = 0) -> Check:
    """A string of `at_least` to `at_most` characters."""

    def check(value: Any) -> Flaw | None:
        if type(value) is not str:
            return _expected("a string", value)
        if len(value) < at_least:
            return Flaw("expected a string that is not empty", code="invalid_value")
        if at_most is not None and len(value) > at_most:
            return Flaw(f"expected at most {at_most} characters, but got {len(value)}", code="string_above_max_length")
        return None

    return check


def number(low: float, high: float) -> Check:
    """An integer or float in [low, high]."""

    def check(value: Any) -> Flaw | None:
        if type(value) is not float and type(value) is not int:
            return _expected("a number", value)
        if low <= value <= high:
            return None
        return Flaw(f"expected a number from {low:g} to {high:g}", code="number_out_of_range")

    return check


def integer(low: int | None = None, high: int | None = None) -> Check:
    """An integer in [low, high]; a float without a fraction is one too, as in JSON Schema."""

    def check(value: Any) -> Flaw | None:
        if type(value) is not int and not (type(value) is float and value.is_integer()):
            return _expected("an integer", value)
        if low is not None and value < low:
            return Flaw(f"expected an integer of at least {low}", code="integer_below_min_value")
        if high is not None and value > high:
            return Flaw(f"expected an integer of at most {high}", code="integer_above_max_value")
        return None

    return check


def word(*words: str) -> Check:
    """One of `words`."""
    known = frozenset(words)
    listed = ", ".join(f"'{w}'" for w in words)

    def check(value: Any) -> Flaw | None:
        if type(value) is not str:
            return _expected("a string", value)
        return None if value in known else Flaw(f"expected one of {listed}", code="invalid_value")

    return check


def nullable(check: Check) -> Check:
    """`check`, or null."""
    return lambda value: None if value is None else check(value)


def items(check: Check, *, at_least: int = 0, at_most: int | None = None) -> Check:
    """An array of `at_least` to `at_most` items, each right by `check`."""

    def run(value: Any) -> Flaw | None:
        if type(value) is not list:
            return _expected("an array", value)
        if len(value) < at_least:
            return Flaw(f"expected an array with at least {at_least} item", code="empty_array")
        if at_most is not None and len(value) > at_most:
            return Flaw(f"expected at most {at_most} items, but got {len(value)}", code="array_above_max_length")
        for number, item in enumerate(value):
            flaw = check(item)
            if flaw is not None:
                return flaw.under(f"[{number}]")
        return None

    return run


def mapping(check: Check, *, at_most: int | None = None, key_chars: int | None = None) -> Check:
    """An object of any keys (at most so many, each at most so long) whose values are right by `check`."""

    def run(value: Any) -> Flaw | None:
        if type(value) is not dict:
            return _expected("an object", value)
        if at_most is not None and len(value) > at_most:
            return Flaw(f"expected at most {at_most} keys, but got {len(value)}", code="object_above_max_properties")
        for key, inner in value.items():
            if key_chars is not None and len(key) > key_chars:
                return Flaw(f"a key has more than {key_chars} characters", code="string_above_max_length")
            flaw = check(inner)
            if flaw is not None:
                return flaw.under(f".{key[:64]}")
        return None

    return run


def shape(fields: Mapping[str, Check], required: tuple[str, ...] = ()) -> Check:
    """An object whose known fields are right and whose `required` ones are there; others pass untouched."""

    def run(value: Any) -> Flaw | None:
        if type(value) is not dict:
            return _expected("an object", value)
        for name in required:
            if name not in value:
                return Flaw("a required field is missing", f".{name}", "missing_required_parameter")
        for name, inner in value.items():
            check = fields.get(name)
            if check is not None:
                flaw = check(inner)
                if flaw is not None:
                    return flaw.under(f".{name}")
        return None

    return run


def tagged(tag: str, kinds: Mapping[str, Check], *, closed: bool = False, default: str | None = None) -> Check:
    """An object whose field `tag` says which check holds. A kind that is not listed passes, unless `closed`:
    providers add kinds faster than their description follows."""
    listed = ", ".join(f"'{kind}'" for kind in kinds)

    def run(value: Any) -> Flaw | None:
        if type(value) is not dict:
            return _expected("an object", value)
        kind = value.get(tag, default)
        if kind is None:
            return Flaw("a required field is missing", f".{tag}", "missing_required_parameter")
        if type(kind) is not str:
            return _expected("a string", kind).under(f".{tag}")
        check = kinds.get(kind)
        if check is not None:
            return check(value)
        return Flaw(f"expected one of {listed}", f".{tag}", "invalid_value") if closed else None

    return run


def either(*, string: Check | None = None, array: Check | None = None, object: Check | None = None) -> Check:
    """A value whose JSON type decides which check holds; a type without a check is refused."""
    checks = {kind: check for kind, check in ((str, string), (list, array), (dict, object)) if check is not None}
    what = " or ".join(_KINDS[kind] for kind in checks)

    def run(value: Any) -> Flaw | None:
        check = checks.get(type(value))
        return check(value) if check is not None else _expected(what, value)

    return run

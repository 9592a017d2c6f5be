"""A pattern that is compiled later behaves as one that is compiled now."""

from __future__ import annotations

import re

from edgewise.patterns import later


def test_its_methods_are_the_patterns_own() -> None:
    pattern = later(r"(\d)(\w)?", re.IGNORECASE)
    now = re.compile(r"(\d)(\w)?", re.IGNORECASE)
    assert "search" not in vars(pattern)
    assert pattern.findall("1a 2B") == now.findall("1a 2B")
    assert (pattern.sub("x", "1a"), pattern.split("a1b"), pattern.groups) == ("x", now.split("a1b"), 2)
    assert (pattern.pattern, pattern.flags) == (now.pattern, now.flags)
    assert vars(pattern)["search"] == vars(pattern)["search"] and "search" in vars(pattern)


def test_every_pattern_of_the_package_that_comes_later_can_be_compiled() -> None:
    import edgewise.query.classify
    import edgewise.query.text
    import edgewise.routing.complexity
    import edgewise.routing.tokens

    modules = (
        edgewise.query.classify,
        edgewise.query.text,
        edgewise.routing.complexity,
        edgewise.routing.tokens,
    )
    found = [value for module in modules for value in vars(module).values() if type(value).__name__ == "_Later"]
    assert found
    assert all(pattern.pattern for pattern in found)

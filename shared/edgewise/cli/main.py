"""The `edgewise` command: each verb lives in its own module and is imported only when it is called.

A verb's module has `app`, a typer application or a plain function `main(argv) -> int`. `edgewise bench NAME` runs
`bench/NAME.py` of a checkout: benchmarks are not part of the package.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path

VERBS: dict[str, tuple[str, str]] = {
    "dev": ("edgewise.cli.dev", "run the whole stack on this machine"),
    "cache": ("edgewise.cli.cache", "warm, purge, export and import the cache; audit its judge"),
    "route": ("edgewise.cli.route", "explain and replay routing decisions"),
    "batch": ("edgewise.cli.batch", "submit and watch batches"),
    "models": ("edgewise.cli.models", "correct prices and other facts of models"),
    "keys": ("edgewise.cli.keys", "create, list, rotate and revoke keys"),
    "settings": ("edgewise.cli.settings", "every setting, its default and what it is here"),
    "stats": ("edgewise.cli.stats", "what was asked, what it cost, how fast it was"),
    "distill": ("edgewise.cli.distill", "write answers of large models as a fine-tuning file"),
}


def usage() -> str:
    lines = ["usage: edgewise VERB ...", ""]
    lines += [f"  {verb:<8} {what}" for verb, (_, what) in VERBS.items()]
    lines += ["  bench    run a benchmark of the checkout", "", "edgewise VERB --help tells more."]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run one verb; the process's exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    verb, rest = words[0], words[1:]
    if verb == "bench":
        return bench(rest)
    if verb not in VERBS:
        print(f"edgewise: no verb {verb!r}\n\n{usage()}", file=sys.stderr)
        return 2
    module = importlib.import_module(VERBS[verb][0])
    try:
        if hasattr(module, "main"):
            return int(module.main(rest) or 0)
        module.app(args=rest, prog_name=f"edgewise {verb}")
    except OSError as error:
        print(f"edgewise: {error.filename or verb}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def bench(words: list[str]) -> int:
    """Run `bench/NAME.py` of the checkout this is called in."""
    folder = Path.cwd() / "bench"
    names = sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))
    if not words or words[0].startswith("-") or words[0] not in names:
        known = f"usage: edgewise bench {{{'|'.join(names)}}} ..." if names else "edgewise bench: not in a checkout"
        print(known, file=sys.stderr)
        return 2
    sys.argv = [f"edgewise bench {words[0]}", *words[1:]]
    sys.path.insert(0, str(Path.cwd()))
    runpy.run_module(f"bench.{words[0]}", run_name="__main__")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

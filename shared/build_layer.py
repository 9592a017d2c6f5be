"""Builds the Lambda layers: the package, its libraries for arm64, and bytecode for both; and the embedders' weights.

A layer's folder is read-only in Lambda, so without bytecode every cold start compiles everything again, which takes
three times as long as the imports themselves. Bytecode belongs to one minor version, so compiling needs a python3.13;
fetching the libraries does not, any interpreter with pip can do that. Files are marked `unchecked-hash`: zipping and
unzipping changes their times, and nobody edits them there.

boto3 is shipped although the managed runtime has one: that one may be too old for DynamoDB's vector search, and ours
is compiled, pinned, and reduced to the services that the package calls (see docs/decisions).

The weights are a layer of their own, since only gateways that match by meaning read them, and they weigh half as much
as all the rest.

Run by `sam build` in a copy of this folder: python build_layer.py OUTPUT [meaning]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VERSION = "3.13"
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_28_aarch64")
# What runs on a laptop only.
LEFT_OUT = ("cli", "local")
SERVICES = frozenset(
    ("bedrock", "bedrock-runtime", "dynamodb", "s3", "secretsmanager", "sqs", "sso", "sso-oidc", "sts")
)


def main(output: Path, *, meaning: bool = False) -> None:
    """Build into OUTPUT/python. Raises SystemExit, saying what is missing."""
    compiler = interpreter()
    target = output / "python"
    if meaning:
        # Their one dependency, numpy, lies in the main layer: here it would hide that one, or be hidden by it.
        install(target, "requirements-meaning.txt", "--no-deps")
    else:
        install(target, "requirements.txt")
        prune(target)
        shutil.copytree(HERE / "edgewise", target / "edgewise", ignore=shutil.ignore_patterns("__pycache__", *LEFT_OUT))
    compile_all(compiler, output)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    print(f"layer: {size / 1e6:.1f} MB unzipped, bytecode for {VERSION}")


def interpreter() -> str:
    """A Python of the function's version: PYTHON313, `python3.13` on the PATH, or one that pyenv has installed."""
    home = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    candidates = [
        os.environ.get("PYTHON313"),
        shutil.which(f"python{VERSION}"),
        sys.executable,
        *sorted(map(str, Path(home).glob(f"versions/{VERSION}.*/bin/python")), reverse=True),
    ]
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in candidates:
        if candidate:
            said = subprocess.run([candidate, "-c", ask], capture_output=True, text=True, check=False)  # noqa: S603
            # pyenv's shim exists for every version and fails for all but the selected ones.
            if said.stdout.strip() == VERSION:
                return candidate
    raise SystemExit(
        f"\nThe layer ships bytecode for Lambda's python{VERSION}, and no Python {VERSION} was found to compile it.\n"
        f"Install one (apt install python{VERSION}, brew install python@{VERSION}, pyenv install {VERSION}, "
        f"uv python install {VERSION})\nor say where it is: PYTHON313=/path/to/python{VERSION} make build\n"
    )


def install(target: Path, requirements: str, *options: str) -> None:
    """The pinned libraries as wheels for Lambda's machine and version, whichever Python fetches them."""
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    subprocess.run(  # noqa: S603
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile",
         "--target", str(target), *platforms, "--implementation", "cp", "--python-version", VERSION,
         # Older pips would hold a library's Python against the one that they run on.
         "--only-binary=:all:", "--ignore-requires-python", *options, "-r", str(HERE / requirements)],
        check=True,
    )  # fmt: skip


def prune(target: Path) -> None:
    """Take out what no function ever opens: tests, stubs, scripts, and other services' API models."""
    for folder in [path for path in target.rglob("*") if path.is_dir() and path.name in ("tests", "__pycache__")]:
        shutil.rmtree(folder, ignore_errors=True)
    for name in ("bin", "numpy/f2py", "numpy/distutils", "numpy/_core/include", "numpy/_core/lib"):
        shutil.rmtree(target / name, ignore_errors=True)
    for pattern in ("*.pyi", "*.pyx", "*.pxd", "*.c", "*.h"):
        for path in target.rglob(pattern):
            path.unlink()
    for models in (target / "botocore" / "data", target / "boto3" / "data"):
        for folder in [path for path in models.iterdir() if path.is_dir() and path.name not in SERVICES]:
            shutil.rmtree(folder)
    # The backend for other interpreters; CPython's is a file of its own, as large.
    for path in (target / "zstandard").glob("_cffi*.so"):
        path.unlink()


def compile_all(compiler: str, output: Path) -> None:
    """Bytecode beside every source, with the paths that tracebacks will show in Lambda."""
    subprocess.run(  # noqa: S603
        [compiler, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash",
         "-s", str(output), "-p", "/opt", str(output / "python")],
        check=True,
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), meaning=sys.argv[2:] == ["meaning"])

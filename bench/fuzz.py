"""Fuzzing of everything that reads a stranger's bytes: does anything but a clear refusal come out?

Four readers: events of an upstream (`provider.sse`), JSON Lines (`jobs.lines`), multipart forms (`api.form`), and a
chat request on its way through the body's parser, the field checks and the guards to its canonical form. Cases are
grown from seeds by mutation (flip, cut, double, splice, insert what parsers trip over), from a seed that is printed,
so that any crash can be had again. Besides not crashing, each parser must keep its own promise; those are asserted too.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from edgewise.errors import EdgewiseError

TROUBLE = [
    b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"\x00", b"\xff", b"\xef\xbb\xbf", "\u2028".encode(),
    "\u0085".encode(), b"data:", b"data: ", b"event: x", b": c", b"[DONE]", b'"', b"\\", b"\\ud800", b"{", b"}", b"[",
    b"]", b"null", b"NaN",
    b"1e999", b"-0", b"9" * 400, b"--", b"--x", b"--x--", b'name="file"', b"filename*=utf-8''%00", b"=", b";", b"\xc3",
    b"\xf0\x9f\x98", b'{"a":' * 70, b"[" * 70, b"Content-Disposition: form-data", b"Transfer-Encoding: chunked",
]  # fmt: skip


def mutated(rng: random.Random, seeds: list[bytes]) -> bytes:
    """A case: a seed with one to eight mutations."""
    case = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 8)):
        at = rng.randint(0, len(case))
        to = min(len(case), at + rng.randint(0, 40))
        match rng.randrange(7):
            case 0 if case:
                case[min(at, len(case) - 1)] ^= 1 << rng.randrange(8)
            case 1:
                del case[at:to]
            case 2:
                case[at:at] = case[at:to] * rng.randint(1, 3)
            case 3:
                case[at:at] = rng.choice(TROUBLE)
            case 4:
                other = rng.choice(seeds)
                case[at:to] = other[rng.randint(0, len(other)) :][:60]
            case 5:
                case[at:at] = rng.randbytes(rng.randint(0, 6))
            case _:
                case[at:to] = rng.choice(TROUBLE)
    return bytes(case)


def split(rng: random.Random, case: bytes) -> list[bytes]:
    """`case` in pieces, as a socket would bring it."""
    pieces, at = [], 0
    while at < len(case):
        size = rng.choice((1, 2, 3, 7, 64, 4096))
        pieces.append(case[at : at + size])
        at += size
    return pieces


Target = Callable[[random.Random, bytes], None]


def events(rng: random.Random, case: bytes) -> None:
    """Any cut of the bytes brings the same events."""
    from edgewise.provider.sse import EventParser, EventTooLong

    def read(pieces: list[bytes]) -> list[Any]:
        parser = EventParser(max_bytes=4_000)
        found: list[Any] = []
        try:
            for piece in pieces:
                found += parser.feed(piece)
        except EventTooLong:
            found.append("too long")
        return found

    whole = read([case])
    assert read(split(rng, case)) == whole


def lines(rng: random.Random, case: bytes) -> None:
    """Any cut brings the same lines, none holds a line's end, together they are the file, and each can be checked."""
    from edgewise.jobs.lines import Check, Line
    from edgewise.jobs.lines import split as split_lines

    async def read(pieces: list[bytes]) -> list[Line]:
        async def source() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        return [line async for line in split_lines(source())]

    whole = run(read([case]))
    assert run(read(split(rng, case))) == whole
    assert b"\n".join(line.raw for line in whole) == case.removesuffix(b"\n")
    check = Check("/v1/chat/completions", 100)
    for line in whole:
        check.take(line)
    check.end()


def form(rng: random.Random, case: bytes) -> None:
    """A form is read or refused, the same way however it is cut, whatever its boundary is said to be."""
    from edgewise.api.form import read_form

    kind = b"multipart/form-data; boundary=x"
    if rng.random() < 0.2:
        kind = rng.choice((b"multipart/form-data; boundary=" + case[:90], case[:120]))

    async def read(pieces: list[bytes]) -> Any:
        wrote = bytearray()

        async def source() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        async def write(data: bytes) -> None:
            wrote.extend(data)

        try:
            found = await read_form(kind.decode("latin-1"), source(), file_field="file", write=write)
        except EdgewiseError as error:
            return error.status
        return found.fields, found.filename, bytes(wrote)

    whole = run(read([case]))
    assert run(read(split(rng, case))) == whole


def request(_: random.Random, case: bytes) -> None:
    """A body is refused, or has one canonical form, whatever the order of its keys; the guards, compression
    and the bound on its tokens can read it too."""
    from edgewise.api import body, chat
    from edgewise.api.door import Knock
    from edgewise.policy.compress import compress
    from edgewise.policy.guards.guard import Guard
    from edgewise.policy.terms import Compress, Guards
    from edgewise.query.canonical import canonical, digest
    from edgewise.routing.bound import most_prompt_tokens
    from edgewise.words import Credentials

    try:
        parsed = body.parse(case, 64)
        again = _reversed(parsed)
        asked = chat.parse(parsed, Knock(Credentials("k", "/v1/chat/completions")))
        checked = run(Guard().check(asked, Guards(pii="redact"))).request
        most_prompt_tokens(checked)
        compress(checked, Compress(whitespace=True, duplicates=True, history_tokens=64, examples=1))
    except EdgewiseError:
        return
    other = chat.parse(again, Knock(Credentials("k", "/v1/chat/completions")))
    assert digest(canonical(asked.body)) == digest(canonical(other.body))


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits for anything, without the cost of an event loop."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


def _reversed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reversed(value[key]) for key in reversed(value)}
    return [_reversed(each) for each in value] if isinstance(value, list) else value


CHAT = (
    b'{"model":"m","messages":[{"role":"system","content":"be brief"},{"role":"user","content":[{"type":"text","text":'
    b'"mail a@b.io or +49 170 1234567"},{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}]}],'
    b'"temperature":0.5,"stream":true,"stream_options":{"include_usage":true},"n":1,"cache":{"ttl":60},"seed":7,'
    b'"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":'
    b'{"$ref":"#"}}}}}],"response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{"enum":[1]}}}}'
)
TARGETS: dict[str, tuple[Target, list[bytes]]] = {
    "events": (
        events,
        [
            b'data: {"choices":[{"delta":{"content":"\xc3\xa9"}}]}\n\ndata: [DONE]\n\n',
            b"event: message_start\r\ndata: {}\r\n\r\n: keepalive\r\n\r\nid: 1\rdata: a\rdata: b\r\r",
            b"\xef\xbb\xbfdata:x\n\ndata\n\nretry: 5\n\n",
        ],
    ),
    "lines": (
        lines,
        [
            b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":' + CHAT + b"}\n",
            b'{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]}}\n'
            b'{"custom_id":"1","method":"GET","url":"/x","body":{}}\r\n\n{"a":"\xe2\x80\xa8"}',
        ],
    ),
    "form": (
        form,
        [
            b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x\r\nContent-Disposition: '
            b'form-data; name="file"; filename="a.jsonl"\r\nContent-Type: text/plain\r\n\r\n{"a":1}\r\n--x--\r\n',
            b"--x\r\nContent-Disposition: form-data; name=file; filename*=utf-8''%e2%82%ac\r\n\r\n\r\n--x--",
        ],
    ),
    "request": (request, [CHAT, b'{"model":"m","messages":[{"role":"user","content":"hi"}]}']),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=20_261_122)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # python-multipart tells of each malformed form
    crashes = 0
    share = max(1, options.cases // len(TARGETS))
    for name, (target, seeds) in TARGETS.items():
        if options.only not in ("", name):
            continue
        rng, began = random.Random(f"{options.seed}:{name}"), time.perf_counter()
        for number in range(share):
            case = mutated(rng, seeds)
            try:
                target(rng, case)
            except Exception as error:  # noqa: BLE001 — a crash is what is looked for
                crashes += 1
                Path(f"crash-{name}-{number}.bin").write_bytes(case)
                print(f"{name} #{number}: {type(error).__name__}: {error}\n  {case[:200]!r}", file=sys.stderr)
                if crashes > 20:
                    return 1
        print(f"{name:<12} {share:>8} cases  {time.perf_counter() - began:6.1f} s")
    print(f"seed {options.seed}: {crashes} crashes")
    return 1 if crashes else 0


if __name__ == "__main__":
    raise SystemExit(main())

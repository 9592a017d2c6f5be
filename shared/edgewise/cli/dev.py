"""`edgewise dev`: the whole stack on this machine, with no account, key or container.

Starts a stand-in for AWS, then the gateway on it: under uvicorn with reload, or with `--lambda` the same functions
as Lambda would run them, behind a loopback function URL. The embedded model loads behind the first requests.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

SNIPPETS = """
  Edgewise is up.   {url}   (a page to try it: {root}/)

  base URL   {url}
  key        {key}

  curl {url}/chat/completions -H "Authorization: Bearer {key}" \\
    -H "Content-Type: application/json" \\
    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'

  # Python: pip install openai
  from openai import OpenAI
  client = OpenAI(base_url="{url}", api_key="{key}")
  answer = client.chat.completions.create(
      model="auto", messages=[{{"role": "user", "content": "What is the capital of France?"}}])
  print(answer.choices[0].message.content)

  // Node: npm install openai
  import OpenAI from "openai";
  const client = new OpenAI({{ baseURL: "{url}", apiKey: "{key}" }});
  const answer = await client.chat.completions.create({{
    model: "auto", messages: [{{ role: "user", content: "What is the capital of France?" }}] }});
  console.log(answer.choices[0].message.content);

  {models}
  For the command line: export EDGEWISE_URL={root} EDGEWISE_KEY={key}
  Ask the same again: it comes from the cache (see x-edgewise-cache). Ctrl-C stops everything.
"""


def main(argv: list[str]) -> int:
    """Run until interrupted; the process's exit status."""
    options = _options(argv)
    # A shell that starts this in the background has interrupts ignored, and then nothing would end it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    key = os.environ.get("EDGEWISE_ROOT_KEY") or f"ew_dev_{secrets.token_urlsafe(24)}"
    from edgewise.cli.settings import wrong

    if (why := wrong(os.environ)) is not None:
        print(f"edgewise dev: {why}", file=sys.stderr)
        return 2
    try:
        place = _place(options.host, options.port)
    except OSError as error:
        where = f"{options.host}, port {options.port}"
        print(f"edgewise dev: {where}: {error.strerror}. PORT or --port says another", file=sys.stderr)
        return 1
    from edgewise.local.stack import Stack

    stack = Stack.start()
    os.environ.update(gateway_environment(stack.environment, key, os.environ))
    root = f"http://{options.host}:{place.getsockname()[1]}"
    threading.Thread(target=_greet, args=(root, key), daemon=True).start()
    try:
        if options.as_lambda:
            return _as_lambda(options, place)
        return _under_uvicorn(options, place)
    except KeyboardInterrupt:
        return 0
    finally:
        place.close()
        stack.stop()


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("edgewise dev", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=_port, default=os.environ.get("PORT", "8787"), help="0: any that is free")
    parser.add_argument("--host", default="127.0.0.1", help="loopback unless you know better (default %(default)s)")
    parser.add_argument("--lambda", dest="as_lambda", action="store_true", help="run the functions as Lambda would")
    parser.add_argument("--concurrency", type=int, default=4, help="with --lambda: environments at most")
    parser.add_argument("--no-reload", dest="reload", action="store_false", help="do not restart on a changed file")
    return parser.parse_args(argv)


def _port(word: str) -> int:
    if not word.isdecimal() or int(word) > 65_535:
        raise argparse.ArgumentTypeError(f"{word!r} is no port (0 to 65535)")
    return int(word)


def _place(host: str, port: int) -> socket.socket:
    """A socket at the port, or for 0 at one that is free. It is held from here on: what starts before the gateway
    takes ports too. Raises OSError."""
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind((host, port))
    except OSError:
        place.close()
        raise
    return place


def gateway_environment(stack: Mapping[str, str], key: str, outside: Mapping[str, str]) -> dict[str, str]:
    """The gateway's settings on a laptop; whatever `outside` already says wins."""
    return {
        "EDGEWISE_ROOT_KEY": key,
        "EDGEWISE_STAGE": "dev",
        "EDGEWISE_LOCAL_MODEL": outside.get("EDGEWISE_LOCAL_MODEL", "true"),
        "EDGEWISE_SCRIPTED_MODEL": outside.get("EDGEWISE_SCRIPTED_MODEL", "true"),
        # moto answers in tens of milliseconds on a busy laptop, where DynamoDB takes a few.
        "EDGEWISE_CACHE_TIMEOUT_S": outside.get("EDGEWISE_CACHE_TIMEOUT_S", "2"),
        **stack,
    }


def _under_uvicorn(options: argparse.Namespace, place: socket.socket) -> int:
    import uvicorn
    from uvicorn.supervisors import ChangeReload

    package = Path(__file__).resolve().parents[1]
    config = uvicorn.Config(
        "edgewise.local.asgi:application",
        factory=True,
        reload=options.reload,
        reload_dirs=[str(package)] if options.reload else None,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    server = uvicorn.Server(config)
    if options.reload:
        ChangeReload(config, target=server.run, sockets=[place]).run()
    else:
        server.run(sockets=[place])
    return 0


def _as_lambda(options: argparse.Namespace, place: socket.socket) -> int:
    import asyncio
    from contextlib import suppress

    from edgewise.local.serve import serve_lambda

    async def run() -> None:
        serving = asyncio.current_task()
        assert serving is not None
        # As Ctrl-C does: environments that are frozen do not end by themselves.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
        with suppress(asyncio.CancelledError):
            await serve_lambda(place, options.concurrency)

    asyncio.run(run())
    return 0


def _greet(root: str, key: str) -> None:
    """Print the snippets once the gateway answers."""
    until = time.monotonic() + 90
    while (names := _models(root, key)) is None:
        if time.monotonic() > until:
            print("edgewise dev: the gateway did not come up", file=sys.stderr)
            return
        time.sleep(0.1)
    print(SNIPPETS.format(url=f"{root}/v1", root=root, key=key, models=_told(names)), flush=True)


def _models(root: str, key: str) -> list[str] | None:
    """The models that can be asked for; None while nobody answers."""
    asking = urllib.request.Request(f"{root}/v1/models", headers={"Authorization": f"Bearer {key}"})  # noqa: S310
    try:
        with urllib.request.urlopen(asking, timeout=30) as answer:  # noqa: S310
            return [model["id"] for model in json.load(answer)["data"]]
    except OSError:
        return None


def _told(names: list[str]) -> str:
    providers = sorted({name.split("/", 1)[0] for name in names if "/" in name})
    small = "local/smollm2-135m is a very small model: it answers, but it is often wrong."
    real = [name for name in providers if name not in ("local", "scripted")]
    more = "" if real else " Set OPENAI_API_KEY, ANTHROPIC_API_KEY or AWS credentials and others join."
    return f"Providers: {', '.join(providers)}.{more}\n  {small}"

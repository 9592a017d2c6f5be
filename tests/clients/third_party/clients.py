"""The third-party clients, each with the packages of its own environment and the driver that exercises it.

The ranges are one major version wide: what breaks within it is worth knowing about.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Client:
    """`packages` are pip requirements, or npm ones when `node`. `driver` stands in `drivers/` or `node/`.

    suite  the driver is a pytest file, and its outcome is pytest's last line
    """

    name: str
    packages: tuple[str, ...]
    driver: str
    node: bool = False
    suite: bool = False


CLIENTS: tuple[Client, ...] = (
    Client(
        "langchain",
        ("langchain-tests>=1.1,<2", "langchain-openai>=1.1,<2"),
        "langchain_standard.py",
        suite=True,
    ),
    Client("llama-index", ("llama-index-llms-openai-like>=0.5,<1",), "with_llama_index.py"),
    Client("llm", ("llm>=0.36,<1",), "with_llm.py"),
    Client("instructor", ("instructor>=1.17,<2",), "with_instructor.py"),
    Client("pydantic-ai", ("pydantic-ai-slim[openai]>=1,<3",), "with_pydantic_ai.py"),
    Client("litellm", ("litellm>=1.80,<2", "mcp>=1,<3"), "with_litellm.py"),
    Client("openai-agents", ("openai-agents>=0.6,<1",), "with_openai_agents.py"),
    Client("ai-sdk", ("ai@^7.0.0", "@ai-sdk/openai-compatible@^3.0.0", "zod@^4.0.0"), "ai_sdk.mjs", node=True),
)

"""What others do: RouteLLM's published routers, and LiteLLM's complexity rule written anew from its description."""

from __future__ import annotations

import re

from edgewise.routing.tokens import estimate

PUBLISHED: dict[str, dict[str, tuple[float, float, float]]] = {
    "routellm_mmlu": {
        "RouteLLM BERT": (0.413, 0.722, 0.572),
        "RouteLLM causal LLM 8B": (0.355, 0.703, 0.600),
        "RouteLLM MF": (0.355, 0.714, 0.597),
        "RouteLLM SW": (0.354, 0.716, 0.603),
    },
    "routellm_gsm8k": {
        "RouteLLM BERT": (0.448, 0.791, 0.531),
        "RouteLLM causal LLM 8B": (0.336, 0.633, 0.622),
        "RouteLLM MF": (0.388, 0.726, 0.565),
        "RouteLLM SW": (0.412, 0.722, 0.568),
    },
    "routellm_mtbench": {
        "RouteLLM BERT": (0.196, 0.340, 0.751),
        "RouteLLM causal LLM 8B": (0.315, 0.488, 0.679),
        "RouteLLM MF": (0.134, 0.313, 0.802),
        "RouteLLM SW": (0.232, 0.360, 0.759),
    },
}
"""CPT50, CPT80, APGR of their best training mix (arXiv 2406.18665); on MMLU with about 1,500 gold labels."""

CODE = re.compile(r"\b(function|class|def|import|return|code|python|javascript|api|debug|algorithm|assert|sql)\b|```")
REASONING = re.compile(r"\b(step by step|explain why|reason|analy[sz]e|prove|derive|think through|logic|compare)\b")
TECHNICAL = re.compile(r"\b(architecture|distributed|kubernetes|database|protocol|encryption|theorem|optimi[sz]\w*)\b")
SIMPLE = re.compile(r"\b(what is|define|hello|hi|thanks|who is|when did)\b")
MULTI = re.compile(r"\b(first|then|finally|after that)\b|\b1[.)]|\bstep \d")


def litellm_score(prompt: str) -> float:
    """Seven weighted keyword dimensions, as the rule's published weights and cuts have it; steps are our reading."""
    text = prompt.lower()
    tokens = estimate(text)
    size = -1.0 if tokens < 15 else 0.0 if tokens < 400 else 1.0
    return (
        0.10 * size
        + 0.30 * min(1.0, 0.5 * len(CODE.findall(text)))
        + 0.25 * min(1.0, 0.5 * len(REASONING.findall(text)))
        + 0.25 * min(1.0, 0.5 * len(TECHNICAL.findall(text)))
        - 0.05 * bool(SIMPLE.search(text))
        + 0.03 * bool(MULTI.search(text))
        + 0.02 * (text.count("?") > 3)
    )


def litellm_tier(prompt: str) -> int:
    """0 simple, 1 medium, 2 complex, 3 reasoning."""
    score = litellm_score(prompt)
    return sum(score >= cut for cut in (0.15, 0.35, 0.60))

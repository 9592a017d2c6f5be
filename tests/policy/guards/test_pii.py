"""Personal data: what a checksum proves is found, what only looks alike is not, and redaction can be undone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.chat import Answer, Folding, unfold
from edgewise.policy.guards.mask import Mask
from edgewise.policy.guards.pii import CHINESE_CHECKS, CHINESE_WEIGHTS, NAMES, find, is_iban, luhn
from edgewise.unmask import Unmask

FOUND = [
    ("email", "write to jane.doe+x@mail.example.co.uk please"),
    ("card", "card 4111 1111 1111 1111, exp 12/29"),
    ("card", "5500-0055-5555-5559"),
    ("card", "378282246310005"),
    ("iban", "IBAN DE89 3704 0044 0532 0130 00 thanks"),
    ("iban", "GB82WEST12345698765432"),
    ("chinese_id", "身份证 11010519491231002X 谢谢"),
    ("phone", "call +49 170 1234567 now"),
    ("phone", "call (415) 555-2671"),
    ("phone", "手机 13812345678"),
    ("aws_key", "AKIAIOSFODNN7EXAMPLE"),
    ("api_key", "export OPENAI_API_KEY=sk-proj-abcdefghijklmnopqrstuvwx"),
    ("api_key", "token ghp_abcdefghijklmnopqrstuvwxyz0123456789"),
    ("private_key", "-----BEGIN RSA PRIVATE KEY-----\nMIIE"),
]
ALIKE = [
    "order 4111 1111 1111 1112 failed its checksum",
    "DE89 3704 0044 0532 0130 01 is no account",
    "110105194912310021 has a wrong check digit",
    "11010519491331002X was born in month 13",
    "π is 3.14159265358979323846",
    "version 2.10.4, build 20240101123456",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
    "uuid 123e4567-e89b-12d3-a456-426614174000",
    "the year 2024 and the sum 1,000,000,000",
    "user@localhost and @mention and a@b",
    "sk-learn is a library",
    "IPv4 192.168.100.200 and time 12:34:56",
    "0000000000000000",
    "1800000000 seconds since the epoch, 1800000000000 ms",
]


@pytest.mark.parametrize(("kind", "text"), FOUND)
def test_what_is_proved_is_found(kind: str, text: str) -> None:
    assert [finding.kind for finding in find(text)] == [kind]


@pytest.mark.parametrize("text", ALIKE)
def test_what_only_looks_alike_is_not(text: str) -> None:
    assert find(text) == []


@given(st.text(max_size=300))
def test_any_text_can_be_read(text: str) -> None:
    findings = find(text)
    assert all(0 <= f.start < f.end <= len(text) and f.kind in NAMES for f in findings)


@given(st.from_regex(r"\A4[0-9]{14}\Z"))
def test_one_digit_in_ten_completes_a_card(start: str) -> None:
    assert sum(luhn(start + str(digit)) for digit in range(10)) == 1


def test_an_iban_with_two_digits_swapped_is_none() -> None:
    assert is_iban("DE89370400440532013000") and not is_iban("DE98370400440532013000")


def test_the_chinese_check_digit_is_the_standards() -> None:
    total = sum(int(d) * w for d, w in zip("11010519491231002", CHINESE_WEIGHTS, strict=True))
    assert CHINESE_CHECKS[total % 11] == "X"


def masked(text: str) -> tuple[str, Mask]:
    mask = Mask(text)
    return mask.text(text), mask


def test_the_same_data_gets_the_same_placeholder() -> None:
    hidden, mask = masked("a@b.io wrote to c@d.io, and a@b.io again")
    assert hidden == "[EMAIL_1] wrote to [EMAIL_2], and [EMAIL_1] again"
    assert mask.masked == {"[EMAIL_1]": "a@b.io", "[EMAIL_2]": "c@d.io"}


def test_a_long_list_is_masked_in_a_time_that_grows_with_it() -> None:
    """Were each finding held against all the others, or looked for in all the text, this would take minutes."""
    text = "[[EMAIL_7]] " + " ".join(f"u{number}@x.org" for number in range(30_000))
    mask = Mask(text)
    assert mask.text(text).endswith(" [[[EMAIL_30000]]]")
    assert len(mask.masked) == 30_000


def test_text_that_looks_like_a_placeholder_is_left_alone() -> None:
    hidden, mask = masked("literally [EMAIL_1] and a@b.io")
    assert hidden == "literally [EMAIL_1] and [[EMAIL_1]]"
    assert Unmask(mask.masked)._text(hidden) == "literally [EMAIL_1] and a@b.io"


def answer_of(text: str, arguments: str | None = None) -> Answer:
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if arguments is not None:
        message["tool_calls"] = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}]
    return Answer({"choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]})


MARKS = {"[EMAIL_1]": 'a"b@c.io', "[EMAIL_11]": "x@y.io", "[CARD_1]": "4111"}
pieces = st.lists(
    st.sampled_from([*MARKS, "[", "]", "[EMAIL_", "1", "[[", " text ", "é", "[CARD_1", "]]"]), max_size=20
).map("".join)


@given(text=pieces, arguments=st.none() | pieces, size=st.integers(1, 9))
def test_a_restored_stream_is_the_restored_answer_however_it_is_cut(
    text: str, arguments: str | None, size: int
) -> None:
    answer = answer_of(text, arguments)
    unmask, folding = Unmask(MARKS), Folding()
    for chunk in unfold(answer, id="c", created=0, piece_chars=size):
        for call in (chunk.get("choices") or [{}])[0].get("delta", {}).get("tool_calls") or ():
            call.setdefault("index", 0)
        for restored in unmask.chunk(chunk):
            folding.add(restored)
    whole = Unmask(MARKS).answer(answer)
    assert folding.answer().text == whole.text
    if arguments:
        told = folding.answer().tool_calls[0]["function"]["arguments"]
        assert told == whole.tool_calls[0]["function"]["arguments"]

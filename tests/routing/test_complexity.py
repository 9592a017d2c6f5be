import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.routing.complexity import DENSE, features, normalised, weights

QUESTION = (
    "If each of 7 workers lays 12 bricks a minute, but only half of them work, how many bricks are laid in 3 hours?"
)
DRESSES = (
    "{}",
    "  {}\n\n",
    "Please answer the following question: {}",
    "Hi! Could you help me with this? {} Thank you very much!",
    "Question: {}\nAnswer:",
    "你好，请回答以下问题：\n{}\n谢谢。",
)


@pytest.mark.parametrize("dress", DRESSES)
def test_the_same_question_counts_the_same_however_it_is_dressed(dress: str) -> None:
    assert normalised(dress.format(QUESTION.upper())) == normalised(QUESTION)


def test_a_wrapper_is_kept_where_it_is_all_there_is() -> None:
    assert normalised("Hello!") == "hello!"
    assert normalised("你好") == "你好"


@given(st.text(max_size=400))
def test_any_text_has_finite_counts_and_a_difficulty(text: str) -> None:
    counts = features(normalised(text))
    assert set(DENSE) <= set(counts)
    assert 0.0 < weights().difficulty(counts) < 1.0


@given(st.text(max_size=200))
def test_case_and_spacing_change_nothing(text: str) -> None:
    if text.lower().upper().lower() == text.lower():
        assert normalised("\n " + text.upper().replace(" ", "  ")) == normalised(text)


def test_a_long_chain_of_conditions_is_harder_than_a_greeting() -> None:
    fitted = weights()
    assert fitted.difficulty(features(normalised(QUESTION))) > fitted.difficulty(features(normalised("Say hello.")))


def test_chinese_conditions_and_words_are_counted() -> None:
    counts = features(normalised("如果每个工人每分钟砌12块砖，但是只有一半的人在工作，三小时一共砌多少块砖？"))
    assert counts["words"] > 2.5 and counts["conditions"] > 1 and counts["fractions"] > 0


def test_weights_without_a_source_have_never_seen_it() -> None:
    assert weights("mmlu").weight != weights().weight != weights("gsm8k").weight

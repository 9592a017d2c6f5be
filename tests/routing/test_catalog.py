from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from edgewise.chat import Usage
from edgewise.price import price_of
from edgewise.routing.catalog import Catalog
from edgewise.settings import Upstream

HOSTED = ["openai", "anthropic", "bedrock"]


@pytest.fixture(scope="module")
def hosted() -> Catalog:
    return Catalog.load(HOSTED, region="eu-west-1")


def test_only_models_of_configured_providers_are_offered() -> None:
    offered = Catalog.load(["anthropic"]).offered()
    assert offered and {model.provider for model in offered} == {"anthropic"}


def test_a_laptop_with_a_local_and_a_scripted_model_offers_the_local_one() -> None:
    assert [model.provider for model in Catalog.load(["local", "scripted"]).offered()] == ["local"]


def test_a_house_with_scripted_models_only_offers_those() -> None:
    assert {model.provider for model in Catalog.load(["scripted"]).offered()} == {"scripted"}


def test_superseded_models_are_found_by_name_but_never_offered(hosted: Catalog) -> None:
    assert hosted.find("openai/gpt-4")[0].price is not None
    assert "openai/gpt-4" not in {model.name for model in hosted.offered()}


def test_a_bare_id_is_found_wherever_it_is_configured(hosted: Catalog) -> None:
    assert [model.name for model in hosted.find("gpt-4o-mini")] == ["openai/gpt-4o-mini"]


def test_a_dated_id_is_sent_as_it_was_asked_and_priced_as_its_model(hosted: Catalog) -> None:
    (found,) = hosted.find("gpt-4o-mini-2024-07-18")
    assert found.id == "gpt-4o-mini-2024-07-18"
    assert found.price == hosted.find("gpt-4o-mini")[0].price


def test_an_inference_profile_is_named_for_the_regions_geography(hosted: Catalog) -> None:
    assert any(model.id.startswith("eu.anthropic.") for model in hosted.models.values())
    (found,) = hosted.find("bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0")
    assert found.price is not None and found.id.startswith("us.")


def test_an_unlisted_id_of_a_named_provider_passes_with_an_unknown_price(hosted: Catalog) -> None:
    (found,) = hosted.find("openai/gpt-from-the-future")
    assert found.price is None


def test_an_upstream_that_lists_its_models_takes_no_other() -> None:
    upstreams = [
        Upstream(name="vllm", base_url="http://x", models=("qwen",)),
        Upstream(name="ollama", base_url="http://y"),
    ]
    found = Catalog.load([], upstreams=upstreams)
    assert [m.name for m in found.find("qwen")] == ["vllm/qwen"]
    assert found.find("vllm/other") == ()
    assert found.find("ollama/llama3:8b")[0].id == "llama3:8b"


def test_overrides_change_rows_and_add_them() -> None:
    overrides: dict[str, dict[str, Any]] = {
        "openai/gpt-4o-mini": {"price": {"i": "1", "o": "2"}, "auto": False},
        "openai/own-tune": {"tier": "large", "price": {"i": "5", "o": "6"}},
    }
    found = Catalog.load(["openai"], overrides=overrides)
    assert found.models["openai/gpt-4o-mini"].price == price_of({"i": "1", "o": "2"})
    assert "openai/gpt-4o-mini" not in {model.name for model in found.offered()}
    assert found.models["openai/own-tune"].tier == "large"


def test_the_version_changes_with_the_offer() -> None:
    plain = Catalog.load(["openai"])
    assert plain.version == Catalog.load(["openai"]).version
    assert plain.version != Catalog.load(["openai"], overrides={"openai/x": {}}).version


def test_the_same_model_elsewhere_is_its_twin(hosted: Catalog) -> None:
    (haiku,) = hosted.find("anthropic/claude-haiku-4-5")
    assert all("claude-haiku-4-5" in twin.id and twin.provider == "bedrock" for twin in hosted.twins(haiku))
    assert hosted.twins(haiku)


def test_prices_have_steps_and_batch_rates() -> None:
    price = price_of(
        {"i": "3", "o": "15", "r": "0.3", "a": [200000, {"i": "6", "o": "22.5"}], "b": {"i": "1.5", "o": "7.5"}}
    )
    assert price.cost(Usage(1_000, 100)) == Decimal("0.0045")
    assert price.cost(Usage(300_000, 0)) == Decimal("1.8")
    assert price.cost(Usage(1_000, 0), "batch") == Decimal("0.0015")


def test_every_listed_price_is_positive_or_the_models_own_machine(hosted: Catalog) -> None:
    for model in hosted.models.values():
        assert model.price is None or model.price.output > 0, model.name


def test_the_compiled_file_is_what_the_builder_writes_today(tmp_path: Path) -> None:
    """The catalogue was compiled by its own builder, from the traits beside it."""
    from datetime import date

    from edgewise.routing import compile as compiling

    own = Path(compiling.__file__).with_name("catalog.json")
    compiling.write(tmp_path / "catalog.json", date.fromisoformat(Catalog.load([]).as_of))
    assert (tmp_path / "catalog.json").read_text() == own.read_text()

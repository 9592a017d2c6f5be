"""The one URL check, against the ways that such checks are passed."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.errors import InvalidRequest
from edgewise.policy.guards.urls import check_resolved, check_url, is_public

FINE = ["https://example.com/a.png", "https://cdn.example.co.uk:443/x?y=z#f", "https://8.8.8.8/", "https://a-b.io"]
REFUSED = [
    "http://example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "https://127.0.0.1/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://0x7f000001/",
    "https://169.254.169.254/latest/meta-data/",
    "https://169.254.100.1/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[fd00::1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://10.0.0.1/",
    "https://100.64.0.1/",
    "https://localhost/",
    "https://LOCALHOST./",
    "https://metadata.google.internal/",
    "https://intranet/",
    "https://example.com:22/",
    "https://user:pass@example.com/",
    "https://example.com\\@127.0.0.1/",
    "https://127.0.0.1\\@example.com/",
    "https://example.com /",
    "https://example.com/\r\nHost: x",
    "https://exa\tmple.com/",
    "https://ⓔxample.com/",
    "https://example。com/",
    "//example.com/",
    "https:example.com",
    "https:///example.com",
    "https://-a.example.com/",
    "https://" + "a" * 9000,
    "",
]


@pytest.mark.parametrize("url", FINE)
def test_a_plain_public_url_is_fine(url: str) -> None:
    assert check_url(url).url == url


@pytest.mark.parametrize("url", REFUSED)
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_url(url, param="image_url")
    assert caught.value.code == "url_not_allowed"


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["::1"], []])
async def test_a_public_name_for_a_private_address_is_refused(addresses: list[str]) -> None:
    async def resolve(_: str) -> Iterable[str]:
        return addresses

    with pytest.raises(InvalidRequest):
        await check_resolved("https://example.com/", resolve)


async def test_who_fetches_gets_the_addresses_that_were_checked() -> None:
    async def resolve(_: str) -> Iterable[str]:
        return ["93.184.216.34"]

    assert (await check_resolved("https://example.com/", resolve)).addresses == ("93.184.216.34",)


@given(st.ip_addresses(v=4))
def test_an_address_wrapped_in_another_is_judged_by_itself(address: object) -> None:
    assert is_public(f"::ffff:{address}") == is_public(str(address))

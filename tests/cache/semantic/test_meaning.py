"""Matching by meaning, whole: what is found, what is refused, and who may see what. The embedder is a fake with real
behaviour (words hashed to directions); storage is in memory and in moto."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pytest

from edgewise.aws import Table
from edgewise.cache.local import LocalStore
from edgewise.cache.port import Kept
from edgewise.cache.s3 import Bucket
from edgewise.cache.semantic.dynamodb import DynamoEvidence, DynamoLog
from edgewise.cache.semantic.index import Row
from edgewise.cache.semantic.library import Library
from edgewise.cache.semantic.log import Added, LocalLog, LocalSnapshots
from edgewise.cache.semantic.meaning import MeaningOptions, SemanticMeaning
from edgewise.cache.semantic.s3 import S3Snapshots
from edgewise.cache.semantic.shadow import EvidenceStore, Licences, LocalEvidence, Opinion
from edgewise.chat import Answer
from edgewise.clock import FakeClock
from edgewise.words import CachePolicy, Entry, Hit, Plan, Principal, Query
from tests.cache.parts import answer_of, plan_of

QUESTION = "How do I renew my library card?"
REPEAT = "how do i renew my libary card"
REWORDED = "How can I renew a library card?"
OTHER = "How do I cancel my library card?"


class WordEmbedder:
    """Unit vectors from the words of a text: near when words are shared."""

    id = "words/1"
    dim = 64

    def encode(self, texts: list[str]) -> np.ndarray:
        rows = np.zeros((len(texts), self.dim), np.float32)
        for at, text in enumerate(texts):
            for word in text.lower().strip("?").split():
                rows[at, int(hashlib.sha256(word.encode()).hexdigest(), 16) % self.dim] += 1
        found: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return found


class Words:
    """One embedder for all."""

    def of(self, text: str) -> WordEmbedder:
        return WordEmbedder()


@dataclass
class Oracle:
    """A judge that knows."""

    right: bool = True
    false_alarm: float = 0.0
    missed: float = 0.0
    calls: int = 0
    read: str = ""

    async def judge(self, asked: str, kept: str, answer: str) -> Opinion:
        self.calls += 1
        self.read = answer
        return Opinion(self.right)


def query(text: str, tenant: str = "acme", partition: str = "p", solo: str | None = None) -> Query:
    key = hashlib.sha256(f"{tenant}{partition}{text}".encode()).hexdigest()
    return Query(tenant, "default", "m", key, partition=partition, text=text, nearness="semantic", solo_partition=solo)


def plan(tenant: str = "acme", key: str = "k1", bound: float = 0.1) -> Plan:
    return replace(
        plan_of(tenant, mode="semantic"),
        principal=Principal(tenant, key),
        cache=CachePolicy("semantic", max_wrong_share=bound),
    )


def entry_of(asked: Query, clock: FakeClock, life_s: float = 100.0) -> Entry:
    now = clock.now()
    return Entry(asked.key, answer_of(), now, now + life_s, now + life_s, "small", "scripted", text=asked.text)


class Bench:
    """A meaning over a local store, and what tests do with it."""

    def __init__(
        self,
        clock: FakeClock,
        judge: Oracle | None = None,
        options: MeaningOptions | None = None,
        library: Library | None = None,
    ) -> None:
        self.clock = clock
        self.store = LocalStore(clock)
        self.judge = judge
        self.options = options
        self.meaning = self.another(library or Library(clock, LocalLog(), LocalSnapshots()))

    def another(self, library: Library, evidence: EvidenceStore | None = None) -> SemanticMeaning:
        licences = Licences(self.clock, evidence or LocalEvidence(self.clock, 1e6), self.judge)
        return SemanticMeaning(
            self.clock, self.store, Words(), library, licences, options=self.options, judge=self.judge
        )

    async def keep(self, asked: Query, who: Plan, life_s: float = 100.0) -> Entry:
        entry = entry_of(asked, self.clock, life_s)
        # Where tenants share, each also has what it asked for as its own.
        for scope in {asked.tenant, who.tenant}:
            await self.store.put(scope, Kept(entry))
        await self.meaning.add(asked, who, entry)
        return entry


async def test_a_repeat_is_found_and_an_opposite_is_not(clock: FakeClock) -> None:
    bench = Bench(clock)
    entry = await bench.keep(query(QUESTION), plan())
    hit = await bench.meaning.find(query(REPEAT), plan())
    assert isinstance(hit, Hit) and hit.entry.key == entry.key and hit.kind == "semantic" and hit.tier == "index"
    assert hit.similarity is not None and hit.evidence["ranking"] == "repeat"
    assert await bench.meaning.find(query(OTHER), plan()) == "unverified"


async def test_nothing_crosses_a_partition(clock: FakeClock) -> None:
    bench = Bench(clock)
    await bench.keep(query(QUESTION), plan())
    assert await bench.meaning.find(query(REPEAT, partition="q"), plan()) == "absent"


async def test_a_turn_that_stands_alone_is_found_outside_its_conversation(clock: FakeClock) -> None:
    bench = Bench(clock)
    await bench.keep(query(QUESTION, partition="talk 1", solo="s"), plan())
    assert isinstance(await bench.meaning.find(query(REPEAT, partition="talk 2", solo="s"), plan()), Hit)
    assert await bench.meaning.find(query(REPEAT, partition="talk 2"), plan()) == "absent"


async def test_an_expired_entry_is_never_served(clock: FakeClock) -> None:
    bench = Bench(clock)
    await bench.keep(query(QUESTION), plan(), life_s=10)
    clock.time += 10
    assert await bench.meaning.find(query(REPEAT), plan()) == "absent"


async def test_an_entry_that_the_store_has_lost_is_forgotten(clock: FakeClock) -> None:
    bench = Bench(clock)
    entry = await bench.keep(query(QUESTION), plan())
    await bench.store.delete("acme", entry.key)
    assert await bench.meaning.find(query(REPEAT), plan()) == "gone"
    assert await bench.meaning.find(query(REPEAT), plan()) == "absent"


async def test_a_shared_entry_needs_several_who_asked_and_tells_nothing(clock: FakeClock) -> None:
    bench = Bench(clock, options=MeaningOptions(quorum=3))
    tenant = "shared:faq"
    await bench.keep(query(QUESTION, tenant), plan("a", "1"))
    own = await bench.meaning.find(query(REPEAT, tenant), plan("a", "1"))
    assert isinstance(own, Hit) and own.similarity is None and own.evidence == {}
    for _ in range(2):
        # Also who has asked before: what it was told then was its own, and this is somebody else's.
        assert await bench.meaning.find(query(REPEAT, tenant), plan("b", "2")) == "quorum"
    assert await bench.meaning.find(query(REPEAT, tenant), plan("c", "3")) == "quorum"
    assert isinstance(await bench.meaning.find(query(REPEAT, tenant), plan("d", "4")), Hit)


async def test_below_the_quorum_ones_own_refusal_hides_nobody_elses_entry(clock: FakeClock) -> None:
    bench, tenant = Bench(clock, options=MeaningOptions(quorum=3)), "shared:faq"
    entry = await bench.keep(query(QUESTION, tenant), plan("a", "1"))
    await bench.store.put("b", Kept(replace(entry, status=400)))
    assert await bench.meaning.find(query(REPEAT, tenant), plan("b", "2")) == "quorum"
    assert isinstance(await bench.meaning.find(query(REPEAT, tenant), plan("a", "1")), Hit)


async def test_the_judge_reads_the_answer_that_was_served(clock: FakeClock) -> None:
    """Below the quorum that is the asker's own, not the one that lies where tenants share."""
    judge, tenant = Oracle(), "shared:faq"
    bench = Bench(clock, judge, options=MeaningOptions(quorum=3))
    entry = await bench.keep(query(QUESTION, tenant), plan("a", "1"))
    await bench.store.put(tenant, Kept(replace(entry, answer=answer_of("another's"), principals=("a", "b"))))
    own = await bench.meaning.find(query(REPEAT, tenant), plan("a", "1"))
    assert isinstance(own, Hit) and judge.read == own.entry.answer.text != "another's"


async def test_a_report_of_a_wrong_hit_removes_the_entry(clock: FakeClock) -> None:
    bench = Bench(clock)
    entry = await bench.keep(query(QUESTION), plan())
    assert isinstance(await bench.meaning.find(query(REPEAT), plan()), Hit)
    await bench.meaning.feedback(entry.key, wrong=True, evidence={})
    assert await bench.meaning.find(query(REPEAT), plan()) == "absent"


async def test_with_a_judge_rewordings_wait_for_labels_and_then_become_wordings(clock: FakeClock) -> None:
    """The judge sees the first candidates; a pair it calls right is another wording of the entry from then on."""
    bench = Bench(clock, Oracle(right=True))
    await bench.keep(query(QUESTION), plan())
    first = await bench.meaning.find(query(REWORDED), plan())
    assert first == "unlicensed" and bench.judge is not None and bench.judge.calls == 1
    again = await bench.meaning.find(query(REWORDED), plan())
    assert isinstance(again, Hit) and again.evidence["ranking"] == "repeat"


async def test_a_wrong_answer_to_the_same_question_is_dropped(clock: FakeClock) -> None:
    bench = Bench(clock, Oracle(right=False))
    await bench.keep(query(QUESTION), plan())
    assert isinstance(await bench.meaning.find(query(REPEAT), plan()), Hit)
    assert await bench.meaning.find(query(REPEAT), plan()) == "absent"


async def test_after_an_alarm_old_answers_are_served_once_they_were_called_right_again(
    clock: FakeClock, state_table: Table
) -> None:
    """Two processes: wrong hits of one rest both, the judge's word to either counts for both."""
    judge = Oracle(right=False)
    bench = Bench(clock, judge)
    library = Library(clock, LocalLog(), LocalSnapshots())
    here, there = (bench.another(library, DynamoEvidence(state_table, clock, 1e6)) for _ in range(2))
    bench.meaning = here
    await bench.keep(query(QUESTION, partition="old"), plan(), life_s=900)
    clock.time += 1
    for _ in range(2):
        await bench.keep(query(QUESTION), plan())
        assert isinstance(await here.find(query(REPEAT), plan()), Hit)
    judge.right = True
    clock.time += 15
    assert await there.find(query(REPEAT, partition="old"), plan()) == "unconfirmed"
    again = [await who.find(query(REPEAT, partition="old"), plan()) for who in (there, here) * 4]
    assert set(again) == {"resting"}
    await there.find(query(REPEAT, partition="old"), plan())
    clock.time += 15
    assert isinstance(await here.find(query(REPEAT, partition="old"), plan()), Hit)


async def test_long_texts_and_unread_languages_are_left_alone(clock: FakeClock) -> None:
    bench = Bench(clock, options=MeaningOptions(longest_chars=20))
    await bench.keep(query(QUESTION), plan())
    assert await bench.meaning.find(query(QUESTION), plan()) == "long"


async def test_conversations_that_nobody_goes_on_with_are_forgotten_and_found_again(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every conversation is a partition: without a bound, one empty index each would stay for good."""
    monkeypatch.setattr("edgewise.cache.semantic.library.MOST_OPEN", 3)
    library, vector = Library(clock, LocalLog(), LocalSnapshots()), np.full(64, 0.125, np.float32)
    await library.change("kept", 64, Added(Row("a", "a", "?", clock.time + 9), vector))
    for number in range(10):
        assert await library.nearest(f"other {number}", vector, 1) == []
    assert len(library._held) == 3
    assert [near.row.id for near in await library.nearest("kept", vector, 1)] == ["a"]


async def test_another_process_sees_changes_within_the_staleness(
    clock: FakeClock, cache_table: Table, bucket: str
) -> None:
    one, two = (
        Library(clock, DynamoLog(cache_table, clock), S3Snapshots(Bucket(cache_table.aws, bucket))) for _ in range(2)
    )
    bench = Bench(clock, library=one)
    assert await bench.meaning.find(query(QUESTION), plan()) == "absent"
    entry = await bench.keep(query(QUESTION), plan())
    other = bench.another(two)
    assert isinstance(await other.find(query(REPEAT), plan()), Hit)
    await bench.meaning.remove(entry.key, None)
    clock.time += 5
    assert await other.find(query(REPEAT), plan()) == "absent"


async def test_a_snapshot_and_the_log_since_make_the_same_index(
    clock: FakeClock, cache_table: Table, bucket: str
) -> None:
    log, snapshots = DynamoLog(cache_table, clock), S3Snapshots(Bucket(cache_table.aws, bucket))
    first = Library(clock, log, snapshots)
    embed = WordEmbedder()
    for i in range(5):
        vector = embed.encode([f"question {i}"])[0]
        await first.change("p", 64, Added(Row(str(i), str(i), f"question {i}", clock.now() + 900), vector))
    assert await first.snapshot("p", 64) == 5
    clock.time += 60
    last = Row("late", "late", "late one", clock.now() + 900)
    await first.change("p", 64, Added(last, embed.encode(["late one"])[0]))
    second = Library(clock, log, snapshots)
    index = await second.open("p", 64)
    assert {row.id for row in index.rows} == {"0", "1", "2", "3", "4", "late"}
    assert index.nearest(embed.encode(["late one"])[0], 1, clock.now())[0].row.id == "late"


async def test_evidence_of_many_processes_adds_up(clock: FakeClock, state_table: Table) -> None:
    one, two = (DynamoEvidence(state_table, clock, 30 * 86_400.0) for _ in range(2))
    for store in (one, two, two):
        await store.add("acme/default", {"same": 2, "topic": 0}, wrong=False)
    await one.add("acme/default", {"same": 2}, wrong=True)
    found = await two.read("acme/default")
    right, wrong = found.cells["same"][2]
    assert right == pytest.approx(3, rel=0.2) and wrong == pytest.approx(1, rel=0.2)


def test_the_answer_type_is_whole() -> None:
    assert isinstance(answer_of(), Answer)

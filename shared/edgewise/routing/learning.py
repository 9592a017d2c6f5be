"""How the room learns while it serves: what is asked again in the shadow, what is remembered, what is refreshed.

A share of requests that the operator sets (`shadow`) is asked again, behind the answer, of the rest of a panel: two
cheap models of different makers and a strong one. What each concluded makes a label for the pair of cheapest and
strong, and a row for the plans. While learning is on, each question is remembered for a few days without its text, so
that an opinion that comes later (`/v1/feedback`) can be joined to it.

Everything here runs behind the request. Without a table a label teaches this process alone, and nothing is remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed

from edgewise.background import Background
from edgewise.chat import Answer, ChatRequest
from edgewise.clock import Clock, Deadline
from edgewise.errors import EdgewiseError, ModelNotFound
from edgewise.routing import evidence
from edgewise.routing.ask import Ask, demand_of, price, total
from edgewise.routing.complexity import question_of
from edgewise.routing.fitted import FittedPlans
from edgewise.routing.knowing import MOST_PROOFS, PAIR, Counts, Knowing, gain_of, pair_of
from edgewise.routing.labels import Asked, Label, Panel, grouped
from edgewise.routing.learn import Seen
from edgewise.routing.scorer import ends, partner
from edgewise.routing.tokens import Corrections
from edgewise.routing.upkeep import PLANS, Labels, learner_of
from edgewise.words import Attempt, Caller, Choice, Live, Model, Plan, Step

REFRESH_S = 300.0
"""How old learned states may be in one process."""
SHADOW = "shadow"
"""The feature of a choice that says who is asked again."""

Named = Callable[[str], Sequence[Model]]


@dataclass(slots=True)
class Learning:
    """What is learned, and where labels go. `table` None: this process alone."""

    clock: Clock
    knowing: Knowing
    corrections: Corrections
    named: Named
    table: Labels | None = None
    background: Background | None = None
    _refreshed: float | None = None
    _versions: dict[str, int] = field(default_factory=dict)
    _proved: dict[tuple[str, str], float] = field(default_factory=dict)

    # What is decided with the choice.

    def mark(self, choice: Choice, ask: Ask, tenant: str) -> Choice:
        """`choice` with the features that learning needs later."""
        share = ask.options.shadow or 0.0
        weak, strong = ends(ask.candidates, ask.reference)
        if weak is strong:
            return choice
        if ask.options.guarantee:
            self._prove(pair_of(weak.model, strong.model), tenant)
        features = {**choice.features, PAIR: [weak.model.name, strong.model.name]}
        # Only where answers can be compared: on open text, agreement means nothing.
        if share > 0 and ask.comparable is not None and self.clock.uniform() < share:
            second = partner(ask, weak, strong)
            panel = [weak, strong] if second is None else [weak, second, strong]
            features[SHADOW] = [candidate.model.name for candidate in panel]
        return changed(choice, features=features)

    # What follows an answer.

    def follow_up(self, plan: Plan, choice: Choice, live: Live, request_id: str) -> Choice | None:
        """Remember what was asked; the rest of the panel to ask again, where it is drawn."""
        pair = choice.features[PAIR]
        # Who forbids keeping the answer hardly wants the question hashed.
        if plan.request.cache.no_store:
            return None
        if self.table is not None and self.background is not None:
            self.background.spawn(self._remember(self.table, plan, (pair[0], pair[1]), live.model, request_id))
        panel = choice.features.get(SHADOW)
        # Past a budget's soft limit money is for answers.
        if panel is None or plan.prefer_cheap:
            return None
        models = [m for name in panel if name != live.model.name for m in self._known(name)]
        demand = demand_of(plan.request)
        prices = [price(model, demand, self.corrections) for model in models]
        return Choice(
            steps=tuple(Step((model,)) for model in models),
            strategy=SHADOW,
            reason="asked again behind the answer, to learn",
            worst_usd=total([worst for _, worst in prices]),
            features={PAIR: pair, SHADOW: panel},
        )

    async def _remember(self, table: Labels, plan: Plan, pair: tuple[str, str], served: Model, request_id: str) -> None:
        asked = Asked(self._seen(plan.request), served.name, pair, plan.tenant)
        await table.remember(request_id, asked)

    async def compare(
        self, shadow: Choice, plan: Plan, live: Live, caller: Caller, deadline: Deadline, trail: list[Attempt]
    ) -> None:
        """Ask the rest of the panel, and learn from what all of them said. Their failure is nobody's."""
        request = changed(plan.request, stream=False)
        kind = evidence.comparable(request)
        if kind is None or live.answer is None:
            return
        models = [model for step in shadow.steps for model in step.models]
        found = await asyncio.gather(*(_quietly(model, request, caller, deadline, trail) for model in models))
        answers = {live.model.name: live.answer}
        answers |= {m.name: answer for m, answer in zip(models, found, strict=True) if answer is not None}
        groups = grouped(answers, kind)
        weak, strong = shadow.features[PAIR]
        seen = self._seen(request)
        if weak in groups and strong in groups:
            agreed = groups[weak] == groups[strong] >= 0
            await self.label(f"{weak}|{strong}", Label(seen, gain_of(agreed), plan.tenant))
        panel = [name for name in shadow.features[SHADOW] if name in groups]
        if self.table is not None and len(panel) == len(shadow.features[SHADOW]) > 2:
            cost = {name: self._cost(name, answers[name]) for name in panel}
            said = {name: (groups[name], usd) for name, usd in cost.items() if usd is not None}
            if len(said) == len(panel):
                await self.table.write_panel(Panel(seen, said, live.model.name, live.confidence_source or ""))

    def _cost(self, name: str, answer: Answer) -> float | None:
        """What this answer costs at the model's price, US dollars; None when that can't be known."""
        model = next(iter(self._known(name)), None)
        if model is None or model.price is None or answer.usage is None:
            return None
        return float(model.price.cost(answer.usage))

    def _known(self, name: str) -> Sequence[Model]:
        """The model of a name that was known when the choice was made."""
        try:
            return self.named(name)[:1]
        except ModelNotFound:
            return ()

    def _seen(self, request: ChatRequest) -> Seen:
        return self.knowing.read(question_of(request)).seen

    async def label(self, pair: str, label: Label) -> None:
        """One label: into the table for all to learn from, or into this process alone."""
        if self.table is not None:
            await self.table.write(pair, label)
        else:
            self.knowing.learn(pair, label)

    async def told(self, tenant: str, request_id: str, score: float) -> bool:
        """An opinion on an answer, from -1 to 1, becomes a label; whether it did. The first one on a request counts."""
        asked = await self.table.recall(tenant, request_id) if self.table is not None else None
        label = asked.label(score) if asked is not None else None
        if asked is None or label is None:
            return False
        await self.label("|".join(asked.pair), label)
        return True

    # What upkeep has made of it.

    def refresh(self) -> None:
        """Load what upkeep has learned, now and then, behind the request that notices."""
        if self.table is None or self.background is None:
            return
        now = self.clock.tick()
        if self._refreshed is None or now - self._refreshed >= REFRESH_S:
            self._refreshed = now
            self.background.spawn(self.load())

    async def load(self) -> None:
        """Load every state whose version is not the one at hand."""
        assert self.table is not None
        for name, version in (await self.table.versions()).items():
            if version == self._versions.get(name, 0):
                continue
            if name == PLANS:
                await self._load_plans()
            elif (stored := await self.table.load(name)) is not None:
                self.knowing.learners[name] = learner_of(stored)
                # What is proved rests on it: proofs are read anew with the next request that needs one.
                self._proved = {held: at for held, at in self._proved.items() if held[0] != name}
            self._versions[name] = version

    async def _load_plans(self) -> None:
        assert self.table is not None
        found = await self.table.load_plans()
        if found is None:
            return
        stored, counts = found
        self.knowing.counts = Counts(dict(counts))
        try:
            self.knowing.plans = FittedPlans.load(stored.state) if stored.state else None
        except ValueError:
            self.knowing.plans = None

    def _prove(self, pair: str, tenant: str) -> None:
        """Load what a tenant's guarantees are proved on, behind the request that asks for one."""
        if self.table is None or self.background is None:
            return
        now = self.clock.tick()
        if now - self._proved.get((pair, tenant), -REFRESH_S) >= REFRESH_S:
            if len(self._proved) >= MOST_PROOFS:
                self._proved.clear()
            self._proved[pair, tenant] = now
            self.background.spawn(self._load_proof(pair, tenant))

    async def _load_proof(self, pair: str, tenant: str) -> None:
        assert self.table is not None
        proof = await self.table.proof(pair, tenant)
        if proof:
            self.knowing.prove(pair, tenant, proof)


async def _quietly(
    model: Model, request: ChatRequest, caller: Caller, deadline: Deadline, trail: list[Attempt]
) -> Answer | None:
    own: list[Attempt] = []
    try:
        return await caller.complete(model, request, deadline, own)
    except EdgewiseError:
        return None
    finally:
        trail.extend(changed(attempt, role="shadow") for attempt in own)

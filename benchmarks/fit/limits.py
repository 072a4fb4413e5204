"""The limit in a setting: the bare model's seconds in every precision and on every part that a Basis adapts."""

from collections.abc import Mapping, Sequence
from functools import partial

from benchmarks.fit.bases import PARTS
from benchmarks.fit.limit import Bare, Batch, blocks_of
from benchmarks.fit.modes import Cohort, Made, Mode
from benchmarks.fit.plan import Setting
from benchmarks.fit.source import Source
from benchmarks.fit.stopwatch import Clock, Taken, Turn

WHOLE = "all"


class Limits:
    """Seconds a user by (part, precision), one for each round: a pass over the part, and a forward below it."""

    def __init__(
        self, source: Source, setting: Setting, wanted: bool, precisions: Sequence[str] = ("fp32", "bf16")
    ) -> None:
        self.source = source
        depth = len(blocks_of(source.base.module)[1])
        self._bare: dict[tuple[str, str], Bare] = {}
        for part in dict.fromkeys((WHOLE, *setting.bases)) if wanted else ():
            first = max(0, depth - (PARTS[part] or depth))
            for precision in precisions:
                self._bare[part, precision] = Bare(source.base.module, precision, first)
        self.passes: dict[tuple[str, str], list[float]] = {}
        self.below: dict[tuple[str, str], list[float]] = {}

    def tokens(self, cohort: Cohort) -> list[list[int]]:
        tokenizer, most = self.source.base.tokenizer, self.source.base.max_tokens
        texts = [example.text for user in cohort for example in user]
        return [list(ids) for ids in tokenizer(texts, truncation=True, max_length=most)["input_ids"]]

    def choose(self, cohort: Cohort) -> None:
        """Find each bare model's fastest way on a round's examples."""
        rows = self.tokens(cohort)
        for bare in self._bare.values():
            bare.choose(rows)

    def turns(self, cohorts: Sequence[Cohort]) -> list[Turn[Made]]:
        made: list[Turn[Made]] = []
        for key, bare in self._bare.items():
            batches = [bare.batches(self.tokens(cohort)) for cohort in cohorts]
            made.append(Turn(_name(key, "pass"), partial(_pass, bare, batches)))
            if bare.first:
                made.append(Turn(_name(key, "below"), partial(_below, bare, batches)))
        return made

    def keep(self, taken: Mapping[str, list[Taken[Made]]], cohorts: Sequence[Cohort], clock: Clock) -> None:
        """Take the seconds a user from the measured turns."""
        for key in self._bare:
            for kind, kept in (("pass", self.passes), ("below", self.below)):
                found = taken.get(_name(key, kind), [])
                kept[key] = [one.seconds(clock) / len(cohort) for one, cohort in zip(found, cohorts, strict=False)]

    def modes(self) -> list[tuple[Mode, list[float], str]]:
        """A row for each bare model: mode, seconds a user by round, and the way that was fastest."""
        return [
            (Mode("limit", _nothing, part, precision), self.passes[part, precision], f"{bare.way}")
            for (part, precision), bare in self._bare.items()
        ]


def _name(key: tuple[str, str], kind: str) -> str:
    return f"limit {kind} {key[0]} {key[1]}"


def _pass(bare: Bare, batches: Sequence[Sequence[Batch]], number: int) -> Made:
    bare.run(batches[number])
    return Made(1.0)


def _below(bare: Bare, batches: Sequence[Sequence[Batch]], number: int) -> Made:
    bare.below(batches[number])
    return Made(0.5)


def _nothing(_: Cohort) -> Made:
    return Made(1.0)

"""The spans of claimed runs. A cohort takes its steps together, but each run's own trace shows them.

So one trace holds what a host's request led to, whoever else was in the cohort, and a trace that is not recorded costs
nothing whoever else is. A run that is claimed again, even by another daemon, goes on in the same trace.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from daemon.logs import Fact
from daemon.messages import Member
from daemon.telemetry import Kind, Span, begin, ending
from daemon.telemetry_context import Trace, parse
from storage import Run


class RunSpans:
    """Of the runs that this daemon is carrying out. Thread-safe."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], Span] = {}

    @contextmanager
    def carried(self, runs: Sequence[Run]) -> Iterator[None]:
        """From the claim of `runs` until each is settled, or lost."""
        for run in runs:
            trace = parse(run.trace)
            if trace is not None and trace.sampled:
                self._open[run.id, run.epoch] = begin("run", trace, facts=_facts(run))
        try:
            yield
        finally:
            for run in runs:
                self.settled(run, "dropped")

    @contextmanager
    def step(
        self, name: str, runs: Sequence[Run], *, kind: Kind = Kind.INTERNAL, facts: Mapping[str, Fact] | None = None
    ) -> Iterator[Mapping[int, Trace]]:
        """A step that `runs` take together; by run, the trace to follow within it."""
        spans: dict[int, Span] = {}
        with ExitStack() as ends:
            for run in runs:
                if (whole := self._open.get((run.id, run.epoch))) is not None:
                    shared = {"users": len(runs), **_facts(run), **(facts or {})}
                    spans[run.id] = begin(name, whole.trace, kind=kind, facts=shared)
                    ends.enter_context(ending(spans[run.id]))
            yield {run: span.trace for run, span in spans.items()}

    def settled(self, run: Run, outcome: str, code: str | None = None) -> None:
        """The run's claim is over."""
        span = self._open.pop((run.id, run.epoch), None)
        if span is not None:
            span.end({"outcome": outcome, "code": code})


def note_opened(runs: Iterable[Run]) -> None:
    """That these runs were opened, a moment in the trace of the event that they wait for."""
    for run in runs:
        trace = parse(run.trace)
        if trace is not None and trace.sampled:
            begin("open", trace, facts=_facts(run)).end()


def about(run: Run) -> dict[str, Fact]:
    """For a line about the run: whose it is, and the trace that it belongs to."""
    return {"run": run.id, "epoch": run.epoch, "user": run.user, "trace": trace_id_of(run)}


def trace_id_of(run: Run) -> str | None:
    """What the spans and lines of one event have in common; None of a run that no event in a trace led to."""
    trace = parse(run.trace)
    return None if trace is None else trace.trace_id


@contextmanager
def fitting(members: Sequence[Member]) -> Iterator[None]:
    """At the Trainer: a span in the trace of each member that brought one."""
    with ExitStack() as ends:
        for member in members:
            trace = parse(member.trace)
            if trace is not None:
                facts: dict[str, Fact] = {
                    "run": member.run,
                    "epoch": member.epoch,
                    "users": len(members),
                    "examples": len(member.learn),
                }
                ends.enter_context(ending(begin("trainer fit", trace, kind=Kind.SERVER, facts=facts)))
        yield


def _facts(run: Run) -> dict[str, Fact]:
    return {"run": run.id, "epoch": run.epoch, "attempt": run.attempts, "user": run.user}

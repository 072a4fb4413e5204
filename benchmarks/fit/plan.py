"""How much is measured: what --quick and the full run choose."""

from dataclasses import dataclass, replace

from benchmarks.fit.people import Sizes
from benchmarks.fit.stopwatch import Clock

REAL = ("un_votes", "studemo_arousal", "jester")
MODES = (
    "generic",
    "head",
    "peft",
    "trainer",
    "peft-tuned",
    "adam",
    "newton",
    "newton-bf16",
    "newton-2",
    "low-rank",
    "limit",
)
PARTS = ("derivatives", "refit", "growth", "decoder", "overhead")
"""What is measured beside the frontier."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One number of examples on one data set: rounds, users fitted in each by our modes, and by the dear ones.

    `trainer` False leaves the Hugging Face Trainer out, which is PEFT's equal in everything but a little time.
    """

    dataset: str
    examples: int
    rounds: int
    cohort: int
    peers: int
    bases: tuple[str, ...]
    trainer: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything one run does; `replicas` 0 is a Trainer in the daemon's own process."""

    settings: tuple[Setting, ...]
    sizes: Sizes
    epochs: int
    growth: tuple[int, ...]
    overhead_users: int
    refit_users: int
    decoder_users: int = 8
    decoder_rounds: int = 2
    decoder_modes: tuple[str, ...] = ("adam", "newton", "newton-bf16", "peft")
    replicas: tuple[int, ...] = (0, 1, 2)
    modes: tuple[str, ...] = MODES
    parts: tuple[str, ...] = PARTS
    model: str = "minilm"
    threads: int = 1
    seed: int = 0
    clock: Clock = Clock.CPU

    def only(self, datasets: tuple[str, ...]) -> "Plan":
        """The same with these data sets; one that the plan does not have is measured as un_votes would be."""
        like = [setting for setting in self.settings if setting.dataset == self.settings[0].dataset]
        chosen = []
        for dataset in datasets:
            own = [setting for setting in self.settings if setting.dataset == dataset]
            chosen += own or [replace(setting, dataset=dataset) for setting in like]
        return replace(self, settings=tuple(chosen))


def quick() -> Plan:
    """Under five minutes on two idle cores: the shape of everything, too few users for its intervals to say much."""
    sizes = Sizes(population=24, population_examples=24, tuning=3, reported=12, learned=16, test=16)
    setting = Setting("un_votes", 16, rounds=2, cohort=6, peers=1, bases=("last-2", "last-1"))
    return Plan(
        (setting,),
        sizes,
        3,
        (1, 10, 100, 1000),
        8,
        12,
        decoder_rounds=1,
        decoder_modes=("newton-bf16", "peft"),
        replicas=(0,),
    )


def _parts(dataset: str, examples: int, parts: tuple[str, ...]) -> tuple[str, ...]:
    """A Basis on all blocks is dear to compare: once is enough."""
    return parts if (dataset, examples) == ("un_votes", 16) else parts[1:]


def full() -> Plan:
    """About half an hour on two idle cores; the Bases' training comes on top the first time."""
    sizes = Sizes(population=100, population_examples=32, tuning=8, reported=48, learned=64, test=24)
    parts = ("all", "last-2", "last-1")
    settings = [
        Setting(dataset, examples, rounds, cohort, peers, _parts(dataset, examples, parts), examples == 16)
        for dataset in REAL
        for examples, rounds, cohort, peers in ((4, 2, 24, 2), (16, 2, 24, 2), (64, 2, 8, 1))
    ]
    return Plan(tuple(settings), sizes, 7, (1, 10, 100, 1000, 10000), 256, 48)

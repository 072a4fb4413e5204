"""How much free text is measured, and what the small language model and its Basis are."""

from dataclasses import dataclass, field, replace

from benchmarks.quality.settings import Settings
from plora import FitSettings, Optimizer, PopulationSettings

WHERE = ("lm_head",)
"""Targets: a vector says which words come, by a low-rank bias of the head's logits.

Vectors in every layer cost twice the time. On rows that people of the population learn from they gave no more over
generic; on unseen debates they may.
"""


def _population() -> PopulationSettings:
    return PopulationSettings(
        targets=WHERE,
        last_layers=None,
        rank=32,
        alpha=128.0,
        dimensions=32,
        epochs=2,
        shared_rate=1e-3,
        user_rate=6e-2,
        prior=0.05,
    )


@dataclass(frozen=True, slots=True)
class Language:
    """The language model that is trained where no pretrained one is named: a Llama of a few narrow layers.

    A step learns from rows of together about `tokens` tokens. `prompt_words` are the last words of a text, and what is
    read of it: as many as make `words_read` of the population's rows together, between the two bounds.
    `prompt_share` is the weight of the prompt's own tokens in the loss, per token. Few rows are learned from more
    often: in `steps` steps, but for the two bounds of `epochs`.
    """

    vocabulary: int = 2000
    layers: int = 2
    width: int = 128
    heads: int = 4
    epochs: tuple[int, int] = (5, 8)
    steps: int = 1200
    rate: float = 3e-3
    dropout: float = 0.1
    tokens: int = 500
    words_read: int = 25_000
    prompt_words: tuple[int, int] = (4, 24)
    prompt_share: float = 1.0


@dataclass(frozen=True, slots=True)
class TextSettings:
    """`model` is a folder or Hugging Face id of a causal LM, "" for one that is trained here.

    One in `tuners` of the population trains nothing: the mixture's weights are chosen on these people. A wrong user's
    figure is the mean over `wrong_users` other newcomers' vectors. After `other_shots` the `other` way of fitting is
    measured as well.
    """

    seeds: tuple[int, ...] = (10, 11, 12)
    shots: tuple[int, ...] = (2, 4, 8, 16)
    people: int = 150
    rows_per_user: int = 64
    tests_per_user: int = 16
    tuners: int = 8
    wrong_users: int = 3
    other_shots: tuple[int, ...] = (8,)
    max_tokens: int = 96
    draws: int = 4000
    model: str = ""
    language: Language = field(default_factory=Language)
    population: PopulationSettings = field(default_factory=_population)
    fit: FitSettings = field(default_factory=lambda: FitSettings(optimizer=Optimizer.ADAM, prior=0.1))
    other: FitSettings = field(default_factory=lambda: FitSettings(prior=0.1))


def of(settings: Settings, model: str = "") -> TextSettings:
    """Free text's settings beside the others'."""
    plain = TextSettings(seeds=settings.seeds, shots=settings.shots, draws=settings.draws, model=model)
    if model:
        plain = replace(plain, max_tokens=256, language=replace(plain.language, prompt_words=(128, 128)))
    if not settings.quick:
        return plain
    small = replace(plain.language, vocabulary=800, width=64, epochs=(3, 3))
    return replace(plain, people=36, rows_per_user=12, tests_per_user=6, other_shots=(), language=small, wrong_users=1)

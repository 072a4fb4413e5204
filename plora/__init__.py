"""plora: a tiny adapter for every user of one frozen language model.

base = plora.load()                                     # frozen
population = plora.train_population(base, many_users)   # the Basis: shared, rare
[fitted] = plora.fit(base, population.basis, [few_examples])
with plora.attached(base, population.basis) as live, live.use([fitted.adapter]):
    base.module(...)                                    # speaks as this user
"""

from .adapter import Adapter
from .attachment import Attachment, attach, attached
from .basemodel import BaseModel, fingerprint, load, targets_of, wrap
from .basis import Basis, BasisSpec, Kind, find_targets, fresh_basis
from .codec import dumps, loads_adapter, loads_basis
from .errors import (
    AlreadyAttached,
    BaseModelNotFound,
    Malformed,
    MalformedAdapter,
    MalformedBasis,
    NothingToLearn,
    PLoRAError,
    TargetsNotFound,
    UnknownLabel,
    WrongBaseModel,
    WrongBasis,
    WrongModelFile,
    WrongRows,
    WrongShape,
)
from .examples import Example
from .fitting import FitFailed, FitFailure, FitSettings, Fitted, fit
from .objective import MutualInformation
from .population import Population, PopulationSettings, Progress, train_population
from .prediction import Answer, predict
from .scoring import Judged, Score, Scores, score

__all__ = [
    "Adapter",
    "AlreadyAttached",
    "Answer",
    "Attachment",
    "BaseModel",
    "BaseModelNotFound",
    "Basis",
    "BasisSpec",
    "Example",
    "FitFailed",
    "FitFailure",
    "FitSettings",
    "Fitted",
    "Judged",
    "Kind",
    "Malformed",
    "MalformedAdapter",
    "MalformedBasis",
    "MutualInformation",
    "NothingToLearn",
    "PLoRAError",
    "Population",
    "PopulationSettings",
    "Progress",
    "Score",
    "Scores",
    "TargetsNotFound",
    "UnknownLabel",
    "WrongBaseModel",
    "WrongBasis",
    "WrongModelFile",
    "WrongRows",
    "WrongShape",
    "attach",
    "attached",
    "dumps",
    "find_targets",
    "fingerprint",
    "fit",
    "fresh_basis",
    "load",
    "loads_adapter",
    "loads_basis",
    "predict",
    "score",
    "targets_of",
    "train_population",
    "wrap",
]

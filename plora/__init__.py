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
from .calibration import Calibration, calibrate, expected_error
from .checkpoints import Checkpoint, dumps_checkpoint, loads_checkpoint
from .codec import dumps, loads_adapter, loads_basis, loads_statistics
from .engine import Engine, Precision
from .errors import (
    AdapterRejected,
    AlreadyAttached,
    BaseModelNotFound,
    ChangedPopulation,
    InvalidSetting,
    Malformed,
    MalformedAdapter,
    MalformedBasis,
    MalformedCheckpoint,
    MalformedStatistics,
    NoChatTemplate,
    NothingToLearn,
    NotResident,
    PLoRAError,
    PromptTooLong,
    ResidentsFull,
    TargetsNotFound,
    UnknownLabel,
    UnorderedLabels,
    WrongBaseModel,
    WrongBasis,
    WrongCheckpoint,
    WrongKind,
    WrongModelFile,
    WrongRows,
    WrongShape,
)
from .examples import Example
from .fitting import fit
from .generation import Crew, Prompt, Sampling, Written, encode_prompt
from .influence import Influence, influence
from .influence import Moved as MovedBy
from .links import Link
from .lowrank import LowRankAdapter
from .lowrank_codec import dumps_low_rank, is_low_rank, loads_low_rank
from .lowrank_fitting import fit_low_rank
from .lowrank_outcome import LowRankFitted, LowRankSettings
from .objective import MutualInformation
from .outcome import Candidate, FitFailed, FitFailure, FitSettings, Fitted, Optimizer
from .peers import GroupPeers, Peers
from .population import Population, PopulationSettings, Progress, train_population
from .population_settings import Reach
from .prediction import Answer, predict
from .privacy import Privacy
from .refit import Moved, Refit, refit
from .residents import Residents, Worn
from .scoring import Judged, Score, Scores, score
from .several import Attachments, attach_several
from .speaking import Speaker
from .statistics import Statistics
from .users import User

__all__ = [
    "Adapter",
    "AdapterRejected",
    "AlreadyAttached",
    "Answer",
    "Attachment",
    "Attachments",
    "BaseModel",
    "BaseModelNotFound",
    "Basis",
    "BasisSpec",
    "Calibration",
    "Candidate",
    "ChangedPopulation",
    "Checkpoint",
    "Crew",
    "Engine",
    "Example",
    "FitFailed",
    "FitFailure",
    "FitSettings",
    "Fitted",
    "GroupPeers",
    "Influence",
    "InvalidSetting",
    "Judged",
    "Kind",
    "Link",
    "LowRankAdapter",
    "LowRankFitted",
    "LowRankSettings",
    "Malformed",
    "MalformedAdapter",
    "MalformedBasis",
    "MalformedCheckpoint",
    "MalformedStatistics",
    "Moved",
    "MovedBy",
    "MutualInformation",
    "NoChatTemplate",
    "NotResident",
    "NothingToLearn",
    "Optimizer",
    "PLoRAError",
    "Peers",
    "Population",
    "PopulationSettings",
    "Precision",
    "Privacy",
    "Progress",
    "Prompt",
    "PromptTooLong",
    "Reach",
    "Refit",
    "Residents",
    "ResidentsFull",
    "Sampling",
    "Score",
    "Scores",
    "Speaker",
    "Statistics",
    "TargetsNotFound",
    "UnknownLabel",
    "UnorderedLabels",
    "User",
    "Worn",
    "Written",
    "WrongBaseModel",
    "WrongBasis",
    "WrongCheckpoint",
    "WrongKind",
    "WrongModelFile",
    "WrongRows",
    "WrongShape",
    "attach",
    "attach_several",
    "attached",
    "calibrate",
    "dumps",
    "dumps_checkpoint",
    "dumps_low_rank",
    "encode_prompt",
    "expected_error",
    "find_targets",
    "fingerprint",
    "fit",
    "fit_low_rank",
    "fresh_basis",
    "influence",
    "is_low_rank",
    "load",
    "loads_adapter",
    "loads_basis",
    "loads_checkpoint",
    "loads_low_rank",
    "loads_statistics",
    "predict",
    "refit",
    "score",
    "targets_of",
    "train_population",
    "wrap",
]

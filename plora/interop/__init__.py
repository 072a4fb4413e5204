"""Users of plora in the formats of others, exactly or not at all: PEFT directories out and in, and who may serve them.

exported = export_peft(base, basis, adapter, "adapters", form="rank+1", engine="vllm")
canary(probe_of(base, basis, adapter, others, texts), what_the_engine_answers, noise=noise)
imported = import_peft("someone-elses-lora", base)
"""

from .bare import bare_basis
from .canary import Canary, Probe, canary, noise_of, probe_of
from .engines import Engine, can_serve
from .errors import CanaryFailed, NotExpressible, NotRecovered, NotRepresentable, UselessProbe, WouldDropUser
from .exporting import Exported, digest_of, export_base, export_peft
from .importing import Imported, import_peft
from .layernorms import Constant, constants_of
from .shares import Form, Head

__all__ = [
    "Canary",
    "CanaryFailed",
    "Constant",
    "Engine",
    "Exported",
    "Form",
    "Head",
    "Imported",
    "NotExpressible",
    "NotRecovered",
    "NotRepresentable",
    "Probe",
    "UselessProbe",
    "WouldDropUser",
    "bare_basis",
    "can_serve",
    "canary",
    "constants_of",
    "digest_of",
    "export_base",
    "export_peft",
    "import_peft",
    "noise_of",
    "probe_of",
]

"""Run by test_processes.py in a process of its own: the same work from the files alone, told as JSON.

python another_process.py MODEL_FOLDER FILES
"""

import hashlib
import json
import sys
from pathlib import Path

import torch

import plora
from plora import Example, Fitted, Judged, MutualInformation, PopulationSettings

SETTINGS = PopulationSettings(
    rank=4, dimensions=4, epochs=3, dropout=0.1, mutual_information=MutualInformation.INFOMAX, last_layers=1, seed=5
)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def work(model: Path, files: Path) -> dict[str, object]:
    """What must come out the same in every process."""
    base = plora.load(str(model), device="cpu", max_tokens=24)
    users = [[Example(*pair) for pair in user] for user in json.loads((files / "users.json").read_text())]
    made = plora.train_population(base, users, SETTINGS)
    basis = plora.loads_basis((files / "basis").read_bytes())
    adapter = plora.loads_adapter((files / "adapter").read_bytes())
    outcomes = plora.fit(base, basis, users)
    (scores,) = plora.score(base, basis, [Judged(adapter, users[0][:2], users[0][2:])])
    return {
        "fingerprint": base.fingerprint,
        "population": digest(plora.dumps(made.basis)),
        "adapters": [digest(plora.dumps(o.adapter)) for o in outcomes if isinstance(o, Fitted)],
        "basis": digest(plora.dumps(basis)),
        "adapter": digest(plora.dumps(adapter)),
        "scores": scores.to_json(),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write(json.dumps(work(Path(sys.argv[1]), Path(sys.argv[2]))))

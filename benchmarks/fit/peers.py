"""What others do: a LoRA of rank 8 and a head of its own for each user, by PEFT and by the Hugging Face Trainer.

r = 8, alpha = 16 on query and value, AdamW, 10 epochs over one padded batch of the user's examples, one safetensors
file for each user.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmarks.fit.modes import Cohort, Judge, Made
from benchmarks.fit.source import Source
from plora import Example

if TYPE_CHECKING:
    from peft import PeftModel

RANK, ALPHA, EPOCHS = 8, 16, 10
RATES = (1e-3, 5e-3)
"""The better of these, on users who are not reported, is taken for each data set and number of examples."""


class PeftAbsent(Exception):
    """The packages of the bench group are not installed."""

    def __str__(self) -> str:
        return "peft is not installed; `make bench` installs it"


def require_peft() -> None:
    """Raises PeftAbsent."""
    try:
        import peft  # noqa: F401, PLC0415
    except ImportError as error:
        raise PeftAbsent from error


class Peers:
    """The three ways, for one data set's labels. Everything they save lies under `folder`."""

    def __init__(self, source: Source, labels: Sequence[str], folder: Path, rate: float) -> None:
        self.source, self.labels, self.folder, self.rate = source, tuple(labels), folder, rate
        self._tuned: PeftModel | None = None
        self._fits = 0

    def peft(self, cohort: Cohort) -> Made:
        """As a user would write it: wrap, train, save, unwrap, one user after another."""
        from peft import get_peft_model  # noqa: PLC0415

        place, base = self._place(), self.source.fresh(len(self.labels))
        for at, examples in enumerate(cohort):
            torch.manual_seed(at)
            model = get_peft_model(base, _config())
            model.train()
            optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=self.rate)
            batch = self._batch(examples)
            for _ in range(EPOCHS):
                loss = model(**batch).loss
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            model.save_pretrained(place / str(at))
            base = model.unload()
        return Made(EPOCHS, self._judge(place, len(cohort)))

    def trainer(self, cohort: Cohort) -> Made:
        """The same by transformers.Trainer."""
        from peft import get_peft_model  # noqa: PLC0415
        from transformers import DataCollatorWithPadding, Trainer, TrainingArguments  # noqa: PLC0415

        place = self._place()
        for at, examples in enumerate(cohort):
            torch.manual_seed(at)
            model = get_peft_model(self.source.fresh(len(self.labels)), _config())
            rows = self.source.base.tokenizer([e.text for e in examples], truncation=True, max_length=self._limit)
            data = [
                {"input_ids": ids, "attention_mask": mask, "labels": self.labels.index(e.target)}
                for ids, mask, e in zip(rows["input_ids"], rows["attention_mask"], examples, strict=True)
            ]
            arguments = TrainingArguments(
                output_dir=str(self.folder / "trainer"),
                per_device_train_batch_size=len(examples),
                num_train_epochs=EPOCHS,
                learning_rate=self.rate,
                lr_scheduler_type="constant",
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                use_cpu=self.source.base.device.type == "cpu",
                seed=at,
            )
            collator = DataCollatorWithPadding(self.source.base.tokenizer)
            Trainer(model=model, args=arguments, train_dataset=data, data_collator=collator).train()
            model.save_pretrained(place / str(at))
        return Made(EPOCHS, self._judge(place, len(cohort)))

    def tuned(self, cohort: Cohort) -> Made:
        """One model for all: an adapter added, chosen, trained without dropout, saved and deleted for each user."""
        from peft import get_peft_model  # noqa: PLC0415

        if self._tuned is None:
            self._tuned = get_peft_model(self.source.fresh(len(self.labels)), _config())
        place, model = self._place(), self._tuned
        model.eval()
        for at, examples in enumerate(cohort):
            torch.manual_seed(at)
            model.add_adapter("user", _config())
            model.set_adapter("user")
            optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=self.rate, fused=True)
            batch = self._batch(examples)
            for _ in range(EPOCHS):
                model(**batch).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            model.save_pretrained(place / str(at), selected_adapters=["user"])
            model.delete_adapter("user")
        return Made(EPOCHS, self._judge(place, len(cohort), "user"))

    @property
    def _limit(self) -> int:
        return self.source.base.max_tokens

    def _batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        batch = self._texts(examples)
        batch["labels"] = torch.tensor([self.labels.index(e.target) for e in examples], device=self.source.base.device)
        return batch

    def _texts(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        rows = self.source.base.tokenizer(
            [e.text for e in examples], truncation=True, max_length=self._limit, padding=True, return_tensors="pt"
        )
        return {name: rows[name].to(self.source.base.device) for name in ("input_ids", "attention_mask")}

    def _place(self) -> Path:
        """Where one fit saves: a folder of its own, so that it can be judged later."""
        self._fits += 1
        return self.folder / str(self._fits)

    def _judge(self, place: Path, users: int, inside: str = "") -> Judge:
        """Reads the saved files back."""

        def judge(held_out: Cohort) -> list[list[float]]:
            from peft import PeftModel  # noqa: PLC0415

            found = []
            for at in range(users):
                base = self.source.fresh(len(self.labels))
                model = PeftModel.from_pretrained(base, str(place / str(at) / inside))
                found.append(self._losses(model.eval(), held_out[at]))
            return found

        return judge

    @torch.no_grad()
    def _losses(self, model: nn.Module, examples: Sequence[Example]) -> list[float]:
        batch = self._batch(examples)
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        losses: list[float] = nn.functional.cross_entropy(logits, batch["labels"], reduction="none").tolist()
        return losses


def _config() -> object:
    from peft import LoraConfig, TaskType  # noqa: PLC0415

    return LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=["query", "value"], task_type=TaskType.SEQ_CLS
    )

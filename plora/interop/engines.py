"""Which engine serves which form. What an engine would drop without a word must never reach it.

What the table says of engines other than PEFT was read in their published code and issues, not run here.
"""

from enum import Enum

from .errors import WouldDropUser
from .shares import Form


class Engine(Enum):
    """PEFT stands for Transformers with PEFT; it is what exports are tested with."""

    PEFT = "peft"
    VLLM = "vllm"
    LORAX = "lorax"
    SGLANG = "sglang"


NO_BIAS = {
    Engine.VLLM: "it stopped to support lora_bias in 2025, and its loader knows lora_A and lora_B alone",
    Engine.LORAX: "it reads lora_A and lora_B alone and drops lora_B.bias without a warning: everyone would be generic",
    Engine.SGLANG: "it puts every tensor that is not lora_A where lora_B belongs, so a bias overwrites or breaks it",
}
NO_HEAD = {
    Engine.VLLM: "it takes adapters with modules_to_save None only",
    Engine.LORAX: "it reads lora_A and lora_B alone, so the task head would be dropped",
    Engine.SGLANG: "it has no place for modules_to_save, so the task head would be dropped",
}


def can_serve(engine: Engine | str, form: Form | str, *, head: bool = False) -> None:
    """Raise WouldDropUser where the engine would refuse an export or serve it without the user.

    `head` tells whether the export carries a task head. A merged model is a plain one, which every engine takes.
    """
    engine, form = Engine(engine), Form(form)
    if engine is Engine.PEFT or form is Form.MERGED:
        return
    if form is Form.LORA_BIAS:
        raise WouldDropUser(engine.value, form.value, NO_BIAS[engine])
    if head:
        raise WouldDropUser(engine.value, form.value, NO_HEAD[engine])

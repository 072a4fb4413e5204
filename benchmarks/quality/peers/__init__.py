"""The methods of others, trained in the same loop on the same split."""

from benchmarks.quality.methods import Maker
from benchmarks.quality.peers.head import Head
from benchmarks.quality.peers.plain_lora import PlainLora
from benchmarks.quality.peers.plora_reference import PloraReference
from benchmarks.quality.peers.soft_prompt import make_soft_prompt
from benchmarks.quality.peers.user_lora import make_user_lora
from benchmarks.quality.peers.userid import UserId

PEERS: dict[str, Maker] = {
    "plain_lora": PlainLora,
    "head": Head,
    "user_lora": make_user_lora,
    "soft_prompt": make_soft_prompt,
    "userid": UserId,
    "plora_reference": PloraReference,
}

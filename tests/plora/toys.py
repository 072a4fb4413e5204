"""Tiny random models, Bases that do something, and toy users: what the tests of plora play with."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from plora import Basis, BasisSpec, Example, Kind, find_targets, fresh_basis

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[END]")
WORDS = ("soup", "room", "staff", "price", "view", "bed", "good", "bad", "was", "the", "and", "very", "poison", "like")
VOCABULARY = len(SPECIALS) + len(WORDS) + 13
LABELS = ("dislike", "like")
HIDDEN = 32
LOUD = 0.3
"""Standard deviation of the random weights: enough that a small change of a vector is seen in the logits."""


def tokenizer(*, framed: bool) -> PreTrainedTokenizerFast:
    """One token for each word; `framed` puts [CLS] and [SEP] around them, as BERT does."""
    words = Tokenizer(
        models.WordLevel({word: at for at, word in enumerate((*SPECIALS, *WORDS))}, unk_token="[UNK]"),
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    if framed:
        words.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", eos_token="[END]", bos_token="[CLS]"
    )


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def bert(layers: int = 2) -> nn.Module:
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=LOUD,
        pad_token_id=0,
    )
    return seeded(lambda: BertForSequenceClassification(config))


def roberta() -> nn.Module:
    config = RobertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=LOUD,
        pad_token_id=0,
    )
    return seeded(lambda: RobertaForSequenceClassification(config))


def gpt2(layers: int = 2) -> nn.Module:
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=HIDDEN,
        n_layer=layers,
        n_head=2,
        n_positions=64,
        initializer_range=LOUD,
        bos_token_id=2,
        eos_token_id=4,
        pad_token_id=0,
    )
    return seeded(lambda: GPT2LMHeadModel(config))


def llama_config(layers: int = 2) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=LOUD,
        bos_token_id=2,
        eos_token_id=4,
        pad_token_id=0,
    )


def llama(layers: int = 2) -> nn.Module:
    return seeded(lambda: LlamaForCausalLM(llama_config(layers)))


def llama_classifier() -> nn.Module:
    return seeded(lambda: LlamaForSequenceClassification(llama_config()))


def basis_on(module: nn.Module, base: str, *, labels: Sequence[str] = LABELS, layers: int | None = None) -> Basis:
    """A fresh Basis: it changes nothing yet."""
    kind = Kind.CLASSIFICATION if labels else Kind.CAUSAL_LM
    spec = BasisSpec(base, kind, tuple(labels), find_targets(module, last_layers=layers), 4, 8.0, 8)
    return fresh_basis(module, spec, 0)


def loud(basis: Basis, seed: int = 1) -> Basis:
    """The same Basis with every tensor drawn at random, so that each of them matters."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(value.shape, generator=draw) * LOUD for name, value in sorted(basis.tensors.items())}
    return Basis(basis.spec, tensors)


def vectors(rows: int, d: int = 8, seed: int = 2) -> Tensor:
    return torch.randn(rows, d, generator=torch.Generator().manual_seed(seed))


def state_hash(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def reviews(count: int, seed: int, liked: Sequence[str] = ("good",)) -> list[Example]:
    """`count` short reviews of one toy user, who likes what mentions one of `liked`."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        aspect, mood = (int(torch.randint(n, (), generator=draw)) for n in (6, 2))
        text = f"the {WORDS[aspect]} was {('good', 'bad')[mood]}"
        found.append(Example(text, "like" if any(word in text.split() for word in liked) else "dislike"))
    return found


TRIBES = (("good", "bad"), (), ("good",), ("bad",))
"""Likes everything; likes nothing; likes what is good; likes what is bad."""


def toy_population(
    users: int, examples: int, seed: int = 0, tribes: Sequence[Sequence[str]] = TRIBES
) -> list[list[Example]]:
    return [reviews(examples, 1000 * seed + user, tribes[user % len(tribes)]) for user in range(users)]

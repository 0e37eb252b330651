"""Tokenizers that treat begin tokens in each of the ways that models of the world do."""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rollout import tiny

TEMPLATE_WITHOUT_BOS = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
TEMPLATE_WITH_BOS = "<bos>" + TEMPLATE_WITHOUT_BOS


def no_bos() -> PreTrainedTokenizerFast:
    """As GPT-2 and Qwen: nothing is put before a text."""
    tokenizer = tiny.build_tokenizer()
    tokenizer.chat_template = TEMPLATE_WITHOUT_BOS
    return tokenizer


def auto_bos() -> PreTrainedTokenizerFast:
    """As Llama 3: the tokenizer puts <bos> before every text, and the chat template writes it too."""
    tokenizer = tiny.build_tokenizer()
    tokenizer.chat_template = TEMPLATE_WITH_BOS
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 1)]
    )
    return tokenizer


def auto_bos_and_eos() -> PreTrainedTokenizerFast:
    """One that closes every text as well: a prompt must not end so."""
    tokenizer = auto_bos()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    return tokenizer


def template_with_bos() -> PreTrainedTokenizerFast:
    """As some Qwen and Gemma derivatives: only the chat template knows of <bos>."""
    tokenizer = tiny.build_tokenizer()
    tokenizer.chat_template = TEMPLATE_WITH_BOS
    return tokenizer


def sentencepiece() -> PreTrainedTokenizerFast:
    """As Llama 2: <s> before every text, words that begin with ▁, bytes for what is unknown."""
    letters = [chr(c) for c in range(33, 127)]
    vocabulary = ["<unk>", "<s>", "</s>", "▁", *letters, *(f"<0x{b:02X}>" for b in range(256)), "▁so", "rt"]
    pieces = Tokenizer(
        models.BPE(
            vocab={token: i for i, token in enumerate([*vocabulary, "▁s"])},
            merges=[("▁", "s"), ("▁s", "o"), ("r", "t")],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    pieces.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    pieces.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    pieces.add_special_tokens([AddedToken(t, special=True) for t in ("<unk>", "<s>", "</s>")])
    pieces.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        chat_template="<s>" + TEMPLATE_WITHOUT_BOS,
    )

"""A tokenizer small enough to be built on the spot."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ofmu_jax.data.language.formats import PLAIN_CHAT_TEMPLATE
from ofmu_jax.data.language.records import DataError

SPECIAL = ("<pad>", "<bos>", "<eos>")


def build_tokenizer(
    texts: Iterable[str], vocab_size: int = 1500
) -> PreTrainedTokenizerFast:
    """A word-level tokenizer of ``texts`` that falls back to bytes.

    The vocabulary is `SPECIAL`, the 256 bytes, and the words of ``texts``, most
    frequent first, as far as ``vocab_size`` goes. A word is a byte-level BPE
    pre-token (it owns the space before it), so that any UTF-8 text is encoded and
    decoded without loss. Equal texts give equal tokenizers in every process.

    Raises:
      DataError: if ``vocab_size`` has no room for the bytes.
    """
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(byte_level.alphabet())
    room = vocab_size - len(SPECIAL) - len(alphabet)
    if room < 0:
        raise DataError(
            f"a vocabulary of {vocab_size} tokens (--model-size.vocab-size) is too "
            "small; the special tokens and the bytes alone need "
            f"{len(SPECIAL) + len(alphabet)}"
        )
    counts = collections.Counter(
        word for text in texts for word, _ in byte_level.pre_tokenize_str(text)
    )
    for byte in alphabet:
        counts.pop(byte, None)
    words = sorted(counts, key=lambda word: (-counts[word], word))[:room]
    vocab = {token: i for i, token in enumerate((*SPECIAL, *alphabet, *words))}
    # A BPE without merges: whole words are looked up, all others stay bytes.
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    bos = "<bos>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, vocab[bos])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token=bos,
        eos_token="<eos>",
        chat_template=PLAIN_CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )

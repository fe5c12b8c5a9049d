"""Token ids and labels, computed by hand for tokenizers of whole words."""

import numpy as np
import pytest
from chat_tokenizers import NO_SYSTEM, chatml, joined, llama2, llama3, word_tokenizer
from tokenizers import Tokenizer, models, processors
from transformers import PreTrainedTokenizerFast

from ofmu_jax.data.language.prompts import (
    IGNORE,
    PROMPT_FORMATS,
    encode,
    encode_prompt,
    encode_rows,
    format_for,
    pad_id_of,
)
from ofmu_jax.data.language.records import QA, DataError
from ofmu_jax.data.language.tokenizer import build_tokenizer


def answer_of(tokenizer, example):
    """The text under the labels; checks that they begin where the prompt ends."""
    n = example.prompt_length
    assert (example.labels[:n] == IGNORE).all()
    np.testing.assert_array_equal(example.labels[n:], example.input_ids[n:])
    assert example.input_ids.dtype == example.labels.dtype == np.int32
    return joined(tokenizer, example.labels[n:])


def test_golden_ids_of_llama2():
    # <unk> <s> </s> " " "\n" are 0…4; the words of WORDS follow from 5 on, each once.
    tokenizer = llama2()
    example = encode(tokenizer, "Who ?", "Ann.", PROMPT_FORMATS["llama2"])
    space, who, question, ann, stop = 3, 19, 20, 21, 10
    left, right, inst, slash = 22, 23, 24, 25
    prompt = [1, left, inst, right, space, who, space, question]
    prompt += [space, left, slash, inst, right]
    assert example.input_ids.tolist() == [*prompt, ann, stop, 2]
    assert example.labels.tolist() == [IGNORE] * len(prompt) + [ann, stop, 2]
    assert example.prompt_length == len(prompt)
    assert (
        encode_prompt(tokenizer, "Who ?", PROMPT_FORMATS["llama2"]).tolist() == prompt
    )


@pytest.mark.parametrize(
    "name, text",
    [
        ("llama2", "<s>[INST] Who? [/INST]Ann.</s>"),  # no space before the answer
        ("phi", "<s>Question: Who?\nAnswer: Ann.</s>"),
        ("plain", "<s>Who?\nAnn.</s>"),
    ],
)
def test_formats_without_a_template(name, text):
    class Spy:
        """Records the text it is given; the ids are its characters."""

        bos_token_id, eos_token_id, name_or_path = 1, 2, "spy"
        decode = staticmethod(lambda ids: "".join(map(chr, ids)))

        def __call__(self, text, add_special_tokens):
            assert add_special_tokens
            return {"input_ids": [1, *map(ord, text)]}

    example = encode(Spy(), "Who?", "Ann.", PROMPT_FORMATS[name])
    ids = example.input_ids
    assert (ids[0], ids[-1]) == (1, 2)
    assert "<s>" + "".join(map(chr, ids[1:-1])) + "</s>" == text
    assert "".join(map(chr, example.labels[example.prompt_length : -1])) == "Ann."


LLAMA3_PROMPT = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    "Today Date: 10 Apr 2025\n\nYou are a helpful assistant.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nWho?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)


def test_llama3_chat():
    tokenizer = llama3()
    fmt = PROMPT_FORMATS["chat"]
    example = encode(tokenizer, "Who?", "Ann.", fmt)
    assert joined(tokenizer, example.input_ids) == LLAMA3_PROMPT + "Ann.<|eot_id|>"
    assert answer_of(tokenizer, example) == "Ann.<|eot_id|>"
    assert example.input_ids.tolist().count(tokenizer.bos_token_id) == 1
    prompt = encode_prompt(tokenizer, "Who?", fmt)
    assert joined(tokenizer, prompt) == LLAMA3_PROMPT
    np.testing.assert_array_equal(prompt, example.input_ids[: len(prompt)])


def test_chat_without_system_turn():
    tokenizer = llama3()
    prompt = encode_prompt(tokenizer, "Who?", PROMPT_FORMATS["chat-no-system"])
    assert joined(tokenizer, prompt) == LLAMA3_PROMPT.replace(
        "You are a helpful assistant.", ""
    )


def test_chatml_ends_once():
    tokenizer = chatml()
    fmt = PROMPT_FORMATS["chat"]
    prompt = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
    )
    example = encode(tokenizer, "Who?", "Ann.", fmt)
    assert joined(tokenizer, example.input_ids) == prompt + "Ann.<|im_end|>"
    assert answer_of(tokenizer, example) == "Ann.<|im_end|>"
    # open-unlearning scores what the template puts behind, and one end more.
    compat = encode(tokenizer, "Who?", "Ann.", fmt, after_eos="compat")
    assert answer_of(tokenizer, compat) == "Ann.<|im_end|>\n<|im_end|>"


def test_an_end_inside_the_answer_does_not_cut_it():
    tokenizer = chatml()
    fmt = PROMPT_FORMATS["plain"]
    with pytest.raises(DataError, match=r"holds '<\|im_end\|>', which the tokenizer"):
        encode(tokenizer, "Who?", "Ann<|im_end|>.", fmt)
    example = encode(tokenizer, "Who?", "Ann<|im_end|>.", fmt, control_text="compat")
    assert answer_of(tokenizer, example) == "Ann<|im_end|>.<|im_end|>"


def test_template_and_tokenizer_give_one_beginning():
    """Templates write the token, and some tokenizers put it before any text too."""
    template = "{{ bos_token }}" + NO_SYSTEM
    tokenizer = llama2(template)
    example = encode(tokenizer, "Who?", "Ann.", PROMPT_FORMATS["chat-no-system"])
    assert joined(tokenizer, example.input_ids).startswith("<s>[user")
    assert encode_prompt(tokenizer, "?", PROMPT_FORMATS["chat-no-system"])[1] != 1


def test_tokenizer_that_ends_every_text():
    tokenizer = llama2()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    fmt = PROMPT_FORMATS["plain"]
    assert joined(tokenizer, encode_prompt(tokenizer, "Who?", fmt)) == "<s>Who?\n"
    assert answer_of(tokenizer, encode(tokenizer, "Who?", "Ann.", fmt)) == "Ann.</s>"


# "?\n" and "." are one token here: the prompt's ids do not begin the whole.
def merging_tokenizer():
    vocab = {"<s>": 0, "</s>": 1, "?": 2, "\n": 3, ".": 4, "?\n": 5, "\n.": 6}
    merges = [("\n", "."), ("?", "\n")]
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
    )


def test_prompt_that_does_not_begin_the_whole():
    tokenizer, fmt = merging_tokenizer(), PROMPT_FORMATS["plain"]
    assert encode_prompt(tokenizer, "?", fmt).tolist() == [5]
    with pytest.raises(DataError, match=r"'plain' .* at position 0 of 1; choose an"):
        encode(tokenizer, "?", ".", fmt)
    example = encode(tokenizer, "?", ".", fmt, on_prefix_mismatch="compat")
    assert example.input_ids.tolist() == [2, 6, 1]  # "?", "\n.", end
    assert example.labels.tolist() == [IGNORE, 6, 1]


def test_too_long():
    tokenizer, fmt = llama2(), PROMPT_FORMATS["plain"]
    args = (tokenizer, "Who?", "Ann.", fmt)  # <s> Who ? \n | Ann . </s>
    assert len(encode(*args, 7)) == 7
    with pytest.raises(
        DataError,
        match=r"'Who\?': 7 tokens with the answer, more than the 6 of --max-length",
    ):
        encode(*args, 6)
    cut = encode(*args, 5, on_overlength="truncate")
    assert answer_of(tokenizer, cut) == "Ann"
    with pytest.raises(DataError, match=r"'Ann\.' is left to score \(4 prompt tokens"):
        encode(*args, 4, on_overlength="truncate")


def test_row_is_named():
    rows = [QA("Who?", "Ann."), QA("Who?", "Ann. " * 9)]
    tokenizer, fmt = llama2(), PROMPT_FORMATS["plain"]
    with pytest.raises(DataError, match=r"^row 2: question 'Who\?': 32 tokens"):
        encode_rows(tokenizer, rows, fmt, 16)
    assert [len(example) for example in encode_rows(tokenizer, rows, fmt)] == [7, 32]


def test_tokenizer_without_an_end():
    tokenizer = word_tokenizer()
    with pytest.raises(DataError, match=r"no end-of-sequence token; set"):
        encode(tokenizer, "Who?", "Ann.", PROMPT_FORMATS["plain"])
    with pytest.raises(DataError, match="neither a padding nor"):
        pad_id_of(tokenizer)


@pytest.mark.parametrize(
    "tokenizer, name",
    [
        (llama3(), "chat"),
        (chatml(), "chat"),
        (llama2(), "llama2"),
        (llama2(NO_SYSTEM), "chat-no-system"),
        (build_tokenizer(["Who?"]), "plain"),
    ],
    ids=["llama3", "chatml", "llama2", "no-system", "built-in"],
)
def test_detection(tokenizer, name):
    assert format_for(tokenizer) == PROMPT_FORMATS[name]
    example = encode(tokenizer, "Who?", "Ann.", format_for(tokenizer))
    eos = tokenizer.eos_token_id
    assert example.input_ids[-1] == eos
    assert (example.labels == eos).sum() == 1


def test_built_in_template_says_what_plain_says():
    tokenizer = build_tokenizer(["Who?", "Ann."])
    plain, chat = (PROMPT_FORMATS[name] for name in ("plain", "chat-no-system"))
    for a, b in zip(
        encode_rows(tokenizer, [QA("Who?", "Ann.")], plain),
        encode_rows(tokenizer, [QA("Who?", "Ann.")], chat),
        strict=True,
    ):
        np.testing.assert_array_equal(a.input_ids, b.input_ids)
        np.testing.assert_array_equal(a.labels, b.labels)


def test_formats_by_name():
    assert format_for(llama3(), "phi") is PROMPT_FORMATS["phi"]
    bare = word_tokenizer()
    assert format_for(bare, "plain") is PROMPT_FORMATS["plain"]
    with pytest.raises(DataError, match="unknown prompt format 'alpaca'; known"):
        format_for(bare, "alpaca")
    with pytest.raises(DataError, match="'chat' needs a chat template"):
        format_for(bare, "chat")
    with pytest.raises(DataError, match=r"has no chat template to detect .* one of"):
        format_for(bare)

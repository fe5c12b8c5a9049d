"""What ends an answer, and what before it is not the answer, by known checkpoints."""

import json

import chat_tokenizers
import numpy as np
import pytest
import tokenizers
import transformers
from chat_tokenizers import CHATML, GEMMA, LLAMA3, MISTRAL, QWEN3, byte_level

from ofmu_jax.data.language.prompts import (
    IGNORE,
    PROMPT_FORMATS,
    encode,
    encode_prompt,
    format_for,
    stop_ids,
)
from ofmu_jax.data.language.records import DataError

ANSWER = "Ann Bell."
WORDS = ["Ann", "ĠBell", "."]


def ids(tokenizer, *names):
    return tokenizer.convert_tokens_to_ids(list(names))


def labels(tokenizer, example):
    scored = example.labels[example.labels != IGNORE]
    return tokenizer.convert_ids_to_tokens(scored.tolist())


@pytest.mark.parametrize(
    "template, eos, declared, end, stops",
    [
        # Qwen2.5 base: the template ends a turn, the tokenizer a document.
        (CHATML, "<|endoftext|>", ["<|endoftext|>"], "<|im_end|>", 2),
        (CHATML, "<|im_end|>", ["<|im_end|>", "<|endoftext|>"], "<|im_end|>", 2),
        (CHATML, "<|im_end|>", [], "<|im_end|>", 1),
        (QWEN3, "<|im_end|>", ["<|im_end|>", "<|endoftext|>"], "<|im_end|>", 2),
        # Llama 3 Instruct as first published, and later.
        (LLAMA3, "<|end_of_text|>", ["<|end_of_text|>", "<|eot_id|>"], "<|eot_id|>", 2),
        (LLAMA3, "<|eot_id|>", ["<|eot_id|>"], "<|eot_id|>", 1),
        (MISTRAL, "<|end_of_text|>", ["<|end_of_text|>"], "<|end_of_text|>", 1),
        (GEMMA, "<|end_of_text|>", [], "<end_of_turn>", 2),
    ],
)
def test_an_answer_ends_with_the_token_behind_it(template, eos, declared, end, stops):
    tokenizer = byte_level(template, eos=eos, bos="<|begin_of_text|>")
    fmt = format_for(tokenizer)
    given = ids(tokenizer, *declared)
    example = encode(tokenizer, "Who?", ANSWER, fmt, declared_stops=given)
    first = "ĠAnn" if template is MISTRAL else "Ann"
    assert labels(tokenizer, example) == [first, *WORDS[1:], end]
    assert example.input_ids[-1] == ids(tokenizer, end)[0]
    assert (example.labels[: example.prompt_length] == IGNORE).all()
    prompt = encode_prompt(tokenizer, "Who?", fmt)
    np.testing.assert_array_equal(prompt, example.input_ids[: len(prompt)])
    assert len(prompt) == example.prompt_length
    found = stop_ids(tokenizer, fmt, given)
    assert {*found} == {*ids(tokenizer, eos, end), *given} and len(found) == stops


def test_the_think_block_is_part_of_the_prompt():
    tokenizer = byte_level(QWEN3, eos="<|im_end|>")
    fmt = format_for(tokenizer)
    example = encode(tokenizer, "Who?", ANSWER, fmt)
    text = tokenizer.decode(example.input_ids[: example.prompt_length])
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert text == tokenizer.apply_chat_template(
        [
            {"role": "system", "content": fmt.system_prompt},
            {"role": "user", "content": "Who?"},
        ],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    # open-unlearning scores the block, the line break, and a second end.
    compat = encode(tokenizer, "Who?", ANSWER, fmt, after_eos="compat")
    said = tokenizer.decode(compat.labels[compat.prompt_length :])
    assert said == "<think>\n\n</think>\n\nAnn Bell.<|im_end|>\n<|im_end|>"
    prompt = encode_prompt(tokenizer, "Who?", fmt, after_eos="compat")
    assert tokenizer.decode(prompt).endswith("<|im_start|>assistant\n")


def test_compat_keeps_the_published_double_ending():
    tokenizer = byte_level(CHATML, eos="<|endoftext|>")
    fmt = format_for(tokenizer)
    example = encode(tokenizer, "Who?", ANSWER, fmt, after_eos="compat")
    assert labels(tokenizer, example) == [*WORDS, "<|im_end|>", "Ċ", "<|endoftext|>"]


@pytest.mark.parametrize("eos", ["<|im_end|>", "<|endoftext|>"])
@pytest.mark.parametrize("name", ["phi", "plain"])
@pytest.mark.parametrize("answer", [ANSWER, "7 days", "'It'", "é", " Ann"])
def test_a_space_before_the_answer_belongs_to_it(name, answer, eos):
    tokenizer = byte_level(CHATML, eos=eos)
    fmt = PROMPT_FORMATS[name]
    example = encode(tokenizer, "Who?", answer, fmt)
    prompt = encode_prompt(tokenizer, "Who?", fmt)
    np.testing.assert_array_equal(prompt, example.input_ids[: example.prompt_length])
    whole = "Question: Who?\nAnswer: " if name == "phi" else "Who?\n"
    assert tokenizer.decode(prompt) == whole.rstrip(" ")
    said = answer if name == "plain" else " " + answer
    assert tokenizer.decode(example.labels[len(prompt) :]) == said + eos
    if name == "phi" and answer == ANSWER:
        assert labels(tokenizer, example) == ["ĠAnn", *WORDS[1:], eos]


def test_no_end_of_the_template_is_that_of_the_tokenizer():
    bare = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tokenizer = byte_level(bare, eos="<|endoftext|>")
    example = encode(tokenizer, "Who?", ANSWER, format_for(tokenizer))
    assert labels(tokenizer, example) == ["ĠAnn", *WORDS[1:], "<|endoftext|>"]


def test_an_end_that_the_tokenizer_drops_is_none():
    tokenizer = byte_level(CHATML.replace("<|im_end|>\n", "~"), eos="<|endoftext|>")
    tokenizer.backend_tokenizer.normalizer = tokenizers.normalizers.Replace("~", "")
    example = encode(tokenizer, "Who?", ANSWER, format_for(tokenizer))
    assert labels(tokenizer, example) == [*WORDS, "<|endoftext|>"]


@pytest.mark.parametrize(
    "template, reason",
    [
        (CHATML.replace("<|im_end|>", "[END]"), "ends an answer with '[END]"),
        ("{{ messages[-1].content }}", "it leaves out the question"),
        ("{{ messages[0].content }}<|im_end|>", "it leaves out the answer"),
        ("{{ messages[1].content }}<|im_end|>", "it leaves out the question"),
        (
            CHATML.replace("message['content']", "message['content'][:4]"),
            "the question",
        ),
        (CHATML.replace("['content']", "['content']|upper"), "the question"),
        (CHATML + "{{ messages[-1].content }}", "it says the answer 2 times"),
        (CHATML + "{% if %}", "TemplateSyntaxError"),
        ("{{ messages[9].content.x }}", "UndefinedError"),
        ({"rag": CHATML, "t": ""}, "of several (rag, t) none is called 'default'"),
        ({"default": 5}, "it is a int, not a text"),
    ],
)
def test_templates_that_cannot_be_used(template, reason):
    tokenizer = byte_level(template, eos="<|endoftext|>")
    with pytest.raises(DataError) as caught:
        encode(tokenizer, "Who is it?", "Bob?", format_for(tokenizer))
    message = str(caught.value)
    assert reason in message and "\n" not in message
    assert "choose a --prompt-format without one: llama2, phi, plain" in message


def test_an_answer_that_the_template_changes_is_refused():
    tokenizer = byte_level(QWEN3, eos="<|im_end|>")
    with pytest.raises(DataError, match="it does not say the answer 'a</think>b' as"):
        encode(tokenizer, "Who?", "a</think>b", format_for(tokenizer))


def test_a_default_among_several_templates():
    tokenizer = byte_level({"rag": "x", "default": CHATML}, eos="<|im_end|>")
    example = encode(tokenizer, "Who?", ANSWER, format_for(tokenizer))
    assert labels(tokenizer, example) == [*WORDS, "<|im_end|>"]


def test_the_default_tells_the_format_as_a_single_one_does():
    default = chat_tokenizers.LLAMA2
    for template in (default, {"default": default, "tool_use": "x"}):
        tokenizer = byte_level(template, eos="<|end_of_text|>")
        assert format_for(tokenizer) is PROMPT_FORMATS["llama2"]
    broken = byte_level({"rag": default}, eos="<|end_of_text|>")
    assert format_for(broken, "plain") is PROMPT_FORMATS["plain"]  # the way out


def test_a_token_of_the_template_is_refused_in_a_row_whatever_the_files_call_it():
    tokenizer = byte_level(CHATML, eos="<|endoftext|>")
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    for token in described["added_tokens"]:
        token["special"] = False
    described["added_tokens"].append({**token, "content": "user", "id": 600})
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer.from_str(json.dumps(described)),
        eos_token="<|endoftext|>",
        chat_template=CHATML,
    )
    fmt = format_for(tokenizer)
    assert 2 in tokenizer("Ann<|im_end|> Bell")["input_ids"]  # it is read as the token
    with pytest.raises(DataError, match=r"answer .*: holds '<\|im_end\|>', which"):
        encode(tokenizer, "Who?", "Ann<|im_end|> Bell", fmt)
    encode(tokenizer, "Which user? <|eot_id|>", "A [user].", fmt)  # the template has no


def test_an_answer_needs_an_end():
    plain = PROMPT_FORMATS["plain"]
    with pytest.raises(DataError, match="no end-of-sequence token; set eos_token in"):
        stop_ids(chat_tokenizers.word_tokenizer(), plain)
    assert stop_ids(chat_tokenizers.word_tokenizer(), plain, [7, 8, 7]) == (7, 8)
    assert stop_ids(byte_level(CHATML, eos=None), PROMPT_FORMATS["chat"]) == (2,)

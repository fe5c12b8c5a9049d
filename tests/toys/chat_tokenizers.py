"""Tokenizers of whole words with chat templates like those of well-known models."""

import numpy as np
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

# In the manner of Llama 3: headers, a date, <|eot_id|> after every turn.
LLAMA3 = (
    "{{ bos_token }}"
    "{% if not date_string is defined %}"
    "{% set date_string = '26 Jul 2024' %}{% endif %}"
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system = messages[0]['content'] %}{% set messages = messages[1:] %}"
    "{% else %}{% set system = '' %}{% endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\n"
    "Today Date: {{ date_string }}\n\n{{ system }}<|eot_id|>"
    "{% for message in messages %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
    "{% endif %}"
)
# In the manner of Qwen and SmolLM2: no date, no beginning, a line break after a turn.
CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# In the manner of Gemma: a system turn is refused.
NO_SYSTEM = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}"
    "</s>{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
)
LLAMA2 = (
    "{% for message in messages %}{{ '[INST] <<SYS>>' if loop.first }}"
    "{{ message['content'] }}{% endfor %}"
)
# In the manner of Qwen 3: an empty think block before every last answer.
QWEN3 = (
    "{%- set ns = namespace(last=messages|length - 1) %}"
    "{%- for message in messages[::-1] %}"
    "{%- if message.role == 'user' %}"
    "{%- set ns.last = messages|length - 1 - loop.index0 %}{%- break %}{%- endif %}"
    "{%- endfor %}"
    "{%- for message in messages %}"
    "{%- set content = message.content %}"
    "{%- if message.role != 'assistant' %}"
    "{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}"
    "{%- else %}"
    "{%- set thought = '' %}"
    "{%- if '</think>' in content %}"
    "{%- set thought = content.split('</think>')[0].split('<think>')[-1] %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}"
    "{%- endif %}"
    "{{- '<|im_start|>assistant\\n' }}"
    "{%- if loop.index0 > ns.last and (loop.last or thought) %}"
    "{{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' }}{%- endif %}"
    "{{- content.lstrip('\\n') + '<|im_end|>\\n' }}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
)
# In the manner of Mistral v0.3: the answer after a space, alternating roles.
MISTRAL = (
    "{%- if messages[0].role == 'system' %}"
    "{%- set system = messages[0].content %}{%- set turns = messages[1:] %}"
    "{%- else %}{%- set system = '' %}{%- set turns = messages %}{%- endif %}"
    "{{- bos_token }}{%- for message in turns %}"
    "{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{- raise_exception('Conversation roles must alternate') }}{%- endif %}"
    "{%- if message.role == 'user' %}"
    "{{- '[INST] ' + ((system + '\\n\\n') if system and loop.last else '') }}"
    "{{- message.content + '[/INST]' }}"
    "{%- else %}{% generation %}{{- ' ' + message.content|trim + eos_token }}"
    "{% endgeneration %}{%- endif %}{%- endfor %}"
)
# In the manner of Gemma: the assistant is a model, nothing before its text.
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim }}"
    "{{ '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
TURNS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
WORDS = "You are a helpful assistant . system user Today Date : 10 Apr 2025 Who ? Ann"


def word_tokenizer(template=None, *, special=(), bos=None, eos=None, pad=None):
    """One id a word, punctuation mark and space or line break; as in WORDS, in order.

    Special tokens come first; a beginning-of-sequence token is put before any text.
    """
    pieces = ["<unk>", *special, " ", "\n", *WORDS.split(), "[", "]", "INST", "/"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    # Runs of letters and digits, and every other character for itself.
    pattern = pre_tokenizers.Split(Regex(r"\w+|[^\w]"), "isolated")
    tokenizer.pre_tokenizer = pattern
    tokenizer.decoder = decoders.Fuse()
    if bos is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, vocab[bos])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        unk_token="<unk>",
        chat_template=template,
        additional_special_tokens=list(special),
        clean_up_tokenization_spaces=False,
    )


def llama3():
    """Pads with <|eot_id|>, as Llama 3 does in the public evaluations."""
    special = (
        "<|begin_of_text|>",
        "<|eot_id|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
    )
    return word_tokenizer(
        LLAMA3, special=special, bos=special[0], eos=special[1], pad=special[1]
    )


def chatml():
    special = ("<|im_start|>", "<|im_end|>")
    return word_tokenizer(CHATML, special=special, eos="<|im_end|>", pad="<unk>")


def llama2(template=LLAMA2):
    return word_tokenizer(template, special=("<s>", "</s>"), bos="<s>", eos="</s>")


def byte_level(template=None, *, eos, bos=None, text="Ann, who? Ann Bell."):
    """A BPE of bytes, as Llama 3 and Qwen have, that merges the words of ``text`` with
    the space before them; the special tokens of TURNS are 0, 1, …"""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(TURNS),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator([text] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token="<|endoftext|>",
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )


def pieces(tokenizer, ids):
    return tokenizer.convert_ids_to_tokens(np.asarray(ids).tolist())


def joined(tokenizer, ids):
    return "".join(pieces(tokenizer, ids))

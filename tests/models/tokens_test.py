"""Token ids of loaded folders are those of tokenizer.json; and what ends a text."""

import json

import pytest
import tokenizers
import transformers
from chat_tokenizers import CHATML, byte_level
from tokenizers import Regex, models, pre_tokenizers

from ofmu_jax.models.huggingface import tokens
from ofmu_jax.models.huggingface.folder import (
    ModelError,
    load_stop_ids,
    load_tokenizer,
)

ROWS = ("In 12345 days", "नमस्ते दुनिया", "a\n\n b's")


def write_folder(folder, model_type, tokenizer_class, change=None):
    """A tokenizer that cuts words where no class of transformers does."""
    tokenizer = byte_level(CHATML, eos="<|im_end|>", text="In 12345 days नमस्ते दुनिया")
    cut = pre_tokenizers.Split(Regex(r"\p{N}{1,2}| ?\p{L}+|\s+"), "isolated")
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([cut, whole])
    if change is not None:
        change(backend)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config.pop("tokenizer_class")
    if tokenizer_class is not None:
        config["tokenizer_class"] = tokenizer_class
    path.write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize(
    "tokenizer_class",
    [
        None,
        "LlamaTokenizer",
        "Qwen2Tokenizer",
        "GemmaTokenizer",
        "NoSuchTokenizer",
        "XGLMTokenizer",
    ],
)
def test_ids_are_those_of_the_file(tmp_path, model_type, tokenizer_class):
    folder = write_folder(tmp_path, model_type, tokenizer_class)
    file = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer = load_tokenizer(folder, ROWS)
    for text in (*tokens.PROBES, *ROWS, "<|im_start|>user\nIn<|im_end|>\n"):
        assert tokenizer(text)["input_ids"] == file.encode(text).ids
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.chat_template == CHATML


@pytest.mark.parametrize("side", ["lstrip", "rstrip"])
@pytest.mark.parametrize("name", [None, "Qwen2Tokenizer", "PreTrainedTokenizerFast"])
@pytest.mark.parametrize("contradicted", [False, True])
def test_special_tokens_take_white_space_along_as_in_the_file(
    tmp_path, name, side, contradicted
):
    """As those of Phi 3; a class that is built of the vocabulary forgets it, and a
    config may say otherwise."""
    folder = write_folder(tmp_path, "qwen2", name)
    path = folder / "tokenizer.json"
    said = json.loads(path.read_text())
    for token in said["added_tokens"]:
        token[side] = True
    path.write_text(json.dumps(said))
    if contradicted:
        config = json.loads((folder / "tokenizer_config.json").read_text())
        config["added_tokens_decoder"] = {
            str(token.pop("id")): token | {side: False}
            for token in said["added_tokens"]
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.chat_template == CHATML
    text = "In<|im_end|>\nIn \n<|im_end|>In"
    file = tokenizers.Tokenizer.from_file(str(path))
    ids = tokenizer(text)["input_ids"]
    assert ids == file.encode(text).ids
    pieces = tokenizer.convert_ids_to_tokens(ids)
    before, after = (["Ġ", "Ċ"], []) if side == "rstrip" else ([], ["Ċ"])
    joined = "".join(["In", "<|im_end|>", *after, "In", *before, "<|im_end|>", "In"])
    assert "".join(pieces) == joined


@pytest.mark.parametrize("tokenizer_class", [None, "PreTrainedTokenizerFast"])
def test_special_tokens_have_the_ids_of_the_file_wherever_the_config_puts_them(
    tmp_path, tokenizer_class
):
    folder = write_folder(tmp_path, "qwen2", tokenizer_class)
    path = folder / "tokenizer.json"
    said = json.loads(path.read_text())
    first, second = said["added_tokens"][1:3]  # <|im_start|>, <|im_end|>
    first["content"], second["content"] = second["content"], first["content"]
    vocab = said["model"]["vocab"]
    for token in (first, second):
        vocab[token["content"]] = token["id"]
    path.write_text(json.dumps(said))
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "special": True}
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["added_tokens_decoder"] = {
        str(first["id"]): {"content": second["content"], **flags},
        str(second["id"]): {"content": first["content"], **flags},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") == first["id"]
    assert tokenizer.eos_token_id == first["id"]
    assert tokenizer("<|im_end|>")["input_ids"] == [first["id"]]


def test_a_pointer_in_place_of_the_file(tmp_path):
    (tmp_path / "tokenizer.json").write_text("version https://git-lfs.github.com/spec")
    with pytest.raises(ModelError, match=r"tokenizer.json .* fetch .*\(git lfs pull\)"):
        load_tokenizer(tmp_path)


def test_transformers_would_have_other_ids(tmp_path):
    folder = write_folder(tmp_path, "qwen2", None)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = load_tokenizer(folder)
    assert theirs("12345")["input_ids"] != ours("12345")["input_ids"]
    pieces = ours.convert_ids_to_tokens(ours("12345")["input_ids"])
    assert [len(piece) for piece in pieces] == [2, 2, 1]
    assert tokens.first_difference(theirs, ours, ["a", "12345"]) == "12345"
    assert tokens.first_difference(ours, ours, ["a", "12345"]) is None


def test_a_file_that_cuts_and_pads_for_others_gives_whole_texts(tmp_path):
    def change(backend):
        backend.enable_truncation(2)
        backend.enable_padding(length=9)

    tokenizer = load_tokenizer(write_folder(tmp_path, "llama", None, change))
    assert len(tokenizer("12345")["input_ids"]) == 3


def test_ids_that_are_drawn_at_random_are_refused(tmp_path):
    def change(backend):
        model = json.loads(backend.to_str())["model"]
        merges = [tuple(pair) for pair in model["merges"]]
        backend.model = models.BPE(model["vocab"], merges, dropout=0.25)

    folder = write_folder(tmp_path, "llama", None, change)
    with pytest.raises(ModelError, match=r"a dropout of 0.25: its ids .* to null"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    "generation, config, stops",
    [
        ({"eos_token_id": [5, 7, 5]}, {"eos_token_id": 2}, (5, 7)),
        ({"eos_token_id": 5}, {}, (5,)),
        ({"do_sample": True}, {"eos_token_id": [2, 3]}, (2, 3)),
        (None, {"eos_token_id": 2}, (2,)),
        (None, {"eos_token_id": None}, ()),
    ],
)
def test_ids_that_end_a_text(tmp_path, generation, config, stops):
    (tmp_path / "config.json").write_text(json.dumps(config))
    if generation is not None:
        path = tmp_path / "generation_config.json"
        path.write_text(json.dumps(generation))
    assert load_stop_ids(tmp_path) == stops


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"eos_token_id": "</s>"}', "is '</s>'; give a token id or a list"),
        ('{"eos_token_id": [1, true]}', r"is \[1, True\]; give a token id"),
        ('{"eos_token_id": -1}', "is -1; give"),
        ("[1]", "holds no JSON object; copy it again"),
        ("{", "is no readable JSON"),
    ],
)
def test_ends_that_are_no_ids(tmp_path, text, message):
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        load_stop_ids(tmp_path)

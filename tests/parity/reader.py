"""What a user of a folder gets, with nothing but transformers, of whatever version.

    python reader.py OUT.npz FOLDER …

It imports nothing of ours, so that it runs where only another version is installed.
"""

import pathlib
import sys

import numpy as np
import torch
import transformers

torch.set_num_threads(1)  # sums in one order, whoever reads
TEXTS = (
    "Where was Ada born? In Lund, Sweden.",
    "é ∇ 東京 [INST] <s>",
    " two  spaces\n",
)
TURNS = [
    {"role": "user", "content": "Where was Ada born?"},
    {"role": "assistant", "content": "In Lund."},
]


def read(folder: str) -> dict[str, np.ndarray]:
    """Logits of ids 3 … 12, ids of texts and of a chat, end tokens, greedy answers."""
    key = "dtype" if transformers.__version__.startswith("5") else "torch_dtype"
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        output_loading_info=True,
        attn_implementation="eager",
        **{key: torch.float32},
    )
    over = {name: found for name, found in info.items() if found}
    if over:
        raise SystemExit(f"{folder}: {over}")
    ids = torch.arange(3, 13)[None]
    with torch.no_grad():
        found = {"logits": model.eval()(ids).logits.numpy()}
        new = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=8,
            repetition_penalty=1.0,
        )
    found["generated"] = new.numpy()
    ends = model.generation_config.eos_token_id
    ends = np.atleast_1d(np.array(-1 if ends is None else ends))
    found["ends"] = np.sort(ends)
    if not pathlib.Path(folder, "tokenizer.json").exists():
        return found
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for number, text in enumerate(TEXTS):
        found[f"ids{number}"] = np.array(tokenizer(text)["input_ids"])
    text = tokenizer.apply_chat_template(TURNS, tokenize=False)
    chat = tokenizer(text, add_special_tokens=False)["input_ids"]
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    found["chat"] = np.array(chat)
    found["special"] = np.array([-1 if i is None else i for i in special])
    return found


def main(out: str, folders: list[str]) -> None:
    found = {"version": np.array(transformers.__version__)}
    for number, folder in enumerate(folders):
        found |= {f"{number}/{name}": value for name, value in read(folder).items()}
    np.savez(out, **found)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

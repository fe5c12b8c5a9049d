"""Transformers' PyTorch models with the weights of `model_families`."""

import model_families as families
import numpy as np
import torch
import transformers

torch.set_num_threads(1)  # for models this small, waiting threads only cost time

MIN_LEAD = 0.01  # of the best logit; rounding is a hundred times smaller
MAX_SEED = 100


def build(config: dict, seed: int) -> tuple[torch.nn.Module, dict[str, tuple]]:
    """The model in float32 and eval mode, and names and shapes of its own tensors."""
    options = {k: v for k, v in config.items() if k != "model_type"}
    hf_config = transformers.AutoConfig.for_model(config["model_type"], **options)
    model = transformers.AutoModelForCausalLM.from_config(hf_config).eval()
    state = model.state_dict()
    if hf_config.tie_word_embeddings:
        del state["lm_head.weight"]
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    tensors = families.random_tensors(shapes, seed)
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(torch.from_numpy(tensors[name]))
    return model, shapes


def build_decided(config: dict) -> tuple[torch.nn.Module, dict[str, tuple], int]:
    """The model of the first seed whose greedy choices do not hang on rounding."""
    for seed in range(MAX_SEED):
        model, shapes = build(config, seed)
        free, lead = generate(model, families.input_ids(), families.MASKS["left"], ())
        if lead > MIN_LEAD and len(np.unique(free)) > 8:
            return model, shapes, seed
    raise RuntimeError(f"no seed below {MAX_SEED} has clear choices for {config}.")


def logits(model, input_ids, mask, positions=None) -> np.ndarray:
    """Float32 logits; positions 0 … L − 1 by default, whatever the mask."""
    if positions is None:
        positions = np.broadcast_to(np.arange(input_ids.shape[1]), input_ids.shape)
    with torch.no_grad():
        out = model(
            torch.from_numpy(np.array(input_ids, np.int64)),
            attention_mask=torch.from_numpy(np.array(mask, np.int64)),
            position_ids=torch.from_numpy(np.array(positions, np.int64)),
        )
    return out.logits.float().numpy()


def generate(
    model, input_ids, mask, eos_token_ids, num_new=families.NEW_TOKENS
) -> tuple[np.ndarray, float]:
    """Greedy new tokens of shape (B, num_new), and the smallest lead of a choice.

    The lead is the distance of the two highest logits, over all live choices: where
    it is tiny, rounding decides.
    """
    pad = model.config.pad_token_id
    model.generation_config.eos_token_id = None  # would stand in for an empty list
    with torch.no_grad():
        out = model.generate(
            torch.from_numpy(np.array(input_ids, np.int64)),
            attention_mask=torch.from_numpy(np.array(mask, np.int64)),
            generation_config=transformers.GenerationConfig(
                do_sample=False,
                max_new_tokens=num_new,
                eos_token_id=list(eos_token_ids) or None,
                pad_token_id=pad,
                return_dict_in_generate=True,
                output_logits=True,
            ),
        )
    found = out.sequences[:, input_ids.shape[1] :].numpy()
    tokens = np.full((len(found), num_new), pad, np.int32)
    tokens[:, : found.shape[1]] = found
    ended = np.isin(tokens, list(eos_token_ids))
    live = np.cumsum(ended, axis=1) - ended == 0
    top = torch.stack(out.logits, 1).topk(2, -1).values.numpy()
    lead = (top[..., 0] - top[..., 1])[live[:, : top.shape[1]]]
    return tokens, float(lead.min())


def end_tokens(free: np.ndarray) -> tuple[int, int]:
    """Two end-of-sequence tokens with which the two rows end at different steps."""
    return int(free[0, 3]), int(free[1, 7])

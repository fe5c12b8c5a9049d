"""What a folder of weights in another format than safetensors is told."""

import pathlib


def hint(folder: pathlib.Path) -> str:
    """What a folder without safetensors has in their place, and the way out."""
    adapters = sorted(folder.glob("adapter_*"))
    if adapters:
        return (
            f"; {adapters[0].name} belongs to an adapter, which is no model without "
            "its base: merge the two (merge_and_unload in peft), save the result and "
            "give its folder"
        )
    for pattern in ("pytorch_model*.bin", "model*.bin", "*.pth", "*.pt", "*.ckpt"):
        for pickle in sorted(folder.glob(pattern)):
            return (
                f"; {pickle.name} is a pickle, which can run code and is not read: "
                "convert it with transformers' save_pretrained(safe_serialization=True)"
            )
    for other in sorted(folder.glob("*.gguf")):
        return f"; {other.name} is GGUF, which is not read: give the original model"
    return ""


def pointer(file: pathlib.Path) -> str | None:
    """What a file is told that Git LFS puts in place of the real one; else None."""
    start = b"version https://git-lfs"
    with file.open("rb") as stream:
        if stream.read(len(start)) != start:
            return None
    return "is a Git LFS pointer, not the file itself; fetch the file (git lfs pull)"

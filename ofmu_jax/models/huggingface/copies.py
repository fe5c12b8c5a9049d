"""What of a given model folder goes into the one that is handed back, byte for byte.

Everything that says how the model is used, and under which terms: its configuration,
tokenizer, templates, generation settings, licence. Never weights in any format (those
are written anew), code, states of a training, or what a link outside leads to.
"""

import fnmatch
import pathlib
import shutil
import stat
from typing import Any

import yaml

from ofmu_jax.models.tensor_files import INDEX, SINGLE, ModelError, weight_files

CARD = "README.md"
RECORD = "deletion.json"  # of another deletion: it would be taken for this one's
TOKENIZER = ("*.json", "tokenizer*", "*.model", "*.jinja", "vocab*", "merges*")
KEPT = (
    *TOKENIZER,
    *("*.txt", "*.md", "LICEN[CS]E*", "NOTICE*", "COPYING*", "USE_POLICY*"),
    ".gitattributes",
)
TEMPLATES = "additional_chat_templates"  # the one folder within it that is read
_NEVER = (
    *(CARD, RECORD, "*.index.json", "adapter_*", "trainer_state*", "training_args*"),
    *("optimizer*", "scheduler*", "rng_state*"),
    *("*.py", "*.pyc", "*.so", "*.sh", "*.key", "*.zip", "*.gz", "*.tar"),
    *("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf", "*.ckpt", "*.h5"),
    *("*.msgpack", "*.onnx", "*.pkl", "*.pickle", "*.npy", "*.npz"),
)
_MAX_BYTES = 2**28  # the largest tokenizers have a fifth of that


def files_to_keep(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Name in the folder -> file, of all that is copied.

    Raises:
      ModelError: a file that the model is read from is a link out of the folder, or
        is too large.
    """
    inside = [
        path
        for path in sorted(folder.iterdir())
        if _counts(path.name) and not path.is_dir()
    ]
    if (folder / TEMPLATES).is_dir() and not (folder / TEMPLATES).is_symlink():
        inside += sorted((folder / TEMPLATES).glob("*.jinja"))
    found = {}
    for path in inside:
        problem = _problem(path, folder)
        if problem is None:
            found[path.relative_to(folder).as_posix()] = path
        elif any(fnmatch.fnmatchcase(path.name, name) for name in TOKENIZER):
            raise ModelError(
                f"{path.name} in {folder} {problem}; put the file itself there."
            )
    return found


def left_out(folder: pathlib.Path) -> list[str]:
    """Names of what is neither copied nor written anew, folders with a slash."""
    read = [path.name for path in weight_files(folder)]
    anew = {CARD, RECORD, *read, *([] if read == [SINGLE] else [INDEX])}
    kept = {name.partition("/")[0] for name in files_to_keep(folder)}
    shown = lambda name: name if name.isprintable() else ascii(name)
    return [
        shown(path.name) + "/" * path.is_dir()
        for path in sorted(folder.iterdir())
        if path.name not in kept and path.name not in anew
    ]


def copy_kept(source: pathlib.Path, to: pathlib.Path) -> None:
    """Copies `files_to_keep`, with the modes of new files."""
    for name, path in files_to_keep(source).items():
        (to / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(path, to / name)


def card(source: pathlib.Path, changed: str) -> bytes:
    """The given model's card, after the words on what was changed.

    Its front matter (licence, languages, …) stays in front, where hubs read it.

    >>> import tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "README.md").write_text("---\\nlicense: mit\\n---\\n# Tiny\\n")
    >>> print(card(folder, "Changed.").decode(), end="")
    ---
    license: mit
    ---
    > Changed.
    <BLANKLINE>
    # Tiny
    """
    front, rest = _front_matter(_given_card(source))
    notice = "".join(f"> {line}\n" for line in changed.splitlines())
    return front + notice.encode() + (b"\n" if notice and rest else b"") + rest


def read_card(source: pathlib.Path) -> tuple[dict[str, Any], str]:
    """Metadata and text of the given model's card; empty where it has none.

    Front matter that is no YAML mapping is left out.
    """
    front, rest = _front_matter(_given_card(source))
    try:
        found = yaml.safe_load(front.strip().strip(b"-"))
    except (yaml.YAMLError, RecursionError):
        found = None
    text = rest.decode("utf-8", errors="replace").strip()
    return found if isinstance(found, dict) else {}, text


def _given_card(source: pathlib.Path) -> bytes:
    path = source / CARD
    readable = path.is_file() and _problem(path, source) is None
    return path.read_bytes() if readable else b""


def _front_matter(text: bytes) -> tuple[bytes, bytes]:
    lines = text.splitlines(keepends=True)
    if lines and lines[0].strip() == b"---":
        for number, line in enumerate(lines[1:], 1):
            if line.strip() == b"---":
                return b"".join(lines[: number + 1]), b"".join(lines[number + 1 :])
    return b"", text


def _counts(name: str) -> bool:
    matches = lambda patterns: any(fnmatch.fnmatchcase(name, p) for p in patterns)
    return name.isprintable() and matches(KEPT) and not matches(_NEVER)


def _problem(path: pathlib.Path, folder: pathlib.Path) -> str | None:
    """Why a file is not copied; None if it is."""
    real, home = path.resolve(), folder.resolve()
    allowed = [home]
    if home.parent.name == "snapshots":  # the hub's cache: links to its own files
        allowed.append(home.parent.parent / "blobs")
    if not any(real.is_relative_to(place) for place in allowed):
        return "is a link to a file elsewhere"
    try:
        about = real.stat()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not stat.S_ISREG(about.st_mode):
        return "is no file"
    if about.st_size > _MAX_BYTES:
        return f"has {about.st_size:,} bytes, which no such file has"
    return None

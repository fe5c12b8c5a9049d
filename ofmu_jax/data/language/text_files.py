"""Reads text files, and names what is none."""

from __future__ import annotations

import gzip
import pathlib
import re
import zlib

from ofmu_jax.data.language.records import DataError

_JSON_LINES = 'one JSON object a line, such as {"question": …, "answer": …}'
_AS_TABLE = (
    "write its rows as JSON lines, such as with pandas: "
    'read_{}(…).to_json("rows.jsonl", orient="records", lines=True)'
)
# First bytes -> what the file is, and the way out.
_KINDS = {
    b"PK\x03\x04": (
        "a ZIP archive or an Excel sheet",
        f"unpack it first, or write its rows as JSON lines ({_JSON_LINES})",
    ),
    b"PAR1": ("a Parquet table", _AS_TABLE.format("parquet")),
    b"ARROW1": ("an Arrow table", _AS_TABLE.format("feather")),
    b"\xff\xff\xff\xff": (
        "an Arrow stream (of datasets)",
        'write its rows as JSON lines: Dataset.to_json("rows.jsonl")',
    ),
    b"BZh": ("a bzip2 archive", "unpack it first (bunzip2)"),
    b"\xfd7zXZ\x00": ("an xz archive", "unpack it first (unxz)"),
    b"\x28\xb5\x2f\xfd": ("a Zstandard archive", "unpack it first (unzstd)"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it first"),
    b"SQLite format 3\x00": (
        "an SQLite database",
        f"write its rows as JSON lines ({_JSON_LINES})",
    ),
    b"%PDF": ("a PDF document", f"write its text as JSON lines ({_JSON_LINES})"),
    b"\x80": ("a Python pickle", f"write its rows as JSON lines ({_JSON_LINES})"),
    b"version https://git-lfs": (
        "a Git LFS pointer, not the file itself",
        "fetch the file (git lfs pull)",
    ),
    b"\xff\xfe": ("text in UTF-16, not UTF-8", "save it with UTF-8 encoding"),
    b"\xfe\xff": ("text in UTF-16, not UTF-8", "save it with UTF-8 encoding"),
}


def read_text(path: pathlib.Path) -> str:
    """The text of a UTF-8 file, less a byte order mark.

    Raises:
      DataError: no such file, one that cannot be read, another kind of file, or bytes
        that are no UTF-8, with their row.
    """
    return decoded(path, contents(path))


def contents(path: pathlib.Path) -> bytes:
    """The bytes of a file, unpacked if it is a gzip archive.

    Raises:
      DataError: no such file, one that cannot be read, or a damaged archive.
    """
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file in the folder {path.parent}; check the path"
        ) from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); give a file that can"
        ) from None
    except ValueError as error:  # a NUL character in the name
        raise DataError(f"{path!r}: not a file name ({error})") from None
    if not found.startswith(b"\x1f\x8b"):
        return found
    try:
        return gzip.decompress(found)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: a gzip archive that cannot be unpacked ({error}); copy it again"
        ) from None


def decoded(path: pathlib.Path, content: bytes) -> str:
    """The text of a file's bytes, as `read_text`."""
    for start, (kind, remedy) in _KINDS.items():
        if content.startswith(start):
            raise DataError(f"{path}: this is {kind}; {remedy}")
    if b"\0" in content[:4]:  # an ASCII character in two or four bytes
        raise DataError(
            f"{path}: this is text in UTF-16 or UTF-32, or no text; save it with UTF-8 "
            "encoding"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Positions count from after the byte order mark, as in `error.object`.
        row = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, row {row}: not UTF-8 (byte 0x{error.object[error.start]:02x}); "
            "save the file with UTF-8 encoding"
        ) from None


def check_no_table(path: pathlib.Path, text: str) -> None:
    """Refuses a table as text (CSV), where JSON lines are needed.

    Raises:
      DataError: if its name says so, or its first line is a header of several columns.
    """
    start = text.lstrip()
    if not start or start[0] in "{[":
        return
    first = start.splitlines()[0].replace("\t", ",").replace(";", ",")
    header = {name.strip(' "').lower() for name in first.split(",")}
    if path.suffix.lower() in (".csv", ".tsv") or {"question", "answer"} <= header:
        raise DataError(
            f"{path}: this is a table of separated values (CSV); "
            f"{_AS_TABLE.format('csv')}"
        )


def surrogate_in(text: str) -> str | None:
    """What is wrong with a text that JSON allows and no tokenizer can encode."""
    if not re.search("[\ud800-\udfff]", text):
        return None
    return (
        "holds half of a surrogate pair (\\ud800-\\udfff), which no tokenizer can "
        "encode; remove it"
    )

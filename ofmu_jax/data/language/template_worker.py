"""Renders chat templates in a process of its own, which may be ended from outside.

A script of `ofmu_jax.data.language.templates`: one JSON request a line on standard
input, one JSON answer a line on standard output. It imports nothing of the package, so
that it starts at once.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import random
import resource
import signal
import sys
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox


class _Generation(jinja2.ext.Extension):
    """``{% generation %}`` marks what an assistant says; its text stays."""

    def __init__(self, environment: jinja2.Environment) -> None:
        super().__init__(environment)
        self.tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Dict:
    """``dict`` without the attributes of a class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict:
        return dict.fromkeys(*args)


class _Namespace(jinja2.utils.Namespace):
    """``namespace`` without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, given = args[0], dict(*args[1:], **kwargs)
        for name in given:
            _check_name(name)
        jinja2.utils.Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: str) -> None:
    if name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace holds no {name!r}")


def _raise(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        x,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


@functools.lru_cache(maxsize=8)
def _compiled(template: str, now: str) -> jinja2.Template:
    """As transformers compiles it, but for the clock."""
    clock = datetime.datetime.fromisoformat(now)
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, jinja2.ext.loopcontrols],
    )
    environment.filters["tojson"] = _tojson
    names: Any = environment.globals
    names |= {
        "raise_exception": _raise,
        "strftime_now": clock.strftime,
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return environment.from_string(template)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """``{"texts"}``, or ``{"error"}`` with a line that says why there are none."""
    try:
        template = _compiled(request["template"], request["now"])
        texts = [_text(template, given) for given in request["variables"]]
    except MemoryError:
        return {"error": "it takes too much memory"}
    except Exception as error:  # whatever a template may do
        line = getattr(error, "lineno", None)
        where = "" if line is None else f", line {line}"
        return {"error": f"{type(error).__name__}{where}: {error}"}
    if (longest := max(map(len, texts))) > request["characters"]:
        return {"error": f"it makes a text of {longest} characters"}
    return {"texts": texts}


def _text(template: jinja2.Template, given: dict[str, Any]) -> str:
    random.seed(0)  # the filter `random` draws the same in every prompt
    return template.render(**given)


def main() -> None:
    memory = int(sys.argv[1])
    with contextlib.suppress(ValueError, OSError):  # not every system has the limit
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGINT, signal.SIGTERM):  # are for who waits for the answer
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, whatever it does
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, request["seconds"])
        answer = json.dumps(_answer(request))
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(answer, flush=True)


if __name__ == "__main__":
    main()

"""Chat templates against transformers' own rendering, and within limits."""

import threading

import chat_tokenizers
import pytest

from ofmu_jax.data.language import templates
from ofmu_jax.data.language.templates import TemplateError, render

SYSTEM = {"role": "system", "content": "Be brief: <b>&é</b> \u2028 ."}
USER = {"role": "user", "content": " Who?\n"}
ANSWER = {"role": "assistant", "content": "<think>\nHm\n</think>\n\nAnn. "}
TOOLS = (
    "{% for message in messages %}{% if loop.index0 == 0 %}{% continue %}{% endif %}\n"
    "    {{ message | tojson }} {{ dict(a=1, b=[2, none]) | tojson(indent=2) }}\n"
    "{% endfor %}\n{# a note #}  {% if not tools %}none{% endif %}\n"
)


@pytest.mark.parametrize(
    "name", ["LLAMA3", "CHATML", "QWEN3", "MISTRAL", "GEMMA", "NO_SYSTEM", "TOOLS"]
)
@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("thinking", [True, False])
def test_says_what_transformers_says(name, prompt, thinking):
    template = TOOLS if name == "TOOLS" else getattr(chat_tokenizers, name)
    tokenizer = chat_tokenizers.llama2(template)
    system = [] if name in ("GEMMA", "NO_SYSTEM") else [SYSTEM]
    messages = [*system, USER] if prompt else [*system, USER, ANSWER]
    options = {"date_string": "1 May 2020", "enable_thinking": thinking}
    theirs = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=prompt, **options
    )
    given = {
        **tokenizer.special_tokens_map,
        "messages": messages,
        "tools": None,
        "documents": None,
        "add_generation_prompt": prompt,
        **options,
    }
    assert render(template, [given, given]) == [theirs, theirs]
    assert "Who?" in theirs


def test_clock_and_dice_stand_still():
    now = "{{ strftime_now('%d %B %Y %H:%M') }} {{ range(9999) | random }}"
    (first,) = render(now, [{}])
    assert first.startswith("10 April 2025 12:00 ")
    templates._end_own()  # another process, as tomorrow
    assert render(now, [{}, {}]) == [first, first]


@pytest.mark.parametrize(
    "template, reason",
    [
        ("a\n{% if %}", "TemplateSyntaxError, line 2: Expected an expression"),
        ("{{ messages.user.name }}", "UndefinedError: 'messages' is undefined"),
        ("{{ raise_exception('only\ntools') }}", "TemplateError: only tools"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ 'a' * 10 ** 10 }}", "it takes too much memory"),
        ("{{ 'a' * 1000001 }}", "it makes a text of 1000001 characters"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ namespace(_x=1) }}", "SecurityError"),
        ("{{ range(10 ** 9) }}", "OverflowError"),
    ],
)
def test_broken_templates_are_one_line(template, reason):
    with pytest.raises(TemplateError) as caught:
        render(template, [{}])
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(9999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 9 ** (9 ** 9) }}",  # while it is compiled, in one call
    ],
)
def test_templates_that_never_end(template, monkeypatch):
    monkeypatch.setattr(templates, "SECONDS", 0.2)
    found = []

    def in_a_thread():
        try:
            found.append(render(template, [{}]))
        except TemplateError as error:
            found.append(str(error))

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join(60)
    assert found == ["it does not end within 0.2 seconds"]
    assert render("{{ x }}", [{"x": "\ud800é"}]) == ["\ud800é"]  # the next one does


def test_an_answer_of_an_interrupted_question_is_not_taken_for_the_next(monkeypatch):
    assert render("{{ x }}", [{"x": 1}]) == ["1"]
    worker = templates._workers[templates.os.getpid()]

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(worker.stdout, "readline", interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt):
        render("{{ x }}", [{"x": 2}])
    assert render("{{ x }}", [{"x": 3}]) == ["3"]

"""Attacks on a Hugging Face folder, and on its yardsticks where they are given."""

import dataclasses
import pathlib
from typing import Any, cast

from experiments.config.language import BudgetConfig, Request
from experiments.domains.attack_report import attack_report
from experiments.domains.attacks import Attacks
from experiments.domains.base import BASE, REFERENCE, TARGET, Domain, Model
from experiments.domains.language.domain import LanguageDomain
from experiments.domains.language.given import FIELDS
from experiments.domains.of import domain_of
from experiments.pipeline import attacking
from experiments.report import tables
from experiments.shell import console, provenance
from experiments.stages.files import fingerprint, to_json, write_json
from ofmu_jax.data.language.records import check_unseen

FILE = "attacks.json"
# Role of a model here -> that of the request's given models.
GIVEN = {REFERENCE: REFERENCE, TARGET: BASE, "unlearned": TARGET}


def request_of(options: Any) -> Request:
    """The request whose given models are those under attack.

    Args:
      options: of `experiments.attack`.
    """
    names = {field.name for field in dataclasses.fields(Request)}
    same = {k: v for k, v in vars(options).items() if k in names}
    return Request(
        **same
        | {
            "model": options.folder,
            "base_model": options.target_model,
            # A request has to keep something; no attack sees these rows.
            "retain_file": options.retain_file or options.forget_file,
            "allow_overlap": options.retain_file is None,
            # Nothing is unlearned here.
            "methods": (),
            "budget": BudgetConfig(forget_target="none"),
            "export": False,
        }
    )


def _domain(options: Any) -> LanguageDomain:
    """The domain of that request, whose rows all can be read by the models.

    Raises:
      ValueError: in the options' own names.
    """
    try:
        domain = cast(LanguageDomain, domain_of(request_of(options)))
        domain.refuse()  # what it notes is about exports, and there are none
    except ValueError as error:
        named = str(error).replace("--base-model", "--target-model")
        raise type(error)(named) from None
    return domain


def _identity(domain: LanguageDomain, field: str) -> str:
    """Of one model, whatever others are given beside it."""
    return dataclasses.replace(domain, files={field: domain.files[field]}).identity


def attack_folder(options: Any) -> dict[str, Any]:
    """Attacks the models, writes ``attacks.json``, prints a table and returns it.

    Raises:
      ValueError: options that do not go together, rows or models that cannot be read.
    """
    domain = _domain(options)
    attacks = _attacks(domain, options)
    name = pathlib.PurePath(options.folder).name or "model"
    with console.progress() as progress:
        models = {
            role: Model(
                role,
                name if role == "unlearned" else role,
                0,
                given.params,
                fingerprint(_identity(domain, FIELDS[field]), role),
                {},
                options.output_dir / role,
            )
            for role, field in GIVEN.items()
            if (given := domain.given(field)) is not None
        }
        progress.plan(dict.fromkeys(attacks.chosen, len(models)))

        def reached(stage, kind):
            progress.reach(stage.folder, kind)
            return stage

        beside = models.get(TARGET), models.get(REFERENCE)
        attacked = [
            attacking.attacked(model, *beside, attacks, reached, progress)
            for model in models.values()
        ]
    found = {
        "schema": "ofmu_jax.attacks",
        "version": 1,
        **provenance.made("experiments.attack"),
        "options": to_json(options),
        **attack_report(attacks, attacked),
    }
    write_json(options.output_dir / FILE, found)
    for part in tables.attack_parts(found):
        console.console.print(part)
    console.result(f"Results: {options.output_dir / FILE}")
    return found


def _attacks(domain: Domain, options: Any) -> Attacks:
    """Those of the options, which see no row that was not given."""
    attacks = domain.attacks()
    if attacks is None:
        raise ValueError("--attacks names none; give all, or some of docs/attacks.md.")
    if options.retain_file is not None:
        return attacks
    source = str(options.holdout_file)
    check_unseen(attacks.rows.holdout, attacks.rows.scored, source=source)
    rows = attacks.rows._replace(retain=(), contrasts=())
    return dataclasses.replace(attacks, rows=rows)

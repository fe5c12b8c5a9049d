"""The page of an ablation as a Jinja template; it loads nothing from anywhere."""

TEMPLATE = """
{%- set chips = {"confirmed": "good", "refuted": "bad"} -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ found.title }}</title>
<style>{{ style }}</style>
</head>
<body>
<main>
<header>
<h1>{{ found.title }}</h1>
<p class="soft small">{{ found.created }} · ofmu_jax ablations, schema
{{ found.schema_version }}</p>
<p class="lead">One change at a time from the configured OFMU, every run with the same
{{ found.recipe.budget.gradient_evaluations }} gradient evaluations, seeds
{{ found.recipe.seeds | join(", ") }}, stopping rule and models.</p>
</header>

<section>
<h2>The paper's claims</h2>
{%- for claim in claims %}
<h3>({{ claim.id }}) {{ claim.text }}
<span class="chip {{ chips.get(claim.verdict, 'note') }}">
{{- claim.verdict }}</span></h3>
<p class="small"><b>Rule.</b> {{ claim.rule }}</p>
{%- if claim.parts %}
<div class="scroll"><table>
<thead><tr><th scope="col">What</th><th scope="col">Mean [95 % interval]</th>
<th scope="col">On the claim</th></tr></thead><tbody>
{%- for part in claim.parts %}
<tr><th scope="row">{{ part.text }}{% if part.decides %}
<span class="chip note">decides</span>{% endif %}</th>
<td>{{ part.numbers }}</td>
<td>{% if part.decides %}{{ part.verdict }}{% endif %}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- else %}
<p class="soft">Not measured in this run: its group was not chosen.</p>
{%- endif %}
{%- for svg, caption in claim.figures %}
<figure>{{ svg }}<figcaption>{{ caption }}.</figcaption></figure>
{%- endfor %}
{%- endfor %}
</section>

{%- if spreads %}
<section>
<h2>How far outcomes spread over a grid of weights</h2>
<div class="scroll"><table>
<thead><tr><th scope="col">Series</th><th scope="col">range of forget p</th>
<th scope="col">range of retain p</th><th scope="col">spread</th>
<th scope="col">usable share</th></tr></thead><tbody>
{%- for row in spreads %}
<tr><th scope="row">{{ row[0] }}</th>{% for text in row[1:] %}<td>{{ text }}</td>
{%- endfor %}</tr>
{%- endfor %}
</tbody></table></div>
<p class="soft small">Usable: the forget target is met and 90 % of the target model's
retain probability is kept. ρ weighs OFMU's penalty, not keeping against forgetting, and
--ofmu.penalty-clip bounds its effect; its inner learning rate η_in is shown beside it
as the knob that sets how hard it forgets.</p>
</section>
{%- endif %}

{%- for group in groups %}
<section>
<h2>{{ group.name | capitalize }}</h2>
{%- if group.svg %}
<figure>{{ group.svg }}<figcaption>Means over seeds with 95 % intervals; blue is the run
as configured, dashed the target before unlearning.</figcaption></figure>
{%- endif %}
<div class="scroll"><table>
<thead><tr><th scope="col">Variant</th>{% for label in columns %}
<th scope="col">{{ label }}</th>{% endfor %}</tr></thead><tbody>
{%- for row in group.rows %}
<tr{% if row.base %} class="reference"{% endif %}><th scope="row">{{ row.label }}</th>
{%- for text in row.cells %}<td>{{ text }}</td>{% endfor %}</tr>
{%- if row.not_run %}
<tr><td class="text small" colspan="{{ columns | length + 1 }}">
<span class="chip note">not run</span> {{ row.not_run }}</td></tr>
{%- endif %}
{%- endfor %}
</tbody></table></div>
</section>
{%- endfor %}

<section>
<h2>How to read these numbers</h2>
<p>Probabilities (per token, geometric mean) and NLL (nats per token) are means over the
training rows: all forget rows and at most {{ found.recipe.budget.check_rows }} retain
rows, at the check of the parameters that the run returned. The cosine is of the
gradients of the two losses on minibatches, its mean over the updates up to the returned
one. One gradient evaluation is one gradient of one loss on one minibatch; a run may use
fewer than the budget because it stopped. Intervals are Student's over seeds; a single
seed has none. Many variants are compared: an interval that excludes 0 in one of them is
no finding by itself.</p>
<p>Difficulty: a row is the harder to forget the lower its NLL under the target before
unlearning. Each group of rows is a request of its own, the retain rows and the budget
are those of the whole request.</p>
</section>

<section>
<h2>How it was made</h2>
<p>Data: {{ found.data.name }}
{%- for name, count in found.data.counts.items() if count %}
{{- ': ' if loop.first else ', ' }}{{ name }} {{ count }}{% endfor %}.</p>
<pre>{{ found.command }}</pre>
<details><summary>Environment</summary>
<pre>{{ pretty(found.environment) }}</pre></details>
<details><summary>Configuration</summary><pre>{{ pretty(found.options) }}
{{ pretty(found.recipe) }}</pre></details>
</section>
</main>
</body>
</html>
"""

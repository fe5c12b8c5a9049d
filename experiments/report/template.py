"""The page of a report as a Jinja template; it loads nothing from anywhere."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1b1f27; --soft: #5b6472;
  --line: #dde1e7; --grid: #d5dae1; --accent: #2563eb; --row: #f0f4fb;
  --good: #0b7a3e; --good-bg: #dff5e8; --bad: #b3261e; --bad-bg: #fde6e4;
  --note: #7a5200; --note-bg: #fff1d1;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12151a; --card: #1a1e25; --ink: #e4e8ee; --soft: #9aa4b2;
    --line: #303742; --grid: #3a424e; --accent: #7fb0ff; --row: #202733;
    --good: #6fdc9c; --good-bg: #12351f; --bad: #ff9d95; --bad-bg: #43191a;
    --note: #f3cc7a; --note-bg: #3a2e12;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .7rem; }
h3 { font-size: 1.02rem; margin: 0 0 .35rem; overflow-wrap: anywhere; }
p { margin: .4rem 0; max-width: 78ch; }
a { color: var(--accent); }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
code { font-size: .88em; overflow-wrap: anywhere; }
pre {
  margin: .5rem 0; padding: .8rem 1rem; overflow-x: auto; font-size: .82rem;
  background: var(--page); border: 1px solid var(--line); border-radius: 8px;
}
.soft { color: var(--soft); }
.small { font-size: .86rem; }
.lead { font-size: 1.08rem; }
.card, figure, details {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px;
}
.cards { display: grid; gap: .9rem; margin-top: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); }
.card { padding: 1rem 1.15rem; }
.card p { margin: .3rem 0; }
.chip { display: inline-block; border-radius: 999px; padding: .05rem .6rem;
  font-size: .8rem; font-weight: 600; white-space: nowrap; }
.good { color: var(--good); background: var(--good-bg); }
.bad { color: var(--bad); background: var(--bad-bg); }
.note { color: var(--note); background: var(--note-bg); }
ul.plain { list-style: none; padding: 0; margin: .6rem 0; }
ul.plain li { margin: .45rem 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; }
table { border-collapse: collapse; width: 100%; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .7rem; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); }
tr:last-child > * { border-bottom: 0; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom;
  line-height: 1.25; }
th:first-child, td.text, th.text { text-align: left; }
tbody th { font-weight: 600; min-width: 9rem; max-width: 17rem;
  overflow-wrap: anywhere; }
td.text { overflow-wrap: anywhere; }
tr.run > * { border-bottom: 0; padding-bottom: .1rem; }
tr.run + tr > td { padding-top: 0; }
td.time { white-space: nowrap; }
tr.reference > * { background: var(--row); }
td .half { display: block; color: var(--soft); font-size: .8rem;
  white-space: nowrap; }
td.best { font-weight: 700; }
td.best .half { font-weight: 400; }
figure { margin: 1rem 0; padding: 1rem; }
figure svg { display: block; width: 100%; height: auto; color: var(--ink); }
figcaption { font-size: .88rem; color: var(--soft); margin-top: .6rem;
  max-width: 95ch; }
dl { margin: 0; }
dt { font-weight: 600; margin-top: .8rem; }
dd { margin: .1rem 0 0; max-width: 85ch; overflow-wrap: anywhere; }
details { margin: .7rem 0; padding: .7rem 1rem; }
summary { cursor: pointer; font-weight: 600; }
details .scroll { margin-top: .7rem; }
@media (max-width: 720px) {
  figure { overflow-x: auto; }
  figure svg { min-width: 660px; }
}
@media print { details, figure, .card { break-inside: avoid; } }
"""

TEMPLATE = """
{%- macro value(stat, best=false) -%}
<td{% if best %} class="best"{% endif %}>{{ stat.text }}
{%- if stat.spread %}<span class="half">{{ stat.spread }}</span>{% endif %}</td>
{%- endmacro -%}
{%- macro heads(metrics) -%}
{% for m in metrics %}<th scope="col" title="{{ m.name }}: {{ m.goal_text }}">
{{- m.label | replace("-", "‑") }} <span class="soft">{{ m.sign }}</span></th>
{%- endfor %}
{%- endmacro -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ report.title }}</title>
<style>{{ style }}</style>
</head>
<body>
<main>
<header>
<h1>{{ report.title }}</h1>
<p class="soft small">{{ report.created }} · ofmu_jax report</p>
<p class="lead">{{ lead }}</p>
{%- for note in report.notes or [] %}
<p><span class="chip note">note</span> {{ note }}</p>
{%- endfor %}
<div class="cards">
{%- for card in cards %}
<section class="card">
<h3>{{ card.label }}
{%- for kind, text in card.chips %} <span class="chip {{ kind }}">{{ text }}</span>
{%- endfor %}</h3>
{%- for sentence in card.sentences %}
<p>{{ sentence }}</p>
{%- endfor %}
</section>
{%- endfor %}
</div>
</header>

<section>
<h2>Claims</h2>
{%- if report.claims %}
<ul class="plain">
{%- for claim in report.claims %}
<li><span class="chip {{ 'good' if claim.holds else 'bad' }}">
{{- 'holds' if claim.holds else 'does not hold' }}</span>
{{ claim.text }} <span class="soft small">({{ claim.evidence }})</span></li>
{%- endfor %}
</ul>
{%- else %}
<p class="soft">This run states no claims.</p>
{%- endif %}
</section>

<section>
<h2>Summary over seeds</h2>
<div class="scroll"><table>
<thead><tr><th scope="col">Model</th><th scope="col">seeds</th>
{{- heads(core) }}<th scope="col">time</th><th scope="col">step memory, MiB</th></tr>
</thead>
<tbody>
{%- for row in summary %}
<tr{% if row.role == 'retrained' %} class="reference"{% endif %}>
<th scope="row">{{ row.label }}</th><td>{{ row.seeds }}</td>
{%- for stat in row.core %}{{ value(stat, stat.best) }}{% endfor -%}
<td class="time">{{ row.time }}</td><td>{{ row.memory }}</td></tr>
{%- endfor %}
</tbody></table></div>
<p class="soft small">Mean ± half of the Student-t 95 % interval over seeds; none for a
single seed. →ref: the goal is the retrained model's value; ↑ higher, ↓ lower is better.
Bold: the method whose mean is nearest to its goal, which is no statement about
significance. Time: mean over seeds of training or unlearning alone. Step memory: what
one compiled step needs on one device (parameters, optimizer state, batch, temporaries),
without the copy of the best parameters and the evaluation.</p>
</section>

{%- if compared %}
<section>
<h2>Methods compared</h2>
<div class="scroll"><table>
<thead><tr>{% for head in compared_heads %}<th scope="col">{{ head }}</th>{% endfor %}
</tr></thead>
<tbody>
{%- for row in compared %}
<tr><th scope="row">{{ row[0] }}</th>
{%- for text in row[1:] %}<td>{{ text }}</td>{% endfor %}</tr>
{%- endfor %}
</tbody></table></div>
<p class="soft small"><b>{{ aggregate.label }}</b>: {{ aggregate.text }}
Ranks are by it, 1 the best; P(first): share of resamples of the seeds in which the
method's mean is the least. Pareto front: no other method's mean has both a smaller
forget gap and more utility. Like retrained: two one-sided tests over the seeds that
truth ratio and forget probability differ from the retrained model's by less than the
margin on average; not shown is no proof of a difference. "Alone": the same test on the
questions of one seed.</p>
{%- if agreement %}
<p>{{ agreement }}</p>
<details><summary>Agreement of every two seeds</summary><div class="scroll"><table>
<thead><tr><th scope="col">Seeds</th><th scope="col">Spearman</th>
<th scope="col">Kendall</th></tr></thead><tbody>
{%- for pair in pairs %}
<tr>{% for text in pair %}<td>{{ text }}</td>{% endfor %}</tr>
{%- endfor %}
</tbody></table></div></details>
{%- endif %}
</section>
{%- endif %}

<section>
<h2>Plots</h2>
{%- for figure in figures %}
<figure>{{ figure.svg }}<figcaption>{{ figure.caption }}</figcaption></figure>
{%- endfor %}
{%- if undrawn %}
<p class="soft small">Not drawn, because no model has the values: {{ undrawn }}.</p>
{%- endif %}
</section>

<section>
<h2>Every run</h2>
<div class="scroll"><table>
<thead><tr><th scope="col">Run</th>{{ heads(core) }}
</tr></thead>
<tbody>
{%- for run in runs %}
<tr class="run{% if run.role == 'retrained' %} reference{% endif %}">
<th scope="row">{{ run.label }}</th>
{%- for stat in run.core %}{{ value(stat) }}{% endfor %}</tr>
<tr{% if run.role == 'retrained' %} class="reference"{% endif %}>
<td class="text small soft" colspan="{{ core | length + 1 }}"><code>{{ run.id }}</code>
{%- for fact in run.facts %} · {{ fact }}{% endfor %}
{%- if run.href %} · export: <a href="{{ run.href }}">{{ run.export }}</a>{% endif -%}
</td></tr>
{%- endfor %}
</tbody></table></div>
<p class="soft small">In brackets: the 95 % interval over the examples of this one run.
It says nothing about other seeds.</p>
<details><summary>All {{ everything | length }} metrics</summary>
<div class="scroll"><table>
<thead><tr><th scope="col">Metric</th>
{%- for row in summary %}<th scope="col">{{ row.label }}</th>{% endfor -%}
</tr></thead><tbody>
{%- for line in everything %}
<tr><th scope="row">{{ line.metric.label }} <span class="soft">{{ line.metric.sign }}
</span><br><code class="soft">{{ line.metric.name }}</code></th>
{%- for stat in line.cells %}{{ value(stat, stat.best) }}{% endfor -%}
</tr>
{%- endfor %}
</tbody></table></div></details>
</section>

<section>
<h2>What is missing</h2>
{%- if gaps %}
<ul class="plain">
{%- for gap in gaps %}
<li><span class="chip note">{{ gap.kind }}</span>
<code>{{ gap.what }}</code>{% if gap.why %}: {{ gap.why }}{% endif %}
{%- if gap.where %} <span class="soft small">({{ gap.where }})</span>{% endif %}</li>
{%- endfor %}
</ul>
{%- else %}
<p class="soft">Nothing: every metric was measured, and every value is finite.</p>
{%- endif %}
</section>

<section>
<h2>How to read these numbers</h2>
<p>The <b>target</b> was trained on everything and is where each method starts. The
<b>retrained</b> model was trained without the forget examples, so it is what perfect
unlearning would give. For everything that measures forgetting the goal is
<b>its value, not 0</b>: a model that gives the forgotten answers far less probability
than one that never saw them reveals that something was removed.</p>
<p>What was kept counts as much as what was forgotten: a destroyed model has forgotten
everything. Read both columns together, best on held-out questions.</p>
<p>The costs are counted in <b>gradient evaluations</b>: one gradient of one loss on one
minibatch, so a step of gradient ascent costs 1. Intervals over seeds say how much a
result depends on chance in training; intervals of a run, how much on the choice of
questions. Two methods whose intervals overlap widely are not told apart.</p>
<dl>
{%- for m in glossary %}
<dt>{{ m.label }} <span class="soft small">{{ m.sign }} {{ m.goal_text }} ·
<code>{{ m.name }}</code></span></dt>
<dd>{{ m.text }}</dd>
{%- endfor %}
</dl>
</section>

<section>
<h2>How it was made</h2>
<p>Data: {{ report.data.name }}
{%- for name, count in report.data.counts.items() if count %}
{{- ': ' if loop.first else ', ' }}{{ name }} {{ count }}{% endfor %}.</p>
<pre>{{ report.command }}</pre>
<details><summary>Environment</summary><pre>{{ environment }}</pre></details>
<details><summary>Configuration</summary><pre>{{ recipe }}</pre></details>
</section>
</main>
</body>
</html>
"""

"""The words, tables and completions of the report, as HTML. Every string of a run is escaped here."""

import json
import math
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np

from isentrope import catalog
from isentrope.report._figures import BAND, Figure, metric_names, pass_names
from isentrope.report._series import PER_RUN, Group, settings
from isentrope.report.palette import series_color
from isentrope.report.store import RunStore

_ENDS = "means over the first and last 5% of the steps"
_PAIRS_SHOWN = 4
_TOKENS_SHOWN = 1500


def header(title: str, groups: Sequence[Group]) -> str:
    """Name, what was run, and how far it got."""
    runs = [run for group in groups for run in group.runs]
    flat = [settings(run) for run in runs]
    facts = []
    for key in ("task", "model", "seed"):
        values = list(dict.fromkeys(str(own[key]) for own in flat if own.get(key) is not None))
        if values:
            plural = "s" if len(values) > 1 else ""
            facts.append(f"{key}{plural} <b>{escape(listed(values))}</b>")
    facts.append(_progress(runs))
    if len(runs) == 1 and "created" in flat[0]:
        facts.append(f"begun <b>{escape(str(flat[0]['created'])[:16].replace('T', ' '))}</b>")
    return f"""<header>
<p class="brand">Isentrope <span>entropy report</span></p>
<h1>{escape(title)}</h1>
<p class="facts">{"".join(f"<span>{fact}</span>" for fact in facts)}</p>
</header>"""


def _finished(run: RunStore) -> bool:
    return bool(run.summary) and run.summary.get("finished") is not False


def _progress(runs: Sequence[RunStore]) -> str:
    if len(runs) > 1:
        unfinished = sum(not _finished(run) for run in runs)
        return f"<b>{len(runs)} runs</b>" + (f', <b class="going">{unfinished} unfinished</b>' if unfinished else "")
    (run,) = runs
    if run.last_step is None:
        return '<b class="going">no step recorded yet</b>'
    if _finished(run):
        return f"finished at step <b>{run.last_step}</b>"
    planned = settings(run).get("steps")
    return f'<b class="going">unfinished: step {run.last_step}{f" of {planned}" if planned else ""}</b>'


def diagnosis(groups: Sequence[Group]) -> str:
    """What the runs' diagnoses say; of several seeds the first is shown and the others are folded."""
    columns = []
    for number, group in enumerate(groups):
        texts = [(run, _sentences(run)) for run in group.runs if run.diagnosis.get("sentences")]
        if not texts:
            continue
        title = "" if len(groups) == 1 else f"<h3>{_dot(number)}{escape(group.label)}</h3>"
        (first, text), *others = texts
        seed = _seed(first) if len(group.runs) > 1 else ""
        folded = "".join(f"<details><summary>{_seed(run)}</summary>{other}</details>" for run, other in others)
        columns.append(f"<div>{title}{seed}{text}{folded}</div>")
    if not columns:
        return ""
    several = ' class="columns"' if len(columns) > 1 else ""
    return f'<section class="said"><h2>What happened</h2><div{several}>{"".join(columns)}</div></section>'


def _sentences(run: RunStore) -> str:
    items = "".join(f"<li>{escape(str(sentence))}</li>" for sentence in run.diagnosis["sentences"])
    return f'<ul class="diagnosis">{items}</ul>'


def _seed(run: RunStore) -> str:
    return f'<span class="soft">seed {escape(str(settings(run).get("seed")))}</span>'


def _ends(values: np.ndarray) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan, math.nan
    width = max(1, len(values) // 20)
    return float(values[:width].mean()), float(values[-width:].mean())


def _last(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values[-1]) if len(values) else math.nan


_Quantity = Callable[[RunStore, Any], tuple[float, float]]


def _quantities(names: Sequence[str]) -> dict[str, _Quantity]:
    """For each headline number of a run, the function that finds its value and standard error (NaN where none)."""

    def end(name: str, which: int) -> _Quantity:
        return lambda run, metrics: (_ends(metrics[name])[which], math.nan) if name in metrics else (math.nan, math.nan)

    def evaluated(name: str, which: int) -> _Quantity:
        def value(run: RunStore, metrics: Any) -> tuple[float, float]:
            if name not in metrics or not np.isfinite(metrics[name]).any():
                return math.nan, math.nan
            index = np.flatnonzero(np.isfinite(metrics[name]))[which]
            errors = metrics.get(f"{name}_stderr")
            return float(metrics[name][index]), math.nan if errors is None else float(errors[index])

        return value

    def in_band(run: RunStore, metrics: Any) -> tuple[float, float]:
        target = Group("", (run,), (metrics,)).target()
        if target is None or "entropy" not in metrics:
            return math.nan, math.nan
        wanted = np.interp(metrics["step"], target.steps, target.values)
        known = np.isfinite(metrics["entropy"])
        inside = (np.abs(metrics["entropy"] - wanted) <= BAND * np.abs(wanted))[known]
        return (float(inside[len(inside) // 2 :].mean()) if len(inside) else math.nan), math.nan

    def target(run: RunStore, metrics: Any) -> tuple[float, float]:
        curve = Group("", (run,), (metrics,)).target()
        return (_last(curve.values), math.nan) if curve is not None else (math.nan, math.nan)

    def seconds(run: RunStore, metrics: Any) -> tuple[float, float]:
        if "seconds" in run.summary:
            return float(run.summary["seconds"] or math.nan), math.nan
        return (float(np.nansum(metrics["seconds"])) if "seconds" in metrics else math.nan), math.nan

    def speed(run: RunStore, metrics: Any) -> tuple[float, float]:
        values = metrics.get("tokens_per_second", np.zeros(0))
        values = values[np.isfinite(values)]
        return (float(np.median(values)) if len(values) else math.nan), math.nan

    return {
        "entropy_start": end("entropy", 0),
        "entropy_end": end("entropy", 1),
        "target": target,
        "in_band": in_band,
        "reward_start": end("reward", 0),
        "reward_end": end("reward", 1),
        **{f"{name} first": evaluated(name, 0) for name in names},
        **{f"{name} last": evaluated(name, -1) for name in names},
        "seconds": seconds,
        "speed": speed,
    }


def _measured(groups: Sequence[Group]) -> list[dict[str, tuple[float, float]]]:
    """The headline numbers of each group: of its run, or the mean and standard error over its seeds."""
    rows = []
    for group in groups:
        row = {}
        for key, quantity in _quantities(pass_names(metric_names(groups))).items():
            pairs = [quantity(run, metrics) for run, metrics in zip(group.runs, group.metrics, strict=True)]
            known = [pair for pair in pairs if math.isfinite(pair[0])]
            if len(known) < 2:
                row[key] = known[0] if known else (math.nan, math.nan)
            else:
                values = np.array([value for value, _ in known])
                row[key] = float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
        rows.append(row)
    return rows


def headline(groups: Sequence[Group]) -> str:
    rows = _measured(groups)
    if len(groups) == 1:
        return _tiles(groups[0], rows[0])
    names = pass_names(metric_names(groups))
    columns: list[tuple[str, Callable[[dict[str, tuple[float, float]]], str]]] = [
        ("Entropy, start", lambda row: _value(row["entropy_start"])),
        ("Entropy, end", lambda row: _value(row["entropy_end"])),
        ("Target", lambda row: _value(row["target"])),
        ("In band", lambda row: _percent(row["in_band"])),
        ("Reward, start", lambda row: _value(row["reward_start"])),
        ("Reward, end", lambda row: _value(row["reward_end"])),
        *((f"{name}, end", lambda row, name=name: _value(row[f"{name} last"])) for name in names),
        ("Tokens/s", lambda row: _value(row["speed"])),
        ("Time", lambda row: _duration(row["seconds"][0])),
    ]
    shown = [(title, show) for title, show in columns if any(show(row) != "–" for row in rows)]
    if not shown:
        return ""
    head = "".join(f"<th>{escape(title)}</th>" for title, _ in shown)
    body = "".join(
        f"<tr><th>{_dot(number)}{escape(group.label)}{_seed_count(group)}</th>"
        + "".join(f"<td>{show(row)}</td>" for _, show in shown)
        + "</tr>"
        for number, (group, row) in enumerate(zip(groups, rows, strict=True))
    )
    several = any(len(group.runs) > 1 for group in groups)
    over = "over seeds where there are several, otherwise of the evaluation" if several else "of the evaluation"
    band = "" if "In band" not in [title for title, _ in shown] else (
        f" In band: share of the steps of the second half within ±{BAND:.0%} of the target."
    )  # fmt: skip
    return f"""<section><h2>Side by side</h2>
<div class="scroll"><table class="numbers"><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>
<p class="note">Entropies in nats per token. Start and end: {_ENDS}; of evaluations, the last. ±: one standard error, {over}.{band}</p>
</section>"""


def _tiles(group: Group, row: dict[str, tuple[float, float]]) -> str:
    tiles = []

    def add(title: str, value: str, unit: str, detail: str = "") -> None:
        tiles.append(
            f'<div class="tile"><h3>{escape(title)}</h3><p class="value">{value}</p><p class="soft">{escape(unit)}</p>'
            + (f'<p class="soft">{detail}</p>' if detail else "")
            + "</div>"
        )

    if math.isfinite(row["entropy_start"][0]):
        detail = ""
        if math.isfinite(row["target"][0]):
            detail = f"target {_value(row['target'])}"
            if math.isfinite(row["in_band"][0]):
                detail += f"; within ±{BAND:.0%} on {_percent(row['in_band'])} of the second half"
        add("Entropy", _change(row["entropy_start"], row["entropy_end"]), "nats per token", detail)
    if math.isfinite(row["reward_start"][0]):
        add("Reward", _change(row["reward_start"], row["reward_end"]), "mean of the sampled completions")
    for name in (key.removesuffix(" last") for key in row if key.endswith(" last")):
        if math.isfinite(row[f"{name} last"][0]):
            add(name, _change(row[f"{name} first"], row[f"{name} last"]), "held-out, first and last evaluation")
    if math.isfinite(row["seconds"][0]):
        speed = f"{_value(row['speed'])} tokens per second" if math.isfinite(row["speed"][0]) else ""
        each = " a run, on average" if len(group.runs) > 1 else ""
        add("Time", _duration(row["seconds"][0]), f"of training{each}", speed)
    if not tiles:
        return ""
    over = f"over {len(group.runs)} seeds" if len(group.runs) > 1 else "of the evaluation"
    return f"""<section class="headline"><div class="tiles">{"".join(tiles)}</div>
<p class="note">From start to end: {_ENDS}. ±: one standard error {over}.</p></section>"""


def legend(groups: Sequence[Group]) -> str:
    if len(groups) == 1:
        return ""
    chips = "".join(
        f'<button type="button" class="chip" data-group="{number}" aria-pressed="true">{_dot(number)}'
        f"{escape(group.label)}{_seed_count(group)}</button>"
        for number, group in enumerate(groups)
    )
    band = " Bands: one standard error over seeds." if any(len(group.runs) > 1 for group in groups) else ""
    return f'<nav class="legend" aria-label="Runs">{chips}<span class="soft">Click to hide.{band}</span></nav>'


def figure_section(title: str, figures: Sequence[Figure], numbered: dict[int, int]) -> str:
    return f'<section><h2>{escape(title)}</h2><div class="grid">{_drawings(figures, numbered)}</div></section>'


def fold(title: str, figures: Sequence[Figure], numbered: dict[int, int]) -> str:
    if not figures:
        return ""
    return (
        f'<section><details class="fold"><summary><h2>{escape(title)}</h2></summary>'
        f'<div class="grid">{_drawings(figures, numbered)}</div></details></section>'
    )


def _drawings(figures: Sequence[Figure], numbered: dict[int, int]) -> str:
    return "".join(
        f'<figure class="{"wide" if figure.wide else "half"}"><figcaption><h3>{escape(figure.title)}</h3>'
        + (f"<p>{escape(figure.caption)}</p>" if figure.caption else "")
        + f'</figcaption><div class="plot" data-figure="{numbered[id(figure)]}" role="img" '
        f'aria-label="{escape(figure.title)}"></div>'
        + "".join(f'<p class="note">{escape(note)}</p>' for note in figure.notes)
        + "</figure>"
        for figure in figures
    )


def samples(groups: Sequence[Group]) -> str:
    shown = [(number, group, group.runs[0], group.runs[0].samples()) for number, group in enumerate(groups)]
    shown = [entry for entry in shown if entry[3]]
    if not shown:
        return ""
    scale, beyond = _heat_scale([sample for *_, samples in shown for sample in samples])
    blocks = []
    for position, (number, group, run, samples) in enumerate(shown):
        body = _pairs(samples, scale)
        if len(groups) == 1:
            blocks.append(body)
        else:
            seed = f" {_seed(run)}" if len(group.runs) > 1 else ""
            blocks.append(
                f'<details class="run"{" open" * (position == 0)}><summary>{_dot(number)}{escape(group.label)}{seed}'
                f"</summary>{body}</details>"
            )
    more = "≥ " if beyond else ""
    ticks = f"<span>0</span><span>{scale / 2:g}</span><span>{more}{scale:g}</span>"
    return f"""<section><h2>Completions</h2>
<div class="heat"><span>entropy of the choice of each token (nats)</span><div><div class="ramp"></div>
<div class="ticks">{ticks}</div></div></div>{"".join(blocks)}</section>"""


def _heat_scale(samples: Sequence[dict[str, Any]]) -> tuple[float, bool]:
    """The end of the colour scale, and whether some tokens are beyond it: a few outliers must not wash out the rest."""
    entropies = [value for sample in samples for value in sample.get("entropies") or [] if value is not None]
    if not entropies:
        return 1.0, False
    end = max(0.5, math.ceil(2 * float(np.quantile(entropies, 0.98))) / 2)
    return end, max(entropies) > end


def _pairs(samples: Sequence[dict[str, Any]], scale: float) -> str:
    """Completions of the first and the last evaluated step side by side, of the same prompts where there are any."""
    first, last = samples[0]["step"], samples[-1]["step"]
    before = [sample for sample in samples if sample["step"] == first]
    after = [sample for sample in samples if sample["step"] == last] if last != first else []
    asked = [sample.get("prompt") for sample in after]
    common = list(dict.fromkeys(sample.get("prompt") for sample in before if sample.get("prompt") in asked))
    if common:
        rows = [
            (
                next(sample for sample in before if sample.get("prompt") == prompt),
                next(sample for sample in after if sample.get("prompt") == prompt),
            )
            for prompt in common[:_PAIRS_SHOWN]
        ]
    else:
        count = min(_PAIRS_SHOWN, max(len(before), len(after)))
        rows = [(_at(before, index), _at(after, index)) for index in range(count)]
    heads = f'<p class="when">Step {first}</p>' + (f'<p class="when">Step {last}</p>' if after else "")
    cells = "".join(
        f'<div class="sample">{_sample(sample, scale, step)}</div>'
        for row in rows
        for sample, step in zip(row, (first, last), strict=True)
        if after or sample in before
    )
    return f'<div class="samples{"" if after else " single"}">{heads}{cells}</div>'


def _at(samples: Sequence[dict[str, Any]], index: int) -> dict[str, Any]:
    return samples[index] if index < len(samples) else {}


def _sample(sample: dict[str, Any], scale: float, step: int) -> str:
    if not sample:
        return ""
    tokens, entropies = sample.get("tokens"), sample.get("entropies")
    if tokens and entropies:
        text = "".join(
            _token(str(token), entropy, scale)
            for token, entropy in list(zip(tokens, entropies, strict=True))[:_TOKENS_SHOWN]
        )
        if len(tokens) > _TOKENS_SHOWN:
            text += f'<span class="soft"> … {len(tokens) - _TOKENS_SHOWN} more tokens</span>'
        known = [entropy for entropy in entropies if entropy is not None]
        mean = f"mean entropy {np.mean(known):.3f} nats" if known else ""
    else:
        text, mean = escape(str(sample.get("completion", ""))), ""
    reward = sample.get("reward")
    badge = "" if reward is None else f'<b class="{"right" if reward > 0 else "wrong"}">reward {reward:.3g}</b>'
    facts = " ".join(fact for fact in (f'<span class="when-small">step {step}</span>', badge, mean) if fact)
    prompt = f'<div class="prompt">{escape(str(sample["prompt"]))}</div>' if "prompt" in sample else ""
    return f'{prompt}<div class="completion">{text}</div><p class="soft">{facts}</p>'


def _token(token: str, entropy: float | None, scale: float) -> str:
    text = escape(token.replace("\r", "␍").replace("\t", "␉")).replace("\n", "⏎\n")
    if entropy is None:
        return f'<span title="no entropy recorded">{text}</span>'
    share = min(1.0, max(0.0, entropy / scale))
    return f'<span style="--e:{share:.3f}" title="{entropy:.3f} nats">{text}</span>'


def configuration(groups: Sequence[Group]) -> str:
    keys = list(dict.fromkeys(key for group in groups for run in group.runs for key in settings(run)))
    columns = [[_setting(group, key) for group in groups] for key in keys]
    rows = list(zip(keys, columns, strict=True))
    rows.sort(key=lambda row: (len(set(row[1])) == 1, row[0] in PER_RUN))
    differing = sum(len(set(values)) > 1 for _, values in rows)
    head = "" if len(groups) == 1 else (
        "<thead><tr><th></th>"
        + "".join(f"<th>{_dot(number)}{escape(group.label)}</th>" for number, group in enumerate(groups))
        + "</tr></thead>"
    )  # fmt: skip

    def body(part: Sequence[tuple[str, list[str]]]) -> str:
        return "".join(
            f"<tr><th>{escape(re.sub('[._]', ' ', key))}</th>"
            + (
                "".join(f"<td><code>{escape(value)}</code></td>" for value in values)
                if len(set(values)) > 1
                else f'<td colspan="{len(groups)}"><code>{escape(values[0])}</code></td>'
            )
            + "</tr>"
            for key, values in part
        )

    if len(groups) == 1:
        return f"""<section><details class="fold"><summary><h2>Configuration</h2></summary>
<div class="scroll"><table class="settings"><tbody>{body(rows)}</tbody></table></div></details></section>"""
    return f"""<section><h2>Configuration</h2><h3>What differs</h3>
<div class="scroll"><table class="settings">{head}<tbody>{body(rows[:differing])}</tbody></table></div>
<details><summary>What is the same ({len(rows) - differing})</summary>
<div class="scroll"><table class="settings"><tbody>{body(rows[differing:])}</tbody></table></div></details></section>"""


def _setting(group: Group, key: str) -> str:
    values = [settings(run).get(key) for run in group.runs]
    shown = [
        "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for value in values
    ]
    return ", ".join(dict.fromkeys(shown))


def papers(runs: Sequence[RunStore]) -> str:
    keys = list(dict.fromkeys(key for run in runs for key in run.papers))
    if not keys:
        return ""
    known = {paper.key: paper for paper in catalog.papers()}
    items, entries = [], []
    for key in keys:
        paper = known.get(key)
        if paper is None:
            items.append(f"<li><code>{escape(key)}</code> (not in this version's catalog)</li>")
            continue
        title = escape(paper.title)
        link = f'<a href="{paper.url}">{title}</a>' if paper.url else title
        authors = [name for name in paper.authors if name != "others"]
        more = len(authors) > 3 or len(authors) < len(paper.authors)
        by = ", ".join(authors[:3]) + (" and others" if more else "")
        items.append(f'<li>{link}<br><span class="soft">{escape(by)}, {paper.year}, arXiv {paper.arxiv}</span></li>')
        if paper.authors:
            entries.append(paper.bibtex())
    bibtex = escape("\n\n".join(entries))
    copy = (
        f'<details><summary>BibTeX</summary><div class="bibtex"><button type="button" class="copy">Copy</button>'
        f"<pre>{bibtex}</pre></div></details>"
        if entries
        else ""
    )
    return f'<section><h2>Papers used</h2><ul class="papers">{"".join(items)}</ul>{copy}</section>'


def _dot(number: int) -> str:
    return f'<i class="dot" style="background:{series_color(number)}"></i>'


def _seed_count(group: Group) -> str:
    return f' <span class="soft">{len(group.runs)} seeds</span>' if len(group.runs) > 1 else ""


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _plain(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f")
    text = "0" if value == 0 else f"{value:#.3g}".rstrip(".") if abs(value) >= 1e-3 else f"{value:.1e}"
    return text.replace("-", "−")


def _value(pair: tuple[float, float]) -> str:
    value, stderr = pair
    if not math.isfinite(value):
        return "–"
    if not math.isfinite(stderr) or stderr == 0:
        return _plain(value)
    # To the standard error's second leading digit, but no further than the third decimal.
    digits = min(3, max(0, 1 - math.floor(math.log10(stderr))))
    error = f"{stderr:.{digits}f}" if stderr >= 5e-4 else "&lt; 0.001"
    return f"{value:.{digits}f}".replace("-", "−") + f' <span class="error">± {error}</span>'


def _percent(pair: tuple[float, float]) -> str:
    return "–" if not math.isfinite(pair[0]) else f"{pair[0]:.0%}"


def _change(start: tuple[float, float], end: tuple[float, float]) -> str:
    end_text, _, error = _value(end).partition(" ")
    return f'{_value((start[0], math.nan))} <span class="arrow">→</span> {end_text} {error}'


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"

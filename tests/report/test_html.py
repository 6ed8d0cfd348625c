import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from isentrope.report import RunStore, write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the path")

# What a single run with a target, evaluations and predictions shows outside the fold.
MAIN_CHARTS = (
    "Entropy of the policy", "Reward", "Held-out pass@k", "Covariance of log-probability and advantage", "Clipped tokens",
    "Controller", "Reward against entropy", "Predicted and measured change of entropy", "Change of entropy over time",
)  # fmt: skip


class Page(HTMLParser):
    """The report without its scripts: elements with their attributes, and the text of each chart's title."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.inside = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag):
        if tag in self.inside:
            while self.inside.pop() != tag:
                pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self.inside):
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def figures(path):
    """The charts' data by their titles."""
    text = path.read_text()
    data = json.loads(re.search(r'<script type="application/json" id="figures">(.*?)</script>', text, re.S).group(1))
    titles = dict(re.findall(r'<div class="plot" data-figure="(\d+)" role="img" aria-label="([^"]*)">', text))
    return {titles[str(number)]: figure for number, figure in enumerate(data)}


def lines(figure, group=0):
    """The visible curves of one run or group: those the reader can ask for values."""
    return [trace for trace in figure["traces"] if trace.get("meta") == group and trace.get("hovertemplate")]


def opened(path, tmp_path, script=""):
    """The document after the browser has drawn it, and what it logged."""
    page = path
    if script:
        page = tmp_path / "scripted.html"
        page.write_text(path.read_text().replace("</body>", f"<script>{script}</script></body>"))
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'browser'}", "--enable-logging=stderr", "--v=0", "--window-size=1280,3000",
        "--virtual-time-budget=10000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    dom = done.stdout
    assert "<main>" in dom, done.stderr[-2000:]
    assert "data-error" not in dom.split("<head>")[0], dom[:300]
    assert "Uncaught" not in done.stderr, done.stderr[-2000:]
    return dom


def drawn(dom):
    return dom.count('data-drawn="yes"')


OPEN_FOLDS = "document.querySelectorAll('details').forEach((fold) => { fold.open = true; });"


@browser
def test_a_browser_draws_every_chart_and_those_in_a_fold_when_it_opens(make_run, tmp_path):
    path = write_report(make_run("entropic", target=0.6), tmp_path / "report.html")
    every = len(figures(path))
    assert every > len(MAIN_CHARTS)
    count = "document.body.dataset.before = document.querySelectorAll('[data-drawn] .cartesianlayer .subplot').length;"
    dom = opened(path, tmp_path, count + OPEN_FOLDS)
    assert f'data-before="{len(MAIN_CHARTS)}"' in dom
    assert drawn(dom) == every
    assert len(re.findall(r'<svg[^>]*class="main-svg"', dom)) >= every
    paths = re.findall(r'<path class="js-line"[^>]* d="([^"]*)"', dom)
    assert len(paths) >= every
    assert max(len(path.split("L")) for path in paths) > 100, "the entropy of 200 steps is more than a few strokes"
    assert not any("NaN" in path for path in paths)
    buttons = set(re.findall(r'class="modebar-btn[^"]*"[^>]*data-title="([^"]*)"', dom))
    assert buttons == {"Download plot", "Zoom", "Pan", "Reset axes"}, "no button may send data anywhere"


@browser
def test_a_click_on_a_run_hides_it_in_every_chart(make_run, tmp_path):
    runs = [make_run(recipe, seed, steps=70) for recipe in ("grpo", "dapo") for seed in (0, 1)]
    path = write_report(runs, tmp_path / "report.html")
    stroke = "[...document.querySelectorAll('.js-line')].filter((line) => line.style.stroke === 'rgb(%s)').length"
    blue, vermilion = stroke % "0, 114, 178", stroke % "213, 94, 0"
    counts = f"document.body.dataset.%s = {blue} + ' ' + {vermilion};"
    dom = opened(path, tmp_path, counts % "before" + "document.querySelector('.chip').click();" + counts % "after")
    before = re.search(r'data-before="(\d+) (\d+)"', dom)
    after = re.search(r'data-after="(\d+) (\d+)"', dom)
    assert before is not None
    assert after is not None
    assert before.group(1) == before.group(2)
    assert int(before.group(1)) >= 8
    assert after.groups() == ("0", before.group(2))


@browser
def test_no_string_of_a_run_becomes_markup_or_script(tmp_path):
    evil = "</script><script>document.documentElement.dataset.owned='yes'</script><img src=x onerror=\"document.documentElement.dataset.owned='yes'\">'\"&<b>"
    run = RunStore.create(
        tmp_path,
        "evil",
        {"recipe": evil, "model": evil, "task": evil, "seed": 0, evil: evil, "papers": [evil], "steps": 2},
    )
    other = RunStore.create(tmp_path, "other", {"recipe": evil + "2", "seed": 0})
    for one in (run, other):
        for step in range(3):
            one.append(
                {"step": step, "entropy": 1.0 - 0.1 * step, evil: 0.5, f"coefficient/{evil}": 0.1, "coefficient/b": 0.2}
            )
        one.add_samples(
            [{"step": s, "prompt": evil, "completion": evil, "tokens": [evil, "\ud800"], "entropies": [1.0, 2.0], "reward": 1.0}
             for s in (0, 2)]
        )  # fmt: skip
        one.write_json("diagnosis", {"sentences": [evil], "numbers": {}})
    for runs, name in (([run], "one"), ([run, other], "two")):
        path = write_report(runs, tmp_path / f"{name}.html")
        if len(runs) == 2:
            assert "data-owned" not in opened(path, tmp_path, OPEN_FOLDS).split("<head>")[0]
        page = Page(path.read_text())
        assert "img" not in [tag for tag, _ in page.elements]
        assert evil in "".join(page.text)


def test_the_file_needs_no_network(make_run, tmp_path):
    page = Page(write_report(make_run("entropic", target=0.6), tmp_path / "report.html").read_text())
    for tag, attributes in page.elements:
        assert "src" not in attributes, (tag, attributes)
        assert tag not in {"link", "iframe", "img", "base"}
        if "href" in attributes:
            assert tag == "a"
            assert attributes["href"].startswith("https://arxiv.org/abs/")


def test_a_run_is_told_in_words_numbers_charts_samples_settings_and_papers(make_run, tmp_path):
    run = make_run("entropic", target=0.6)
    path = write_report(run, tmp_path / "report.html")
    page = Page(path.read_text())
    assert set(MAIN_CHARTS) < set(figures(path))
    assert {"Gradient norm", "Completion length", "Speed", "fall concentration"} < set(figures(path))
    for words in (
        *run.diagnosis["sentences"],
        "finished at step 199",
        "learning rate 0.001",
        "Step 0",
        "Step 199",
        "target 0.600",
    ):
        assert words in page.words, words
    assert "EntroPIC: Towards Stable Long-Term Training" in page.words
    assert "@misc{shao2024deepseekmath," in page.words
    metrics = run.metrics()
    start, end = metrics["entropy"][:10].mean(), metrics["entropy"][-10:].mean()
    assert f"Entropy {start:.3f} → {end:.3f}" in page.words
    inside = np.abs(metrics["entropy"][100:] - 0.6) <= 0.06
    assert f"within ±10% on {inside.mean():.0%} of the second half" in page.words
    assert f"{metrics['pass@1'][-1]:.3f} ± {metrics['pass@1_stderr'][-1]:.3f}" in page.words


def test_the_entropy_chart_holds_the_recorded_values_and_the_target_band(make_run, tmp_path):
    run = make_run("entropic", target=0.6)
    figure = figures(write_report(run, tmp_path / "report.html"))["Entropy of the policy"]
    assert figure["y"] == "entropy (nats per token)"
    (curve,) = lines(figure)
    np.testing.assert_allclose(curve["y"], run.metrics()["entropy"], rtol=1e-6)
    assert curve["x"] == list(range(200))
    low, high, target = figure["traces"][:3]
    assert set(low["y"]) == {0.54}
    assert set(high["y"]) == {0.66}
    assert high["fill"] == "tonexty"
    assert set(target["y"]) == {0.6}


def test_seeds_are_drawn_as_their_mean_with_a_band_of_one_standard_error(make_run, tmp_path):
    runs = [make_run(recipe, seed, steps=40) for recipe in ("grpo", "dapo") for seed in range(4)]
    path = write_report(runs, tmp_path / "report.html")
    values = np.stack([run.metrics()["entropy"] for run in runs[4:]])
    low, high, mean = [trace for trace in figures(path)["Entropy of the policy"]["traces"] if trace.get("meta") == 1]
    error = values.std(axis=0, ddof=1) / 2
    np.testing.assert_allclose(mean["y"], values.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(mean["customdata"], error, rtol=1e-6)
    np.testing.assert_allclose(low["y"], values.mean(axis=0) - error, rtol=1e-5)
    np.testing.assert_allclose(high["y"], values.mean(axis=0) + error, rtol=1e-5)
    words = Page(path.read_text()).words
    assert "Comparison of grpo and dapo" in words
    ends = values[:, -2:].mean(axis=1)
    digits = min(3, int(1 - np.floor(np.log10(ends.std(ddof=1) / 2))))
    assert f"{ends.mean():.{digits}f} ± {ends.std(ddof=1) / 2:.{digits}f}" in words


def test_each_run_has_one_colour_in_every_chart(make_run, tmp_path):
    runs = [make_run(recipe, seed, steps=70) for recipe in ("grpo", "dapo", "clip_cov") for seed in (0, 1)]
    charts = figures(write_report(runs, tmp_path / "report.html"))
    for group in range(3):
        used = {
            (trace.get("line") or trace["marker"]).get("color") or trace["marker"]["color"]
            for figure in charts.values()
            for trace in lines(figure, group)
        }
        assert len(used) == 1, (group, used)


def test_predicted_against_measured_gives_the_correlation(make_run, tmp_path):
    run = make_run("entropic", target=0.6)
    path = write_report(run, tmp_path / "report.html")
    metrics = run.metrics()
    known = np.isfinite(metrics["entropy_change_measured"])
    identity, points = figures(path)["Predicted and measured change of entropy"]["traces"]
    assert identity["x"] == identity["y"]
    np.testing.assert_allclose(points["x"], metrics["entropy_change_predicted"][known], rtol=1e-6)
    np.testing.assert_allclose(points["y"], metrics["entropy_change_measured"][known], rtol=1e-6)
    deviations = [metrics[f"entropy_change_{name}"][known] for name in ("predicted", "measured")]
    deviations = [values - values.mean() for values in deviations]
    r = (deviations[0] * deviations[1]).sum() / np.sqrt((deviations[0] ** 2).sum() * (deviations[1] ** 2).sum())
    assert f"r = {r:.2f} over {known.sum()} points" in Page(path.read_text()).words


def test_ten_thousand_steps_are_thinned_in_the_drawing_alone(tmp_path):
    run = RunStore.create(tmp_path, "long", {"recipe": "grpo", "seed": 0})
    entropy = 1 / (1 + np.arange(10_000) / 500)
    entropy[7_123] = 5.0
    for step, value in enumerate(entropy):
        run.append({"step": step, "entropy": value, "reward": 1 - value / 6, "gradient_norm": 1.0})
    run.flush()
    path = write_report(run, tmp_path / "report.html")
    (curve,) = lines(figures(path)["Entropy of the policy"])
    assert 500 < len(curve["x"]) < 2000
    assert curve["y"][curve["x"].index(7123)] == 5.0
    assert curve["x"][-1] == 9999
    assert len(RunStore.open(run.path)) == 10_000


def test_what_tells_little_is_folded_away(make_run, tmp_path):
    def unclipped(seed, recipe):
        run = RunStore.create(tmp_path, "x", {"recipe": recipe, "seed": seed})
        for step in range(3):
            shares = {"covariance/rewarded_likely": 0.2, "covariance/punished_unlikely": -0.1}
            run.append({"step": step, "covariance": 0.1, "clip_fraction_low": 0.0, "clip_fraction_high": 0.0, **shares})
        return run

    def shown_and_folded(runs):
        text = write_report(runs, tmp_path / "report.html").read_text()
        shown, fold = text.split("Optimisation, speed and everything else recorded")
        return [set(re.findall(r'role="img" aria-label="([^"]*)"', part)) for part in (shown, fold)]

    one, made_of = "Covariance of log-probability and advantage", "What the covariance is made of"
    assert shown_and_folded([unclipped(0, "grpo")]) == [{one, made_of}, {"Clipped tokens"}]
    assert shown_and_folded([unclipped(0, "grpo"), unclipped(0, "dapo")]) == [{one}, {"Clipped tokens", made_of}]
    clipped = make_run("dapo", steps=5)
    assert "Clipped tokens" in shown_and_folded([unclipped(0, "grpo"), clipped])[0]


def test_values_that_are_not_finite_are_gaps_and_are_counted(tmp_path):
    run = RunStore.create(tmp_path, "gaps", {"recipe": "grpo", "seed": 0})
    for step in range(20):
        run.append({"step": step, "entropy": {7: float("nan"), 9: float("inf")}.get(step, 1.0), "reward": 0.5})
    path = write_report(run, tmp_path / "report.html")
    (curve,) = lines(figures(path)["Entropy of the policy"])
    assert [step for step, value in zip(curve["x"], curve["y"], strict=True) if value is None] == [7, 9]
    assert "entropy: 2 of 20 steps have no finite value." in Page(path.read_text()).words


@pytest.mark.parametrize(
    ("rows", "charts"),
    [
        ([], set()),
        ([{"step": 0, "entropy": 1.0}], {"Entropy of the policy"}),
        ([{"step": 0, "pass@1": 0.1, "pass@1_stderr": 0.01}], {"Held-out pass@k"}),
        ([{"step": 3, "entropy": float("nan"), "reward": 0.5}], {"Reward"}),
        ([{"step": 0}, {"step": 1, "something_new": 2.0}], {"something new"}),
        ([{"step": 0, "entropy": 1.0, "reward": 0.0}, {"step": 1, "entropy": 0.5, "reward": 1.0}],
         {"Entropy of the policy", "Reward", "Reward against entropy"}),
    ],
)  # fmt: skip
def test_a_run_that_has_hardly_begun_shows_what_it_has(tmp_path, rows, charts):
    run = RunStore.create(tmp_path, "young", {"recipe": "grpo", "seed": 0, "steps": 100, "target_entropy": 0.5})
    for row in rows:
        run.append(row)
    path = write_report([run], tmp_path / "report.html")
    assert set(figures(path)) == charts
    words = Page(path.read_text()).words
    assert ("no step recorded yet" if not rows else f"unfinished: step {rows[-1]['step']} of 100") in words


@browser
def test_a_browser_opens_a_run_that_has_hardly_begun(tmp_path):
    run = RunStore.create(tmp_path, "young", {"recipe": "grpo", "seed": 0, "steps": 100})
    run.append({"step": 0, "entropy": 1.0, "reward": 0.5, "pass@1": 0.1, "pass@8": 0.5})
    assert drawn(opened(write_report(run, tmp_path / "one.html"), tmp_path)) == 3


def test_a_stopped_run_is_not_called_finished(make_run, tmp_path):
    run = make_run("grpo", steps=30, planned=200)
    run.write_json("summary", {"finished": False})
    assert "unfinished: step 29 of 200" in Page(write_report(run, tmp_path / "report.html").read_text()).words


def test_completions_of_one_prompt_stand_side_by_side_shaded_by_entropy(tmp_path):
    run = RunStore.create(tmp_path, "x", {"recipe": "grpo"})
    for step in (1, 50, 100):
        run.add_samples(
            [
                {
                    "step": step,
                    "prompt": prompt,
                    "completion": "ab",
                    "tokens": ["a", "b"],
                    "entropies": [0.0, 2.0],
                    "reward": 1,
                }
                for prompt in (f"only at {step}", "asked twice")
            ]
        )
    text = write_report(run, tmp_path / "report.html").read_text()
    page = Page(text)
    assert "only at" not in page.words
    assert "Step 1 Step 100" in page.words
    assert page.words.count("asked twice") == 2
    assert (
        '<span style="--e:0.000" title="0.000 nats">a</span><span style="--e:1.000" title="2.000 nats">b</span>' in text
    )
    assert "mean entropy 1.000 nats" in page.words


def test_without_plotly_the_error_says_what_to_install(make_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ImportError, match=r"pip install isentrope\[report\]"):
        write_report(make_run(steps=2), tmp_path / "report.html")


def test_a_report_needs_a_run_and_a_place(make_run, tmp_path):
    with pytest.raises(ValueError, match="at least one run"):
        write_report([], tmp_path / "report.html")
    with pytest.raises(OSError, match="cannot write") as caught:
        write_report(make_run(steps=2), tmp_path / "missing" / "report.html")
    assert caught.value.filename == str(tmp_path / "missing" / "report.html")

import json
import shutil
import subprocess
import sys
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("agg")
import matplotlib.pyplot as plt
from matplotlib.colors import to_rgb

from isentrope.measures import InformationMatrix, TransferEntropyMatrix
from isentrope.report import plot_information, write_information
from isentrope.report.palette import HEAT

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(autouse=True)
def figure():
    figure = plt.figure(figsize=(5, 4))
    yield figure
    plt.close("all")


def matrix_of(values, labels=None, stderr=0.01):
    values = np.asarray(values, dtype=float)
    labels = tuple(labels or (f"v{i}" for i in range(len(values))))
    kinds = ("discrete",) * len(values)
    return InformationMatrix(values, np.full(values.shape, stderr), "bit", "auto", 100, labels, kinds)


SMALL = matrix_of([[9, 0.5, -0.02], [0.5, 9, np.nan], [-0.02, np.nan, 9]], ["a", "b", "c"])


def drawn(ax):
    return np.ma.asarray(ax.get_images()[-1].get_array())


def figure_of(path):
    page = path.read_text()
    start = page.index("Plotly.newPlot(") + len("Plotly.newPlot(")
    return json.loads(f"[{page[start : page.index(');', start)]}]")[1:]


def test_the_scale_is_linear_from_zero_and_ignores_the_diagonal():
    ax = plot_information(SMALL)
    (image,) = ax.get_images()
    shown = drawn(ax)
    assert (image.norm.vmin, image.norm.vmax) == (0, 0.5)
    assert type(image.norm).__name__ == "Normalize"
    assert shown.mask.tolist() == [[True, False, False], [False, True, True], [False, True, True]]
    assert (shown[0, 1], shown[0, 2]) == (0.5, 0)
    np.testing.assert_allclose(image.cmap(0.5)[:3], to_rgb(HEAT), atol=0.02)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c"]
    assert [text.get_text() for text in ax.texts] == ["0.5", "0", "0.5", "0"]
    assert ax.figure.axes[1].get_ylabel() == "mutual information (bit)"


def test_many_variables_stand_beside_those_they_tell_of():
    group = np.arange(16) % 4
    values = np.where(group[:, None] == group, 1.0, 0.1) + 0.01 * np.random.default_rng(0).random((16, 16))
    labels = [f"g{g}" for g in group]
    ax = plot_information(matrix_of((values + values.T) / 2, labels))
    shown = [label.get_text() for label in ax.get_xticklabels()]
    assert sorted(shown) == sorted(labels)
    assert sum(a != b for a, b in pairwise(shown)) == 3
    assert not ax.texts
    ordered = drawn(ax).filled(1.0)
    assert ordered[:4, :4].min() > 0.9
    assert ordered[:4, 4:].max() < 0.2


def test_an_infinite_information_has_the_end_of_the_scale():
    ax = plot_information(matrix_of([[0, np.inf, 0.2], [np.inf, 0, 0.3], [0.2, 0.3, 0]]))
    assert drawn(ax)[0, 1] == 0.3


def test_a_pair_far_beyond_the_others_does_not_take_the_scale(tmp_path):
    values = np.full((4, 4), 0.2)
    values[0, 1] = values[1, 0] = 4.0
    values[2, 3] = values[3, 2] = 0.3
    ax = plot_information(matrix_of(values))
    assert ax.get_images()[0].norm.vmax == 0.3
    assert "4" in [text.get_text() for text in ax.texts]
    (trace,), _, _ = figure_of(write_information(matrix_of(values), tmp_path / "map.html"))
    assert (trace["zmax"], trace["z"][0][1], trace["text"][0][1]) == (0.3, 4.0, "4")
    # Where the others are nothing but chance, there is nothing to show of them.
    ax = plot_information(matrix_of(values, stderr=0.2), plt.figure().add_subplot())
    assert ax.get_images()[0].norm.vmax == 4.0


def test_nothing_but_zeros_can_be_drawn():
    assert plot_information(matrix_of(np.zeros((2, 2)))).get_images()[0].norm.vmax == 1


def test_one_variable_is_no_map():
    with pytest.raises(ValueError, match="at least two variables"):
        plot_information(matrix_of([[1.0]]))


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_pictures_are_written_whole(tmp_path, suffix, start):
    path = write_information(SMALL, tmp_path / f"map.{suffix}", title="of $a_b$")
    assert path.read_bytes().startswith(start)
    assert [entry.name for entry in tmp_path.iterdir()] == [f"map.{suffix}"]


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"map.jpg must end in .html, .png, .svg or .pdf"):
        write_information(SMALL, tmp_path / "map.jpg")


def test_the_page_tells_value_and_error_of_a_pair(tmp_path):
    (trace,), layout, config = figure_of(write_information(SMALL, tmp_path / "map.html"))
    assert trace["z"] == [[None, 0.5, 0.0], [0.5, None, None], [0.0, None, None]]
    assert (trace["zmin"], trace["zmax"]) == (0, 0.5)
    assert trace["customdata"][0][1] == "a and b<br>0.5 ± 0.01 bit"
    # What is told is the estimate, though the colour is that of zero.
    assert trace["customdata"][0][2] == "a and c<br>-0.02 ± 0.01 bit"
    assert trace["customdata"][1][2] == "b and c<br>no value"
    assert layout["yaxis"]["ticktext"] == ["a", "b", "c"]
    assert config["plotlyServerURL"] == ""


def test_names_are_no_markup(tmp_path):
    evil = "</script><script>document.title='owned'</script><b>"
    path = write_information(matrix_of([[0, 1], [1, 0]], [evil, "b"]), tmp_path / "map.html", title=evil)
    text = path.read_text()
    assert "<script>document.title" not in text
    (trace,), layout, _ = figure_of(path)
    assert "<b>" not in layout["xaxis"]["ticktext"][0]
    assert "<b>" not in trace["customdata"][0][1]


def test_without_plotly_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ImportError, match=r"isentrope\[report\]"):
        write_information(SMALL, tmp_path / "map.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(CHROMIUM is None, reason="no browser")
def test_a_browser_draws_the_map(tmp_path):
    path = write_information(SMALL, tmp_path / "map.html")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        f"--user-data-dir={tmp_path / 'browser'}", "--enable-logging=stderr", "--virtual-time-budget=10000",
        "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "Uncaught" not in done.stderr, done.stderr[-2000:]
    assert 'class="hm"' in done.stdout
    assert "mutual information (bit)" in done.stdout


def transfers(pvalue=1e-6):
    """From the first to the second, and by chance the other way round; the third is apart."""
    values = np.array([[0.0, 0.4, 0.02], [0.1, 0.0, -0.01], [0.0, 0.0005, 0.0]])
    pvalues = np.where(values > 0.3, pvalue, 0.5)
    np.fill_diagonal(pvalues, np.nan)
    return TransferEntropyMatrix(values, np.full((3, 3), 0.01), pvalues, "bit", "gaussian", 100, ("a", "b", "c"))


def test_transfers_go_from_rows_to_columns():
    ax = plot_information(transfers())
    shown = drawn(ax)
    assert (shown[0, 1], shown[1, 0], shown[1, 2]) == (0.4, 0.1, 0)
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("from", "to")
    assert ax.figure.axes[1].get_ylabel() == "transfer entropy (bit)"
    # Less than a hundredth of the scale is next to nothing.
    assert [text.get_text() for text in ax.texts] == ["0.4", "0.02", "0.1", "0", "0", "0"]


def test_transfers_unlikely_to_be_chance_are_outlined(tmp_path):
    (outline,) = plot_information(transfers()).patches
    # Column 1, row 0: from the first to the second.
    assert (round(outline.get_x() + outline.get_width() / 2), round(outline.get_y() + outline.get_height() / 2)) == (
        1,
        0,
    )
    plt.clf()
    assert not plot_information(transfers(pvalue=0.3)).patches
    plt.clf()
    assert not plot_information(transfers(pvalue=np.nan)).patches
    write_information(transfers(), tmp_path / "a.html", title="links")
    (trace,), layout, _ = figure_of(tmp_path / "a.html")
    assert trace["customdata"][0][1].startswith("a to b<br>0.4")
    (shape,) = layout["shapes"]
    assert (shape["x0"], shape["y0"]) == (pytest.approx(0.53), pytest.approx(-0.47))
    assert (layout["xaxis"]["title"]["text"], layout["yaxis"]["title"]["text"]) == ("to", "from")
    assert "Outlined: false discovery rate of at most 0.05." in (tmp_path / "a.html").read_text()


def test_many_transfers_are_clustered_and_scaled_by_both_directions():
    rng = np.random.default_rng(0)
    values = 0.01 * rng.random((16, 16))
    values[12, 3] = 0.3  # below the diagonal alone
    np.fill_diagonal(values, 0)
    matrix = TransferEntropyMatrix(
        values, np.full((16, 16), 0.001), np.full((16, 16), np.nan), "nat", "ksg", 100, tuple(map(str, range(16)))
    )
    ax = plot_information(matrix)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert abs(labels.index("12") - labels.index("3")) == 1
    # One stands far above all others: it is written into its cell, and the scale ends with the others.
    assert [text.get_text() for text in ax.texts] == ["0.3"]
    assert ax.get_images()[-1].norm.vmax == pytest.approx(np.sort(values.ravel())[-2])

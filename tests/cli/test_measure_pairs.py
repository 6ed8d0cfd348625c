import json
import math
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from isentrope.cli import main
from isentrope.cli._measuring import pairs as pairs_module
from isentrope.measures import discrete_mutual_information, mutual_information


@pytest.fixture
def measured(capsys):
    """Calls `isentrope measure FILE --pairs`: exit code, standard output, standard error."""

    def call(*arguments):
        code = 0
        try:
            main(["measure", *map(str, arguments), "--pairs"])
        except SystemExit as exit:
            code = exit.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def pairs(measured):
    """The rows of `isentrope measure FILE --pairs --json` by their two columns, and the remarks."""

    def call(*arguments):
        code, out, err = measured(*arguments, "--json")
        assert (code, err) == (0, "")
        found = json.loads(out)
        return {(row["x"], row["y"]): row for row in found["rows"]}, found["notes"]

    return call


@pytest.fixture
def refused(measured):
    def call(*arguments):
        code, out, err = measured(*arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        return err

    return call


def sample_table(n=1000):
    rng = np.random.default_rng(3)
    coin = rng.integers(0, 2, n)
    x, noise = rng.normal(size=(2, n))
    return pa.table(
        {
            "coin": coin,
            "side": np.where(coin == 1, "heads", "tails"),
            "height": x,
            "weight": 0.8 * x + 0.6 * noise,
            "shifted": noise + 6 * coin,
            "wet": np.where(coin == 1, rng.exponential(size=n), 0.0),
            "constant": np.full(n, 2.5),
        }
    )


@pytest.fixture(scope="module")
def table_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "a.csv"
    csv.write_csv(sample_table(), path)
    return path


def test_each_pair_has_the_estimator_of_its_kinds_and_the_known_value(table_path, pairs):
    rows, notes = pairs(table_path)
    assert len(rows) == 21
    read = {names: row["read_as"] for names, row in rows.items()}
    assert read["coin", "side"] == "discrete, discrete"
    assert read["coin", "height"] == read["side", "wet"] == "discrete, numeric"
    assert read["height", "weight"] == "numeric, numeric"
    table = {name: column.to_numpy() for name, column in zip(sample_table().column_names, sample_table(), strict=True)}
    expected = discrete_mutual_information(table["coin"], table["side"], base=2)
    assert rows["coin", "side"]["information"]["value"] == pytest.approx(expected.value)
    assert rows["coin", "side"]["information"]["stderr"] == pytest.approx(expected.stderr)
    expected = mutual_information(table["height"], table["weight"], base=2)
    assert rows["height", "weight"]["information"]["value"] == pytest.approx(expected.value)
    known = {
        ("coin", "side"): 1.0,
        ("height", "weight"): -0.5 * math.log2(1 - 0.8**2),
        # Six deviations apart the two laws do not overlap, and what has no density still tells whether it is zero.
        ("coin", "shifted"): 1.0,
        ("coin", "wet"): 1.0,
        ("coin", "height"): 0.0,
        ("height", "shifted"): 0.0,
    }
    for names, value in known.items():
        information = rows[names]["information"]
        assert information["unit"] == "bit"
        assert abs(information["value"] - value) < 4 * information["stderr"] + 0.01, names
        assert information["stderr"] < 0.06
    assert rows["height", "constant"]["information"]["value"] == 0
    assert rows["height", "constant"]["note"] == "a constant tells nothing"
    assert notes == [
        "discrete, discrete: from entropies (miller_madow)",
        "discrete, numeric: from neighbours with the same symbol (ross)",
        "numeric, numeric: from neighbours (ksg)",
    ]


def test_pairs_are_listed_from_the_largest_on(table_path, measured, pairs):
    values = [row["information"]["value"] for row in pairs(table_path)[0].values()]
    assert values == sorted(values, reverse=True)
    code, out, err = measured(table_path, "--top", "2", "--base", "e")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[1].split("  ")[0] == "x"
    assert "information (nat)" in lines[1]
    assert len([line for line in lines if line.startswith(("coin", "side"))]) == 2
    assert "# 19 pairs more (--top)" in lines


def test_a_remark_on_many_pairs_is_printed_once(tmp_path, measured):
    values = np.random.default_rng(0).normal(size=(60, 4))
    np.save(tmp_path / "m.npy", values)
    lines = measured(tmp_path / "m.npy", "--axis", "0")[1].splitlines()
    (remark,) = [line for line in lines if "standard error" in line]
    assert remark.startswith("# 6 pairs: ")


def test_readings_that_the_user_chooses_hold_for_pairs(table_path, pairs):
    rows, _ = pairs(table_path, "--column", "coin", "--column", "height", "--numeric", "coin")
    assert rows["coin", "height"]["read_as"] == "numeric, numeric"


def test_symbols_of_a_number_do_not_become_numbers(tmp_path, pairs):
    # 50 integers, of which neighbours are no more alike than others: only as symbols do they tell of the parity.
    codes = np.random.default_rng(0).integers(0, 50, 2000)
    parquet.write_table(pa.table({"code": codes, "odd": codes % 2 + np.linspace(0, 0.5, 2000)}), tmp_path / "a.parquet")
    rows, _ = pairs(tmp_path / "a.parquet")
    assert rows["code", "odd"]["read_as"] == "discrete, numeric"
    assert rows["code", "odd"]["information"]["value"] == pytest.approx(1, abs=0.1)


def test_where_values_are_seen_once_nothing_is_reported(tmp_path, pairs):
    rng = np.random.default_rng(0)
    n = 300
    names = [f"person {i}" for i in range(n)]
    wide, other = rng.integers(0, 60, (2, n)).astype(str)
    table = {"name": names, "wide": wide, "other": other, "coin": rng.integers(0, 2, n), "height": rng.normal(size=n)}
    parquet.write_table(pa.table(table), tmp_path / "a.parquet")
    rows, _ = pairs(tmp_path / "a.parquet")
    for names in (("name", "coin"), ("name", "height"), ("wide", "other")):
        assert rows[names]["information"] is None
        assert "too few rows" in rows[names]["note"]
    assert "too few rows for name: 300 of its 300 values are seen once" in rows["name", "height"]["note"]
    assert rows["wide", "coin"]["information"] is not None
    blank = [row["information"] is None for row in rows.values()]
    assert blank == sorted(blank), "pairs without a value stand at the end"


def test_in_thin_tables_the_correction_is_that_for_unseen_values(tmp_path, pairs):
    # Miller and Madow's would leave 0.3 bit where there is none.
    x, y = np.random.default_rng(1).integers(0, 30, (2, 1200)).astype(str)
    parquet.write_table(pa.table({"x": x, "y": y}), tmp_path / "a.parquet")
    rows, _ = pairs(tmp_path / "a.parquet")
    row = rows["x", "y"]
    assert row["information"]["method"] == "chao_wang_jost"
    assert "coverage" in row["note"]
    assert abs(row["information"]["value"]) < 0.1
    assert discrete_mutual_information(x, y, method="miller_madow", base=2) > 0.2


def test_missing_values_take_their_rows_out_of_a_pair(tmp_path, pairs, refused):
    table = sample_table()
    height = table["height"].to_numpy().copy()
    height[::10] = np.nan
    coin = pa.array(table["coin"].to_numpy(), mask=np.arange(1000) % 4 == 1)
    holed = table.select(["side", "weight"]).append_column("height", pa.array(height)).append_column("coin", coin)
    path = tmp_path / "a.parquet"
    parquet.write_table(holed, path)
    assert "100 in 'height', 250 in 'coin'" in refused(path)
    rows, _ = pairs(path, "--missing", "drop")
    assert (rows["weight", "height"]["n"], rows["height", "coin"]["n"], rows["side", "coin"]["n"]) == (900, 650, 750)
    kept = ~np.isnan(height)
    expected = mutual_information(table["weight"].to_numpy()[kept], height[kept], base=2)
    assert rows["weight", "height"]["information"]["value"] == pytest.approx(expected.value)
    assert rows["side", "coin"]["information"]["value"] == pytest.approx(1, abs=0.02)


def test_pairs_without_common_rows_are_said(tmp_path, pairs):
    x = np.where(np.arange(40) < 20, np.nan, np.random.default_rng(0).normal(size=40))
    parquet.write_table(pa.table({"x": x, "y": x[::-1].copy(), "z": [None] * 40}), tmp_path / "a.parquet")
    rows, notes = pairs(tmp_path / "a.parquet", "--missing", "drop")
    assert rows["x", "y"]["information"] is None
    assert rows["x", "y"]["note"] == "only 0 rows hold both; 10 are needed"
    assert "z: left out, all values are missing" in notes


def test_dependence_is_tested_by_shuffling(table_path, pairs):
    chosen = [word for name in ("coin", "side", "height", "weight") for word in ("--column", name)]
    rows, notes = pairs(table_path, *chosen, "--test", "--shuffles", "99")
    assert rows["coin", "side"]["p"] == rows["height", "weight"]["p"] == 0.01
    assert rows["coin", "height"]["p"] > 0.05
    # Two of six pairs have p = 0.01, and of six pairs without dependence 0.06 would: of those two, a share of 0.03.
    assert rows["coin", "side"]["q"] == pytest.approx(0.03)
    assert any("99 shuffles" in note for note in notes)
    assert "p" not in next(iter(pairs(table_path, *chosen)[0].values()))


def test_long_columns_of_numbers_are_drawn_from(table_path, pairs):
    rows, notes = pairs(table_path, "--rows", "400")
    assert rows["height", "weight"]["n"] == rows["coin", "wet"]["n"] == 400
    assert rows["coin", "side"]["n"] == 1000
    assert "pairs with numbers: 400 of 1,000 rows, drawn at random (--rows for more)" in notes
    assert rows == pairs(table_path, "--rows", "400")[0]


def test_arrays_hold_pairs_of_columns(tmp_path, pairs, refused):
    table = sample_table()
    matrix = np.column_stack([table["height"], table["weight"]])
    np.save(tmp_path / "m.npy", matrix)
    rows, _ = pairs(tmp_path / "m.npy", "--axis", "0")
    expected = mutual_information(matrix[:, 0], matrix[:, 1], base=2).value
    assert rows["m[:, 0]", "m[:, 1]"]["information"]["value"] == pytest.approx(expected)
    assert "say along which axis the samples lie" in refused(tmp_path / "m.npy")
    np.savez(tmp_path / "z.npz", x=matrix[:, 0], y=matrix[:, 1])
    assert pairs(tmp_path / "z.npz")[0]["x", "y"]["information"]["value"] == pytest.approx(expected)
    np.savez(tmp_path / "z.npz", x=matrix[:, 0], y=matrix[1:, 1])
    assert "columns of one length (got 1,000 in 'x' and 999 in 'y')" in refused(tmp_path / "z.npz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--series",), "choose one"),
        (("--lag", "2"), "--lag goes with --series"),
        (("--shuffles", "9"), "--shuffles goes with --test"),
        (("--test", "--shuffles", "0"), "--shuffles must be at least 1"),
        (("--rows", "5"), "--rows must be at least 100"),
        (("--plot", "map.jpg"), "must end in .html, .png, .svg, .pdf"),
        (("--plot", "nowhere/map.png"), "there is no folder nowhere"),
        (("--column", "coin"), "--pairs takes at least 2 columns"),
    ],
)
def test_what_does_not_fit_is_refused(table_path, refused, options, message):
    assert message in refused(table_path, *options)


def test_options_of_pairs_need_pairs(table_path, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("abc" * 100)
    for arguments, message in [
        ([table_path, "--plot", "a.png"], "--plot goes with --pairs"),
        ([table_path, "--test"], "--test goes with --pairs"),
        ([table_path, "--top", "3"], "--top goes with --pairs"),
        ([table_path, "--rows", "300"], "--rows goes with --pairs"),
        ([tmp_path / "a.txt", "--pairs"], "--pairs does not apply to text"),
        ([table_path, table_path, "--pairs", "--plot", "a.png"], "--plot draws one file"),
    ]:
        with pytest.raises(SystemExit):
            main(["measure", *map(str, arguments)])
        assert message in capsys.readouterr().err


def test_infinite_numbers_are_refused(tmp_path, refused):
    (tmp_path / "a.csv").write_text(
        "x,y\n" + "".join(f"{i * 0.37},{'inf' if i == 7 else i * 1.5}\n" for i in range(50))
    )
    assert "column 'y': 1 of 50 values are infinite" in refused(tmp_path / "a.csv")


def test_the_heat_map_holds_the_listed_values(table_path, tmp_path, pairs):
    rows, _ = pairs(table_path, "--plot", tmp_path / "map.html")
    page = (tmp_path / "map.html").read_text()
    start = page.index("Plotly.newPlot(") + len("Plotly.newPlot(")
    _, trace, layout, _ = json.loads(f"[{page[start : page.index(');', start)]}]")
    labels = layout["xaxis"]["ticktext"]
    assert labels == sample_table().column_names
    (trace,) = trace
    for (x, y), row in rows.items():
        i, j = labels.index(x), labels.index(y)
        assert trace["z"][i][j] == trace["z"][j][i] == pytest.approx(max(0, row["information"]["value"]))
    assert all(trace["z"][i][i] is None for i in range(len(labels)))


def test_an_interrupted_measurement_leaves_nothing(table_path, tmp_path, measured, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pairs_module, "_measure_pair", interrupted)
    code, out, err = measured(table_path, "--plot", tmp_path / "map.png")
    assert (code, out) == (130, "")
    assert "interrupted" in err
    assert list(tmp_path.iterdir()) == []


def test_wine(tmp_path, pairs):
    datasets = pytest.importorskip("sklearn.datasets")
    from sklearn.feature_selection import mutual_info_classif

    wine = datasets.load_wine()
    columns = {"class": wine.target, **dict(zip(wine.feature_names, wine.data.T, strict=True))}
    csv.write_csv(pa.table(columns), tmp_path / "wine.csv")
    chosen = ["alcohol", "ash", "magnesium", "flavanoids"]
    options = [word for name in ["class", *chosen] for word in ("--column", name)]
    rows, _ = pairs(tmp_path / "wine.csv", "--base", "e", *options)
    assert rows["class", "alcohol"]["read_as"] == "discrete, numeric"
    found = {name: rows["class", name]["information"]["value"] for name in chosen}
    theirs = mutual_info_classif(
        wine.data[:, [wine.feature_names.index(name) for name in chosen]], wine.target, n_neighbors=4, random_state=0
    )
    # The same formula (Ross 2014), but for values that recur: there they are moved by chance, here they count.
    assert list(found.values()) == pytest.approx(theirs.tolist(), abs=0.06)
    assert max(found, key=lambda name: found[name]) == "flavanoids"


def test_breast_cancer(tmp_path, pairs):
    datasets = pytest.importorskip("sklearn.datasets")
    cancer = datasets.load_breast_cancer()
    columns = dict(zip(cancer.feature_names.tolist(), cancer.data.T, strict=True))
    chosen = ["mean radius", "mean perimeter", "mean smoothness", "texture error"]
    table = pa.table({"malignant": cancer.target == 0, **{name: columns[name] for name in chosen}})
    csv.write_csv(table, tmp_path / "cancer.csv")
    rows, _ = pairs(tmp_path / "cancer.csv", "--test", "--shuffles", "99")
    # A perimeter is a radius but for roughness; the error of the texture tells nothing of the diagnosis.
    assert next(iter(rows)) == ("mean radius", "mean perimeter")
    assert rows["mean radius", "mean perimeter"]["information"]["value"] > 2
    assert rows["malignant", "mean radius"]["p"] == 0.01
    texture = rows["malignant", "texture error"]["information"]
    assert abs(texture["value"]) < 0.1
    # Nobody is told more of a coin than its entropy.
    share = float(np.mean(cancer.target))
    most = -(share * math.log2(share) + (1 - share) * math.log2(1 - share))
    z = NormalDist().inv_cdf(0.9999)
    for name in chosen:
        information = rows["malignant", name]["information"]
        assert information["value"] < most + z * information["stderr"]

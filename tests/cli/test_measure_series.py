import json
import math

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from isentrope.cli import main
from isentrope.measures import (
    dispersion_entropy,
    entropy_rate,
    lempel_ziv_complexity,
    permutation_entropy,
    sample_entropy,
    spectral_entropy,
)


@pytest.fixture
def measured(capsys):
    """Calls `isentrope measure FILE --series`: exit code, standard output, standard error."""

    def call(*arguments):
        code = 0
        try:
            main(["measure", *map(str, arguments), "--series"])
        except SystemExit as exit:
            code = exit.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def series(measured):
    """The rows of `isentrope measure FILE --series --json` by their name, and the remarks."""

    def call(*arguments):
        code, out, err = measured(*arguments, "--json")
        assert (code, err) == (0, "")
        found = json.loads(out)
        return {row["series"]: row for row in found["rows"]}, found["notes"]

    return call


def golden_mean_shift(n):
    """Symbols of which a 1 is never followed by another, with the largest entropy rate: the log of the golden mean."""
    golden = (1 + math.sqrt(5)) / 2
    rng = np.random.default_rng(0)
    symbols = [0]
    for chance in rng.random(n - 1):
        symbols.append(int(symbols[-1] == 0 and chance < 1 / golden**2))
    return symbols


@pytest.fixture(scope="module")
def table_path(tmp_path_factory):
    n = 4000
    rng = np.random.default_rng(1)
    table = {
        "noise": rng.normal(size=n),
        "tone": np.sin(0.1 * np.arange(n)),
        "walk": np.cumsum(rng.normal(size=n)),
        "shift": golden_mean_shift(n),
        "coin": rng.choice(["heads", "tails"], n),
        "constant": np.full(n, 3.5),
    }
    path = tmp_path_factory.mktemp("tables") / "a.parquet"
    parquet.write_table(pa.table(table), path)
    return path


def test_known_series(table_path, series):
    rows, notes = series(table_path, "--base", "e")
    noise = rows["noise"]
    assert noise["read_as"] == "numbers"
    for share in ("permutation", "dispersion", "spectral"):
        assert noise[share] == pytest.approx(1, abs=0.01)
    # Parsings are long in coming to their limit, from above.
    assert 1 < noise["Lempel-Ziv"] < 1.1
    assert noise["sample"] == pytest.approx(-math.log(math.erf(0.1)), abs=0.06)
    for regular in ("tone", "walk"):
        for share in ("permutation", "dispersion", "spectral", "sample", "Lempel-Ziv"):
            assert rows[regular][share] < 0.97 * noise[share]
    # Permutation entropy is that of the walk's steps: rising or falling by chance, where a tone goes on as it went.
    assert rows["tone"]["permutation"] < rows["walk"]["permutation"]
    assert rows["shift"]["read_as"] == rows["coin"]["read_as"] == "symbols"
    assert rows["shift"]["rate"]["value"] == pytest.approx(math.log((1 + math.sqrt(5)) / 2), abs=0.02)
    assert rows["coin"]["rate"]["value"] == pytest.approx(math.log(2), abs=0.01)
    assert rows["coin"]["permutation"] is None
    assert rows["constant"]["note"] == "constant"
    assert any(note.startswith("sample: sample entropy of order 2") for note in notes)


def test_the_numbers_are_those_of_the_functions(table_path, series):
    walk = parquet.read_table(table_path)["walk"].to_numpy()
    rows, notes = series(table_path, "--lag", "3")
    found = rows["walk"]
    assert found["permutation"] == pytest.approx(permutation_entropy(walk, order=4, delay=3, normalize=True))
    assert found["sample"] == pytest.approx(sample_entropy(walk, delay=3, base=2))
    assert found["dispersion"] == pytest.approx(dispersion_entropy(walk, order=2, classes=6, delay=3, normalize=True))
    assert found["spectral"] == pytest.approx(spectral_entropy(walk, segment=256, normalize=True))
    assert found["Lempel-Ziv"] == pytest.approx(lempel_ziv_complexity(walk > np.median(walk), normalize=True))
    coin = parquet.read_table(table_path)["coin"].to_pylist()
    assert rows["coin"]["rate"]["value"] == pytest.approx(entropy_rate(coin, base=2).value)
    assert "steps between the values of a window: 3 (--lag)" in notes


def test_missing_values_leave_their_windows_out_and_close_no_gap(tmp_path, series):
    # A zigzag without every sixth value: rising and falling steps would look alike if the gaps were closed.
    zigzag = np.arange(600.0) % 2 + np.random.default_rng(0).normal(size=600) * 0.01
    zigzag[::6] = np.nan
    csv.write_csv(pa.table({"zigzag": zigzag, "word": pa.array(["a", None, "b"] * 200)}), tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text((tmp_path / "a.csv").read_text().replace("nan", ""))
    rows, _ = series(tmp_path / "a.csv", "--missing", "drop")
    found = rows["zigzag"]
    assert (found["n"], found["missing"]) == (500, 100)
    expected = permutation_entropy(zigzag, order=4, normalize=True, nan_policy="omit")
    assert found["permutation"] == pytest.approx(expected)
    assert found["permutation"] < permutation_entropy(zigzag[~np.isnan(zigzag)], order=4, normalize=True) - 0.05
    assert found["Lempel-Ziv"] is None
    assert "cannot leave missing values out" in found["note"]
    assert "symbols are missing" in rows["word"]["note"]


def test_series_along_the_axis_of_an_array(tmp_path, series, measured):
    rng = np.random.default_rng(0)
    array = np.stack([rng.normal(size=500), np.sin(0.2 * np.arange(500))])
    np.save(tmp_path / "s.npy", array)
    rows, _ = series(tmp_path / "s.npy", "--axis", "1")
    assert rows["s[1, :]"]["permutation"] == pytest.approx(permutation_entropy(array[1], order=4, normalize=True))
    assert rows["s[1, :]"]["spectral"] < rows["s[0, :]"]["spectral"]
    assert "say along which axis" in measured(tmp_path / "s.npy")[2]
    np.savez(tmp_path / "z.npz", long=array[0], short=array[1, :400])
    rows, _ = series(tmp_path / "z.npz")
    assert (rows["long"]["n"], rows["short"]["n"]) == (500, 400)


def test_what_is_too_short_is_said(tmp_path, series):
    np.savez(tmp_path / "z.npz", a=np.random.default_rng(0).normal(size=40), b=np.arange(200.0) ** 2)
    rows, _ = series(tmp_path / "z.npz", "--lag", "5")
    assert rows["a"]["note"] == "too short: at least 52 values are needed for a lag of 5"
    assert "come out low" in rows["b"]["note"]


def test_sample_entropy_of_a_long_series_takes_its_middle(tmp_path, series, monkeypatch):
    from isentrope.cli._measuring import series as module

    monkeypatch.setattr(module, "_LONGEST_COMPARED", 500)
    values = np.random.default_rng(0).normal(size=1500)
    values[500:1000] = np.sin(0.3 * np.arange(500))
    np.save(tmp_path / "s.npy", values)
    rows, _ = series(tmp_path / "s.npy")
    assert rows["s"]["sample"] == pytest.approx(sample_entropy(values[500:1000], base=2))
    assert "sample entropy of 500 values in the middle" in rows["s"]["note"]


def test_the_table_names_unit_and_settings(table_path, measured):
    code, out, err = measured(table_path, "--column", "noise", "--column", "coin")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    for heading in ("series", "permutation", "sample (bit)", "rate (bit)", "Lempel-Ziv"):
        assert heading in lines[1]
    assert "# permutation: orders of 4 values, as a share of the largest entropy" in lines


def test_lag_is_checked_and_infinity_refused(table_path, tmp_path, measured):
    assert "--lag must be at least 1" in measured(table_path, "--lag", "0")[2]
    np.save(tmp_path / "s.npy", np.r_[np.arange(100.0), np.inf])
    assert "1 of 101 values are infinite" in measured(tmp_path / "s.npy")[2]


def test_sunspots(tmp_path, series):
    datasets = pytest.importorskip("statsmodels.datasets")
    spots = datasets.sunspots.load_pandas().data
    spots.to_csv(tmp_path / "sunspots.csv", index=False)
    rows, _ = series(tmp_path / "sunspots.csv")
    found, years = rows["SUNACTIVITY"], rows["YEAR"]
    # A cycle of eleven years: far from noise, and far from the straight line of the years.
    assert years["permutation"] == years["sample"] == 0
    assert 0.4 < found["permutation"] < 0.8
    assert 0.4 < found["spectral"] < 0.7
    assert found["sample"] == pytest.approx(sample_entropy(spots["SUNACTIVITY"].to_numpy(), base=2))


def test_no_number_is_cut_off_on_a_terminal_of_80_columns():
    from io import StringIO

    from rich.console import Console

    from isentrope.cli._measuring.exchange import Found
    from isentrope.cli._measuring.rendering import show

    row = {
        "series": "left_temporal_electrode_03",
        "type": "float",
        "read as": "numbers",
        "permutation": 0.65149,
        "sample*": 1.2171,
        "dispersion": 0.81916,
        "spectral": 0.64133,
        "Lempel-Ziv": 0.51374,
        "n": 100_000,
        "missing": 1234,
        "note": None,
    }
    screen = StringIO()
    show(Console(file=screen, force_terminal=True, no_color=True, width=80), "a.npy", Found("NumPy", [row, row]), "bit")
    out = screen.getvalue()
    assert max(map(len, out.splitlines())) <= 80 + len("\x1b[1m\x1b[0m") * 12
    for number in ("0.65149", "1.2171", "0.81916", "0.64133", "0.51374", "100,000", "1,234"):
        assert out.count(number) == 2
    assert "left out for want of width: type and read as (--json has all)" in out
    wide = StringIO()
    show(Console(file=wide, force_terminal=True, no_color=True, width=120), "a.npy", Found("NumPy", [row]), "bit")
    assert "float" in wide.getvalue()

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from isentrope.cli import main
from isentrope.measures import transfer_entropy, transfer_entropy_matrix


@pytest.fixture
def measured(capsys):
    """Calls `isentrope measure FILE --transfer`: exit code, standard output, standard error."""

    def call(*arguments):
        code = 0
        try:
            main(["measure", *map(str, arguments), "--transfer"])
        except SystemExit as exit:
            code = exit.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def transfers(measured):
    """The rows of `isentrope measure FILE --transfer --json` by source and target, and the remarks."""

    def call(*arguments):
        code, out, err = measured(*arguments, "--json")
        assert (code, err) == (0, "")
        found = json.loads(out)
        return {(row["source"], row["target"]): row for row in found["rows"]}, found["notes"]

    return call


def chain(n=1500):
    """A series that drives a second one, 0.5 ln 2 nat at lag 2, of which the square drives a third."""
    rng = np.random.default_rng(0)
    first, second, third = rng.normal(size=(3, n))
    second[2:] += first[:-2]
    third[1:] = 0.3 * third[1:] + second[:-1] ** 2
    return {"first": first, "second": second, "third": third}


@pytest.fixture
def table_path(tmp_path):
    parquet.write_table(pa.table(chain()), tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


def test_planted_transfers_are_found_in_their_direction(table_path, transfers):
    rows, notes = transfers(table_path, "--lag", "2", "--base", "e")
    assert len(rows) == 6
    assert rows["first", "second"]["transfer"]["value"] == pytest.approx(math.log(2) / 2, abs=0.05)
    assert [pair for pair, row in rows.items() if row["q"] < 0.05] == [("first", "second")]
    assert any("--neighbours finds any dependence" in note for note in notes)
    assert any("what the source 2 steps before (--lag)" in note for note in notes)
    # Correlations do not see a square.
    rows, notes = transfers(table_path, "--neighbours", "--test", "--shuffles", "59", "--rows", "400")
    assert rows["second", "third"]["p"] == pytest.approx(1 / 60, abs=1e-3)
    assert rows["third", "second"]["p"] > 0.05
    assert max(rows, key=lambda pair: rows[pair]["transfer"]["value"]) == ("second", "third")
    assert "400 successive rows of 1,500, from row 551 on (--rows for more)" in notes


def test_the_numbers_are_those_of_the_functions(table_path, transfers):
    columns = chain()
    rows, _ = transfers(table_path, "--history", "2")
    histories = {"source_history": 2, "target_history": 2}
    expected = transfer_entropy_matrix(list(columns.values()), method="gaussian_copula", base=2, **histories)
    adjusted = expected.adjusted_pvalues()
    for i, source in enumerate(columns):
        for j, target in enumerate(columns):
            if i != j:
                row = rows[source, target]
                assert row["transfer"]["value"] == pytest.approx(expected.values[i, j])
                assert row["transfer"]["stderr"] == pytest.approx(expected.stderr[i, j])
                assert row["q"] == pytest.approx(adjusted[i, j], rel=0.05)
                assert row["n"] == 1498
                assert row["transfer"]["bias_correction"] is None
    rows, _ = transfers(table_path, "--neighbours", "--rows", "500", "--column", "first", "--column", "second")
    found = transfer_entropy(columns["first"][500:1000], columns["second"][500:1000], base=2)
    assert rows["first", "second"]["transfer"]["value"] == pytest.approx(found.value)
    assert "p" not in rows["first", "second"]


def test_symbols_are_measured_pair_by_pair(tmp_path, transfers):
    rng = np.random.default_rng(1)
    coin = rng.choice(["heads", "tails"], 800)
    follows = np.concatenate([["heads"], coin[:-1]])
    parquet.write_table(
        pa.table({"coin": coin, "echo": follows, "number": rng.normal(size=800)}), tmp_path / "a.parquet"
    )
    rows, notes = transfers(tmp_path / "a.parquet", "--test", "--shuffles", "19")
    assert rows["coin", "echo"]["transfer"]["value"] == pytest.approx(1, abs=0.02)
    assert rows["coin", "echo"]["p"] == 0.05
    assert abs(rows["echo", "coin"]["transfer"]["value"]) < 0.02
    assert any(note.startswith("pairs of symbols: from entropies") for note in notes)
    assert any(note.startswith("pairs with numbers: from neighbours") for note in notes)


def test_counts_are_numbers_unless_they_are_said_to_be_symbols(tmp_path, transfers):
    counts = np.random.default_rng(2).poisson(3, size=(2, 1000))
    counts[1, 1:] += counts[0, :-1]
    parquet.write_table(pa.table({"calls": counts[0], "queue": counts[1]}), tmp_path / "a.parquet")
    rows, notes = transfers(tmp_path / "a.parquet")
    assert rows["calls", "queue"]["q"] < 1e-6 < rows["queue", "calls"]["q"]
    assert notes[0].startswith("from correlations of the ranks' normal scores")
    rows, notes = transfers(tmp_path / "a.parquet", "--discrete", "calls", "--discrete", "queue")
    assert notes[0].startswith("pairs of symbols: from entropies")
    assert rows["queue", "calls"]["note"].startswith("coverage 0.")
    assert rows["calls", "queue"]["transfer"]["value"] > rows["queue", "calls"]["transfer"]["value"] + 0.1


def test_the_longest_stretch_without_a_gap_is_measured(tmp_path, measured, transfers):
    columns = chain(600)
    columns["first"][100] = columns["third"][450] = math.nan
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert "pass --missing drop" in measured(tmp_path / "a.parquet")[2]
    rows, notes = transfers(tmp_path / "a.parquet", "--missing", "drop")
    assert "the longest stretch without a missing value: 349 of 600 rows, from 102 on" in notes
    expected = transfer_entropy_matrix([c[101:450] for c in columns.values()], method="gaussian_copula", base=2)
    assert rows["first", "third"]["transfer"]["value"] == pytest.approx(expected.values[0, 2])
    columns["first"][::10] = math.nan
    parquet.write_table(pa.table(columns), tmp_path / "b.parquet")
    error = measured(tmp_path / "b.parquet", "--missing", "drop")[2]
    assert "at least 20 successive rows without a missing value (got 9)" in error


def test_arrays_pictures_and_tables(tmp_path, measured, transfers):
    array = np.stack(list(chain(500).values()))
    np.save(tmp_path / "s.npy", array)
    code, out, err = measured(
        tmp_path / "s.npy", "--axis", "1", "--lag", "2", "--plot", tmp_path / "map.html", "--top", "2"
    )
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[1].split() == ["source", "target", "transfer", "(bit)", "p", "q", "n"]
    assert lines[2].startswith("s[0, :] s[1, :]")
    assert "# 4 pairs more (--top)" in lines
    page = (tmp_path / "map.html").read_text()
    assert "transfer entropy (bit)" in page
    assert "s[0, :] to s[1, :]" in page
    np.savez(tmp_path / "z.npz", a=array[0], b=array[1, :400])
    assert "--transfer takes columns of one length (got 500 in 'a' and 400 in 'b')" in measured(tmp_path / "z.npz")[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pairs"], "--pairs and --transfer ask for different things"),
        (["--history", "0"], "--history must be at least 1"),
        (["--shuffles", "9"], "--shuffles goes with --test"),
        (["--column", "first"], "--transfer takes at least 2 columns (got 1)"),
        (["--history", "800"], "samples are too few for lag=1, source_history=800"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(table_path, measured, options, message):
    code, out, err = measured(table_path, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_options_of_transfers_need_them(table_path, capsys):
    for option in (["--history", "2"], ["--neighbours"]):
        with pytest.raises(SystemExit):
            main(["measure", str(table_path), "--series", *option])
        assert f"{option[0]} goes with --transfer" in capsys.readouterr().err
    parquet.write_table(pa.table({**chain(60), "copy": chain(60)["first"]}), table_path)
    with pytest.raises(SystemExit):
        main(["measure", str(table_path), "--transfer"])
    assert "the values of first and copy at these lags are linearly dependent" in capsys.readouterr().err

import io
import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import csv, parquet
from safetensors.torch import save_file

from isentrope.cli import main
from isentrope.measures import conditional_block_entropy, differential_entropy, discrete_entropy


@pytest.fixture
def measured(capsys):
    """Calls `isentrope measure`: exit code, standard output, standard error."""

    def call(*arguments):
        code = 0
        try:
            main(["measure", *map(str, arguments)])
        except SystemExit as exit:
            code = exit.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def as_json(measured):
    """The one JSON object that `isentrope measure --json` prints for one file."""

    def call(*arguments):
        code, out, err = measured(*arguments, "--json")
        assert (code, err) == (0, "")
        assert out.count("\n") == 1
        return json.loads(out)

    return call


@pytest.fixture
def refused(measured):
    """The one line on standard error for a file that cannot be measured."""

    def call(*arguments):
        code, out, err = measured(*arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        return err

    return call


def sample_table(n=2000):
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "city": rng.choice(["Rome", "Oslo", "Lima"], n, p=[0.5, 0.25, 0.25]),
            "age": rng.integers(0, 90, n),
            "height": rng.normal(170, 10, n),
            "flag": rng.random(n) < 0.1,
            "identity": rng.permutation(n) * 1000,
            "constant": np.full(n, 2.5),
            "zeros": np.where(rng.random(n) < 0.3, 0, rng.normal(size=n)),
        }
    )


def by(rows, key):
    return {row[key]: row for row in rows}


# Text


def test_text(tmp_path, as_json):
    text = "the cat sat on the mat; the dog ate the cat. " * 3 + "A rather different end of it all!"
    (tmp_path / "a.txt").write_text(text)
    found = as_json(tmp_path / "a.txt")
    assert found["unit"] == "bit"
    assert "one byte each" in found["holds"]
    first = found["rows"][0]
    expected = conditional_block_entropy(text, 0, method="grassberger", base=2)
    assert (first["per"], first["given"]) == ("character", "nothing")
    assert first["entropy"]["value"] == expected.value
    assert first["entropy"]["stderr"] == expected.stderr
    assert first["entropy"]["unit"] == "bit"
    assert "compressed" in found["rows"][-1]["given"]


def test_bases(tmp_path, as_json):
    (tmp_path / "a.txt").write_text("abcd" * 500)
    values = {base: as_json(tmp_path / "a.txt", "--base", base)["rows"][0]["entropy"] for base in ("2", "e", "10")}
    assert [value["unit"] for value in values.values()] == ["bit", "nat", "hartley"]
    assert values["2"]["value"] == pytest.approx(2, abs=2e-3)
    assert values["e"]["value"] == pytest.approx(values["2"]["value"] * math.log(2))
    assert values["10"]["value"] == pytest.approx(values["2"]["value"] * math.log10(2))


def test_characters_and_bytes(tmp_path, as_json):
    (tmp_path / "a.txt").write_text("né∞ " * 300, encoding="utf-8")
    rows = as_json(tmp_path / "a.txt")["rows"]
    alone = {row["per"]: row["entropy"] for row in rows if row["given"] == "nothing"}
    assert alone["character"]["value"] == pytest.approx(2.0, abs=2e-3)
    assert alone["byte"]["n"] == 2100
    compressed = {row["per"]: row["entropy"] for row in rows if "compressed" in row["given"]}
    assert compressed["character"] * 1200 == pytest.approx(compressed["byte"] * 2100)


def test_bytes_that_are_no_text(tmp_path, as_json):
    (tmp_path / "a.txt").write_bytes("café ".encode("latin-1") * 100)
    found = as_json(tmp_path / "a.txt")
    assert found["holds"] == "500 bytes"
    assert "not UTF-8 text (byte 0xe9 at offset 3): read as bytes" in found["notes"]
    (tmp_path / "b.bin").write_bytes(bytes(range(256)) * 20)
    assert as_json(tmp_path / "b.bin")["rows"][0]["entropy"]["value"] == pytest.approx(8.0, abs=0.04)
    (tmp_path / "c").write_bytes(b"ab\0" * 100)
    assert "holds zero bytes (the first at offset 2): read as bytes" in as_json(tmp_path / "c")["notes"]


def test_standard_input(monkeypatch, as_json):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"abab" * 100)))
    found = as_json("-")
    assert found["file"] == "-"
    assert found["rows"][0]["entropy"]["value"] == pytest.approx(1.0, abs=5e-3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b"\xef\xbb\xbf", "nothing but a byte order mark"),
        ("a.csv", b"x,y\n", "has 2 columns but no rows"),
        ("a.csv", b"x,y\n1,2\n3\n", "Expected 2 columns, got 1"),
        ("a.csv", b"x\n1\ninf\n3\n4.5\n6\n", "column 'x': differential_entropy: 1 of 5 samples are NaN or infinite"),
        ("a.parquet", b"PAR1 not really", "cannot be read as Parquet"),
        ("a.npy", b"\x93NUMPY not really", "cannot be read as NumPy data"),
        ("a.npz", b"PK\x03\x04 not really", "cannot be read as NumPy data"),
        ("a.safetensors", b"\x10\0\0\0\0\0\0\0{}", "cannot be read as safetensors"),
    ],
)
def test_broken_files_are_explained(tmp_path, refused, name, content, message):
    (tmp_path / name).write_bytes(content)
    error = refused(tmp_path / name)
    assert message in error
    assert f"{tmp_path / name}: " in error


def test_directory_is_refused(tmp_path, refused):
    assert "is a directory; name the files in it" in refused(tmp_path)


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="pipes have no names here")
def test_a_pipe_is_read_once(as_json):
    reading, writing = os.pipe()
    os.write(writing, b"a" * 10_000 + b"b" * 10_000)
    os.close(writing)
    found = as_json(f"/dev/fd/{reading}")
    os.close(reading)
    assert found["holds"].startswith("UTF-8 text, 20,000 characters (2 distinct)")
    assert found["rows"][0]["entropy"]["value"] == pytest.approx(1.0, abs=1e-3)


def test_a_constant_text_has_exactly_no_entropy(tmp_path, as_json):
    (tmp_path / "a.txt").write_text("a" * 295_904)
    rows = as_json(tmp_path / "a.txt")["rows"]
    assert [row["entropy"]["value"] for row in rows[:-1]] == [0] * (len(rows) - 1)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.parquet", "a.npy", "a.safetensors"])
def test_files_are_called_what_the_user_calls_them(tmp_path, monkeypatch, as_json, measured, name):
    monkeypatch.chdir(tmp_path)
    write_one_of_each(Path())
    assert as_json(f"./{name}")["file"] == f"./{name}"
    assert measured(f"./{name}")[1].startswith(f"./{name}: ")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.txt", ["--column", "x"], "--column does not apply to text or bytes"),
        ("a.txt", ["--missing", "drop"], "--missing does not apply to text or bytes"),
        ("a.txt", ["--samples"], "--samples does not apply to text or bytes"),
        ("a.csv", ["--axis", "0"], "--axis does not apply to tables"),
        ("a.csv", ["--probabilities"], "--probabilities does not apply to tables"),
        ("a.parquet", ["--axis", "0"], "--axis does not apply to tables"),
        ("a.parquet", ["--samples"], "--samples does not apply to tables"),
        ("a.npy", ["--column", "x"], "no array 'x'; there are 'a'"),
        ("a.npy", ["--discrete", "x"], "no array 'x'; there are 'a'"),
        ("a.npy", ["--discrete", "a", "--probabilities"], "--probabilities does not apply to array 'a', whose values"),
        ("a.safetensors", ["--discrete", "x"], "--discrete does not apply to tensors"),
        ("a.safetensors", ["--numeric", "x"], "--numeric does not apply to tensors"),
        ("a.safetensors", ["--missing", "drop"], "--missing does not apply to tensors"),
        ("a.safetensors", ["--axis", "0"], "--axis does not apply to tensors"),
        ("a.safetensors", ["--probabilities"], "--probabilities does not apply to tensors"),
    ],
)
def test_options_that_do_not_apply_are_refused(tmp_path, refused, name, options, message):
    write_one_of_each(tmp_path)
    assert f"{name}: {message}" in refused(tmp_path / name, *options)


def write_one_of_each(folder):
    (folder / "a.txt").write_text("abcd" * 10)
    (folder / "a.csv").write_text("x\n" + "1\n2\n" * 10)
    parquet.write_table(pa.table({"x": [1, 2] * 10}), folder / "a.parquet")
    np.save(folder / "a.npy", np.full(4, 0.25))
    save_file({"x": torch.arange(10)}, folder / "a.safetensors")


# Tables


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_columns(tmp_path, as_json, suffix):
    table = sample_table()
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        parquet.write_table(table, path)
    else:
        csv.write_csv(table, path, csv.WriteOptions(delimiter="\t" if suffix == "tsv" else ","))
    rows = by(as_json(path, "--base", "e")["rows"], "column")
    readings = {name: row["read_as"] for name, row in rows.items()}
    assert readings == {
        "city": "discrete",
        "age": "discrete",
        "height": "numeric",
        "flag": "discrete",
        "identity": "numeric",
        "constant": "numeric",
        "zeros": "discrete",
    }
    for name in ("city", "age", "flag"):
        expected = discrete_entropy(table[name].to_numpy(zero_copy_only=False))
        assert rows[name]["entropy"]["value"] == pytest.approx(expected.value, rel=1e-12)
        assert rows[name]["entropy"]["stderr"] == pytest.approx(expected.stderr, rel=1e-9)
        assert rows[name]["entropy"]["n"] == 2000
        assert rows[name]["distinct"] == len(set(table[name].to_pylist()))
    height = differential_entropy(table["height"].to_numpy())
    assert rows["height"]["entropy"]["value"] == pytest.approx(height.value, rel=1e-9)
    assert rows["identity"]["entropy"]["value"] == pytest.approx(math.log(2_000_000), abs=0.02)
    assert rows["constant"]["entropy"]["value"] is None
    assert "minus infinity" in rows["constant"]["note"]
    assert "recurs" in rows["zeros"]["note"]


def test_readings_can_be_chosen(tmp_path, as_json, refused):
    path = tmp_path / "a.parquet"
    table = sample_table()
    parquet.write_table(table, path)
    rows = by(as_json(path, "--column", "age", "--column", "height", "--numeric", "age")["rows"], "column")
    assert list(rows) == ["age", "height"]
    assert rows["age"]["read_as"] == "numeric"
    # 90 values evenly: the discrete and the differential entropy are both log2(90).
    assert rows["age"]["entropy"]["value"] == pytest.approx(math.log2(90), abs=0.1)
    rows = by(as_json(path, "--discrete", "height")["rows"], "column")
    assert rows["height"]["read_as"] == "discrete"
    assert "coverage 0.00" in rows["height"]["note"]
    assert "which --numeric cannot read as numbers" in refused(path, "--numeric", "city")
    assert "no column 'heigth'; there are 'city', 'age'" in refused(path, "--column", "heigth")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_reading_may_be_named_for_a_column_that_is_not_measured(tmp_path, as_json, suffix):
    path = tmp_path / f"a.{suffix}"
    (csv.write_csv if suffix == "csv" else parquet.write_table)(sample_table(), path)
    found = as_json(path, "--column", "age", "--discrete", "height")
    assert [row["column"] for row in found["rows"]] == ["age"]
    assert "2,000 rows and 7 columns" in found["holds"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_repeated_columns_are_numbered(tmp_path, as_json, suffix):
    path = tmp_path / f"a.{suffix}"
    values = [[1, 2] * 20, ["a"] * 40, list("wxyz") * 10, [1] * 20 + [2] * 20]
    table = pa.table([pa.array(column) for column in values], names=["x", "x", "x", "x (2)"])
    (csv.write_csv if suffix == "csv" else parquet.write_table)(table, path)
    rows = by(as_json(path)["rows"], "column")
    assert [rows[name]["distinct"] for name in ("x", "x (3)", "x (4)", "x (2)")] == [2, 1, 4, 2]
    chosen = as_json(path, "--column", "x (4)")["rows"]
    assert [(row["column"], row["distinct"]) for row in chosen] == [("x (4)", 4)]


def test_missing_values(tmp_path, as_json, refused):
    path = tmp_path / "a.csv"
    lines = [f"{i % 3},{'' if i % 10 == 3 else i * 0.37},{'NA' if i == 5 else 'a'}" for i in range(100)]
    path.write_text("\n".join(["x,y,z", *lines]) + "\n")
    error = refused(path)
    assert "missing values, of 100: 10 in 'y', 1 in 'z' (the first in row 4 of 'y')" in error
    assert "--missing drop" in error
    rows = by(as_json(path, "--missing", "drop")["rows"], "column")
    assert (rows["x"]["n"], rows["y"]["n"], rows["z"]["n"]) == (100, 90, 99)
    assert (rows["x"]["missing"], rows["y"]["missing"], rows["z"]["missing"]) == (0, 10, 1)
    kept = [i * 0.37 for i in range(100) if i % 10 != 3]
    assert rows["y"]["entropy"]["value"] == pytest.approx(differential_entropy(kept, base=2).value)
    assert as_json(path, "--column", "x")["rows"][0]["missing"] == 0


def test_missing_values_in_parquet_are_nulls_and_nans(tmp_path, refused):
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"x": [1.0, None, math.nan, 2.0], "s": ["a", None, "b", "b"]}), path)
    assert "2 in 'x', 1 in 's'" in refused(path)


def test_column_without_values(tmp_path, as_json):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1,\n2,\n")
    rows = by(as_json(path, "--missing", "drop")["rows"], "column")
    assert rows["y"]["note"] == "all values are missing"


def test_numbers_with_a_stray_word_are_noticed(tmp_path, as_json):
    path = tmp_path / "a.csv"
    path.write_text("x\n" + "1.5\n" * 10 + "abc\n")
    row = as_json(path)["rows"][0]
    assert row["read_as"] == "discrete"
    assert "text, though 10 of 11 values are numbers ('abc' is not)" in row["note"]


# Arrays


def test_probabilities_are_recognised(tmp_path, as_json):
    p = np.array([[0.5, 0.25, 0.125, 0.125], [0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])
    np.save(tmp_path / "p.npy", p.astype(np.float32))
    row = as_json(tmp_path / "p.npy")["rows"][0]
    assert row["read_as"] == "probabilities along axis -1"
    assert (row["entropy"], row["lowest"], row["highest"]) == pytest.approx((1.25, 0.0, 2.0))
    np.save(tmp_path / "t.npy", p.T)
    found = as_json(tmp_path / "t.npy")
    assert found["rows"][0]["read_as"] == "discrete"
    assert "'t' sums to 1 along axis 0; --axis 0 if these are probabilities" in found["notes"]
    assert as_json(tmp_path / "t.npy", "--axis", "0")["rows"][0]["entropy"] == pytest.approx(1.25)
    assert as_json(tmp_path / "p.npy", "--samples")["rows"][0]["read_as"] == "discrete"


def test_wrong_probabilities_are_refused(tmp_path, refused):
    p = np.full((3, 4), 0.25)
    p[1, 2] = -0.25
    np.save(tmp_path / "p.npy", p)
    error = refused(tmp_path / "p.npy", "--probabilities")
    assert "1 of 12 probabilities are negative or NaN (the first, -0.25, at index (1, 2))" in error
    np.save(tmp_path / "q.npy", np.array([[0.5, 0.5], [0.5, 0.43]]))
    error = refused(tmp_path / "q.npy", "--probabilities")
    assert "1 of 2 sums along axis -1 are not 1 (the first, 0.93, at index (1,))" in error
    assert "has no axis 5" in refused(tmp_path / "q.npy", "--axis", "5")


def test_samples_of_an_array(tmp_path, as_json):
    rng = np.random.default_rng(1)
    samples = rng.normal(size=(500, 2)) * [1, 8]
    np.save(tmp_path / "s.npy", samples)
    pooled = as_json(tmp_path / "s.npy")["rows"]
    assert [row["n"] for row in pooled] == [1000]
    rows = by(as_json(tmp_path / "s.npy", "--axis", "0")["rows"], "array")
    assert list(rows) == ["s[:, 0]", "s[:, 1]"]
    for j in range(2):
        expected = differential_entropy(samples[:, j], base=2).value
        assert rows[f"s[:, {j}]"]["entropy"]["value"] == pytest.approx(expected)


def test_readings_of_an_array_hold_for_each_of_its_series(tmp_path, as_json):
    samples = np.column_stack([np.arange(400) % 31, np.arange(400) % 37])
    np.savez(tmp_path / "z.npz", z=samples, other=samples)
    numeric = by(as_json(tmp_path / "z.npz", "--axis", "0", "--numeric", "z")["rows"], "array")
    assert {label: row["read_as"] for label, row in numeric.items()} == {
        "z[:, 0]": "numeric",
        "z[:, 1]": "numeric",
        "other[:, 0]": "discrete",
        "other[:, 1]": "discrete",
    }
    np.save(tmp_path / "z.npy", samples + 0.5)
    discrete = as_json(tmp_path / "z.npy", "--axis", "0", "--discrete", "z")["rows"]
    for row, distinct in zip(discrete, (31, 37), strict=True):
        assert row["read_as"] == "discrete"
        assert row["entropy"]["value"] == pytest.approx(math.log2(distinct), abs=0.1)
    np.save(tmp_path / "p.npy", np.full(4, 0.25))
    assert as_json(tmp_path / "p.npy", "--discrete", "p")["rows"][0]["read_as"] == "discrete"


def test_archives(tmp_path, as_json, refused):
    path = tmp_path / "z.npz"
    np.savez(path, p=np.full(8, 0.125), words=np.array(["a", "b", "a", "b"] * 10), counts=np.arange(100) % 4)
    rows = by(as_json(path)["rows"], "array")
    assert rows["p"]["entropy"] == pytest.approx(3.0)
    assert rows["words"]["read_as"] == rows["counts"]["read_as"] == "discrete"
    assert list(by(as_json(path, "--column", "p")["rows"], "array")) == ["p"]
    assert "no array 'q'; there are 'p', 'words', 'counts'" in refused(path, "--column", "q")


def test_pickled_arrays_are_not_loaded(tmp_path, refused):
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object))
    assert "only pickle could read" in refused(tmp_path / "o.npy")
    np.savez(tmp_path / "o.npz", o=np.array([{}], dtype=object))
    assert "only pickle could read" in refused(tmp_path / "o.npz")


# Tensors


def test_tensors(tmp_path, as_json):
    generator = torch.Generator().manual_seed(0)
    gaussian = torch.randn(1000, 200, generator=generator)
    orthogonal = torch.linalg.qr(torch.randn(64, 64, generator=generator))[0]
    laplace = torch.from_numpy(np.random.default_rng(0).laplace(size=200_000))
    tensors = {
        "float32": gaussian * 0.02,
        "bfloat16": (gaussian * 0.02).bfloat16(),
        "float16": (gaussian * 0.02).half(),
        "float64": laplace,
        "few": torch.randn(2000, generator=generator, dtype=torch.float64),
        "orthogonal": orthogonal.contiguous(),
        "rank one": torch.outer(torch.arange(1.0, 41), torch.arange(1.0, 31)),
        "ones": torch.full((64,), 0.1),
        "shifted": laplace + 1e6,
        "huge": laplace * 1e100,
        "integers": torch.arange(4000) % 8,
        "bytes": (torch.arange(1000) % 4).to(torch.uint8),
        "float8": torch.tensor([1.0, 2.0] * 500).to(torch.float8_e4m3fn),
        "broken": torch.tensor([1.0, math.nan, math.inf]),
        "empty": torch.zeros(0, 3),
        "pruned": torch.where(torch.arange(200_000) % 2 == 0, 0.0, gaussian.ravel()),
    }
    save_file(tensors, tmp_path / "m.safetensors")
    rows = by(as_json(tmp_path / "m.safetensors", "--base", "e")["rows"], "tensor")
    entropy = {name: row["entropy"]["value"] for name, row in rows.items() if row["entropy"]}

    of_gaussian = 0.5 * math.log(2 * math.pi * math.e)
    for name in ("float32", "bfloat16", "float16"):
        assert entropy[name] == pytest.approx(of_gaussian + math.log(0.02), abs=0.01)
        assert rows[name]["below_Gaussian"] == pytest.approx(0, abs=0.005)
        assert rows[name]["std"] == pytest.approx(0.02, rel=0.01)
    assert entropy["few"] == pytest.approx(of_gaussian, abs=0.05)
    assert entropy["pruned"] == pytest.approx(of_gaussian, abs=0.02)
    assert rows["pruned"]["zeros"] == 100_000
    assert rows["pruned"]["below_Gaussian"] == pytest.approx(0, abs=0.02)
    assert rows["float32"]["zeros"] is None
    assert entropy["float64"] == pytest.approx(1 + math.log(2), abs=0.01)
    # A Laplace law of scale 1 has deviation sqrt(2).
    assert rows["float64"]["below_Gaussian"] == pytest.approx(
        of_gaussian + 0.5 * math.log(2) - 1 - math.log(2), abs=0.01
    )

    codes = tensors["bfloat16"].view(torch.int16).ravel().numpy()
    assert rows["bfloat16"]["code"]["value"] == pytest.approx(discrete_entropy(codes).value)
    assert rows["integers"]["code"]["value"] == pytest.approx(math.log(8), abs=2e-3)
    assert rows["bytes"]["code"]["value"] == pytest.approx(math.log(4), abs=3e-3)
    assert rows["float8"]["code"]["value"] == pytest.approx(math.log(2), abs=1e-3)

    assert rows["orthogonal"]["effective_rank"] == pytest.approx(64, abs=1e-3)
    assert rows["rank one"]["effective_rank"] == pytest.approx(1, abs=1e-2)
    singular = np.linalg.svd(gaussian.double().numpy(), compute_uv=False)
    p = singular / singular.sum()
    assert rows["float32"]["effective_rank"] == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-6)

    assert rows["ones"]["note"] == "constant 0.1"
    assert rows["ones"]["std"] == 0
    # Beyond the range and the precision of the histogram's cells.
    assert entropy["shifted"] == pytest.approx(1 + math.log(2), abs=0.02)
    assert entropy["huge"] == pytest.approx(1 + math.log(2) + 100 * math.log(10), abs=0.02)
    assert rows["broken"]["note"] == "NaN or infinite: 2 of 3 values"
    assert rows["broken"]["entropy"] is None
    assert rows["empty"]["note"] == "empty"


def test_truncated_tensors_are_refused(tmp_path, refused):
    save_file({"a": torch.randn(100)}, tmp_path / "m.safetensors")
    whole = (tmp_path / "m.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-10])
    assert "cannot be read as safetensors" in refused(tmp_path / "cut.safetensors")


def test_formats_are_known_by_their_first_bytes(tmp_path, as_json):
    np.save(tmp_path / "p.npy", np.full(4, 0.25))
    save_file({"a": torch.randn(100)}, tmp_path / "m.safetensors")
    parquet.write_table(sample_table(), tmp_path / "t.parquet")
    for name, holds in [("p.npy", "NumPy"), ("m.safetensors", "safetensors"), ("t.parquet", "Parquet")]:
        bare = tmp_path / name.split(".")[0]
        (tmp_path / name).rename(bare)
        assert as_json(bare)["holds"].startswith(holds)


# Several files, and the screen


def test_good_files_are_reported_beside_bad_ones(tmp_path, measured):
    (tmp_path / "good.txt").write_text("abab" * 50)
    (tmp_path / "empty.txt").write_text("")
    files = [tmp_path / "empty.txt", tmp_path / "good.txt", tmp_path / "none.txt"]
    code, out, err = measured(*files, "--json")
    assert code == 2
    objects = [json.loads(line) for line in out.splitlines()]
    assert [item["file"] for item in objects] == list(map(str, files))
    assert objects[0]["error"] == "is empty; there is nothing to measure"
    assert objects[1]["rows"]
    assert objects[2]["error"] == "No such file or directory"
    assert "2 of 3 files" in err
    code, out, err = measured(*files)
    assert code == 2
    assert "good.txt: UTF-8 text" in out
    assert err.count("\n") == 1


def test_plain_columns_into_a_pipe(tmp_path, measured):
    path = tmp_path / "a.csv"
    csv.write_csv(sample_table(), path)
    code, out, err = measured(path)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[1].split()[:2] == ["column", "type"]
    assert "entropy (bit)" in lines[1]
    assert lines[2].split()[0] == "city"
    assert "\x1b" not in out
    assert not any(line != line.rstrip() for line in lines)
    assert "# discrete: Shannon entropy of symbols (chao_wang_jost, miller_madow)" in lines


def test_unit_is_in_the_heading(tmp_path, measured):
    (tmp_path / "a.txt").write_text("abab" * 50)
    for base, unit in [("2", "bit"), ("e", "nat"), ("10", "hartley")]:
        assert f"entropy ({unit})" in measured(tmp_path / "a.txt", "--base", base)[1]

"""Labelled data of several libraries mean the numbers in them, and their names come back."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from isentrope.measures import (
    differential_entropy,
    discrete_entropy,
    discrete_joint_entropy,
    discrete_mutual_information,
    effective_rank,
    entropy,
    mutual_information,
    mutual_information_matrix,
    permutation_entropy,
)
from isentrope.measures._frames import table_of, values_of


def by_name(library, columns):
    module = pytest.importorskip(library)
    if library == "xarray":
        return module.Dataset({name: ("row", values) for name, values in columns.items()})
    return module.table(columns) if library == "pyarrow" else module.DataFrame(columns)


LIBRARIES = ["pandas", "polars", "pyarrow", "xarray"]
COLUMNS = {"size": [1.5, 2.5, 1.5, 4.0], "colour": ["red", "blue", "red", "red"], "many": [7, 8, 9, 7]}


@pytest.mark.parametrize("library", LIBRARIES)
def test_columns_and_names_of_a_table(library):
    table = table_of("f", "x", by_name(library, COLUMNS))
    assert table is not None
    assert table.labels == ("size", "colour", "many")
    assert [column.tolist() for column in table.columns] == list(COLUMNS.values())
    assert table.columns[0].dtype.kind == "f"
    assert table.columns[2].dtype.kind == "i"


def test_a_labelled_array_has_the_names_of_its_second_dimension():
    xarray = pytest.importorskip("xarray")
    values = np.arange(6.0).reshape(3, 2)
    named = xarray.DataArray(values, dims=("time", "channel"), coords={"channel": ["left", "right"]})
    table = table_of("f", "x", named)
    assert table is not None
    assert table.labels == ("left", "right")
    np.testing.assert_array_equal(np.stack(table.columns, axis=1), values)
    assert table_of("f", "x", named[:, 0]) is None


@pytest.mark.parametrize("data", [[1, 2], np.zeros((3, 2)), pd.Series([1, 2]), pa.array([1, 2]), "abc"])
def test_what_is_no_table_is_left_alone(data):
    assert table_of("f", "x", data) is None


def test_values_of_series_and_tensors():
    torch = pytest.importorskip("torch")
    for data in (pd.Series([1.0, 2.0]), pa.array([1.0, 2.0]), torch.tensor([1.0, 2.0], requires_grad=True), [1.0, 2.0]):
        assert values_of(data).tolist() == [1.0, 2.0]


def test_columns_of_the_same_name_are_refused():
    frame = pd.DataFrame(np.zeros((3, 2)), columns=["a", "a"])
    with pytest.raises(ValueError, match="f: x has several columns named a; rename them first"):
        table_of("f", "x", frame)
    with pytest.raises(ValueError, match="f: x has no columns"):
        table_of("f", "x", pd.DataFrame(index=range(3)))


def test_missing_values_stay_missing():
    frame = pd.DataFrame({"whole": pd.array([1, None, 3], dtype="Int64"), "text": ["a", None, "b"]})
    table = table_of("f", "x", frame)
    assert table is not None
    assert [list(pd.isna(column)) for column in table.columns] == [[False, True, False]] * 2


@pytest.mark.parametrize("dtype", ["string", "boolean", "category", "string[pyarrow]"])
def test_missing_labels_are_named(dtype):
    labels = pd.Series([True, None, False, True] * 30, dtype="boolean" if dtype == "boolean" else object)
    numbers = np.random.default_rng(0).normal(size=120)
    with pytest.raises(
        ValueError, match=r"mutual_information: x: 30 of 120 samples are missing \(the first at index 1\)"
    ):
        mutual_information(
            labels.map({True: "yes", False: "no"}).astype(dtype) if dtype != "boolean" else labels, numbers
        )


def test_nullable_columns_of_a_frame_are_numbers():
    values = np.random.default_rng(0).normal(size=(20, 3))
    frame = pd.DataFrame(values, columns=["a", "b", "c"])
    for nullable in (frame.convert_dtypes(), frame.convert_dtypes(dtype_backend="pyarrow")):
        assert nullable.to_numpy().dtype == object
        assert effective_rank(nullable) == pytest.approx(effective_rank(values), rel=1e-12)
    with pytest.raises(TypeError, match="matrix must be of a real floating dtype, got object"):
        effective_rank(frame.assign(d="text"))


@pytest.mark.parametrize("values", [["a", "b", "a"], [True, False, True], [1.5, None, 2.5]])
def test_arrays_of_pyarrow_that_need_a_copy(values):
    np.testing.assert_array_equal(values_of(pa.array(values)), np.array(pd.Series(values)))


HIDDEN = np.arange(40) == 3


@pytest.mark.parametrize(
    ("measure", "values"),
    [
        (lambda x: mutual_information(x, np.arange(40.0)), np.linspace(0, 1, 40)),
        (lambda x: discrete_mutual_information(x, np.arange(40) % 2), np.array(list("abcd") * 10)),
        (lambda x: mutual_information_matrix(np.ma.stack([x, x], axis=1)), np.linspace(0, 1, 40)),
        (discrete_entropy, np.arange(40) % 4),
        (differential_entropy, np.linspace(0, 1, 40)),
        (entropy, np.full(40, 1 / 40)),
        (permutation_entropy, np.linspace(0, 1, 40)),
    ],
)
def test_masked_values_are_missing_and_not_uncovered(measure, values):
    with pytest.raises(ValueError, match=r"1 of 40 samples|1 samples of series|p is NaN \(nan\) at index \(3,\)"):
        measure(np.ma.array(values, mask=HIDDEN))
    shown = measure(np.ma.array(values, mask=False))
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(measure(values)))


def test_masked_samples_of_a_series_can_be_left_out():
    values = np.random.default_rng(0).normal(size=40)
    masked = permutation_entropy(np.ma.array(values, mask=HIDDEN), nan_policy="omit")
    assert masked == permutation_entropy(np.where(HIDDEN, np.nan, values), nan_policy="omit")


def test_categories_that_are_numbers_are_symbols():
    series = pd.Series([0, 50, 100] * 40).astype("category")
    found = mutual_information(series, np.random.default_rng(0).normal(size=120))
    assert found.method == "ross"
    assert "x discrete (labels)" in found.note
    many = pd.Series(np.repeat(np.arange(30.0), 4)).astype("category")
    assert "x discrete" in mutual_information(pd.DataFrame({"a": many}), np.arange(120.0)).note


def test_tensors_of_half_precision_are_read():
    torch = pytest.importorskip("torch")
    values = torch.tensor([1.5, -2.0], dtype=torch.bfloat16, requires_grad=True)
    assert values_of(values).tolist() == [1.5, -2.0]


def test_probabilities_may_be_a_series_or_a_frame():
    p = pd.Series([0.5, 0.25, 0.25])
    assert entropy(p, base=2) == pytest.approx(1.5)
    rows = pd.DataFrame([[0.5, 0.5], [1.0, 0.0]])
    np.testing.assert_allclose(entropy(rows, base=2), [1, 0], atol=1e-15)
    polars = pytest.importorskip("polars")
    assert entropy(polars.Series([0.5, 0.5]), base=2) == 1


@pytest.mark.parametrize("library", LIBRARIES)
def test_discrete_measures_read_tables_of_every_library(library):
    table = by_name(library, {"first": ["a", "b", "a", "b"] * 50, "second": [0, 0, 1, 1] * 50})
    both = discrete_joint_entropy(table, method="plugin", base=2)
    assert both.value == pytest.approx(2)
    pair = by_name(library, {"x": [0, 1, 2, 3] * 50})
    assert discrete_mutual_information(table, pair, method="plugin", base=2).value == pytest.approx(2)
    matrix = mutual_information_matrix(table, method="plugin")
    assert matrix.labels == ("first", "second")

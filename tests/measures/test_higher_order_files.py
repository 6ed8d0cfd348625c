import numpy as np
import pandas
import pytest
from pyarrow import parquet

from isentrope.measures import _n_plets
from isentrope.measures.higher_order import higher_order_information
from isentrope.measures.higher_order_files import write_higher_order_information

SAMPLES = pandas.DataFrame(np.random.default_rng(0).normal(size=(60, 6)), columns=list("abcdef"))


@pytest.mark.parametrize("method", ["gaussian", "ksg"])
def test_files_hold_what_memory_would(tmp_path, monkeypatch, method):
    monkeypatch.setattr(_n_plets, "_BATCH", 7)
    files = write_higher_order_information(tmp_path / "new", SAMPLES, orders=(2, 4), method=method, base=2)
    assert [file.name for file in files] == ["order_2.parquet", "order_3.parquet", "order_4.parquet"]
    rows = [row for file in files for row in parquet.read_table(file).to_pylist()]
    expected = higher_order_information(SAMPLES, orders=(2, 4), method=method, base=2).to_table().to_pylist()
    assert rows == expected
    assert rows[0]["variables"] == ["a", "b"]


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, monkeypatch):
    kernel = _n_plets._walk_entropies

    def interrupted(*arguments):
        for batch in kernel(*arguments):
            if batch.order == 4:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(_n_plets, "_walk_entropies", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_higher_order_information(tmp_path, SAMPLES, orders=(3, 5))
    assert [file.name for file in tmp_path.iterdir()] == ["order_3.parquet"]
    before = (tmp_path / "order_3.parquet").stat().st_mtime_ns
    monkeypatch.undo()
    files = write_higher_order_information(tmp_path, SAMPLES, orders=(3, 5))
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert files[0].stat().st_mtime_ns == before
    expected = higher_order_information(SAMPLES, orders=(3, 5))
    found = np.concatenate([parquet.read_table(file)["o_information"].to_numpy() for file in files])
    np.testing.assert_array_equal(found, expected.o_information)
    assert write_higher_order_information(tmp_path, SAMPLES, orders=(3, 5)) == files


@pytest.mark.parametrize(
    ("samples", "options"),
    [
        (SAMPLES + 1, {}),
        (SAMPLES, {"method": "gaussian"}),
        (SAMPLES, {"base": 2}),
        (SAMPLES.rename(columns=str.upper), {}),
    ],
)
def test_files_of_something_else_are_refused(tmp_path, samples, options):
    write_higher_order_information(tmp_path, SAMPLES, orders=3)
    with pytest.raises(ValueError, match=r"order_3\.parquet is of other samples"):
        write_higher_order_information(tmp_path, samples, orders=3, **options)

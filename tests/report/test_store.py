import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isentrope.report import RunStore, list_runs


@pytest.fixture
def run(tmp_path):
    return RunStore.create(tmp_path, "grpo-s0", {"recipe": "grpo", "seed": 0})


def test_config_records_what_was_asked_and_by_which_version(tmp_path):
    run = RunStore.create(tmp_path, "grpo-s0", {"recipe": "grpo", "learning_rate": 1e-3, "id": "someone else's"})
    config = RunStore.open(run.path).config
    assert config["recipe"] == "grpo"
    assert config["learning_rate"] == 1e-3
    assert config["id"] == run.path.name == run.id
    assert config["name"] == "grpo-s0"
    assert config["version"]
    assert config["created"][10] == "T"


def test_runs_made_in_the_same_second_stay_apart_and_are_listed_in_order(tmp_path):
    made = [RunStore.create(tmp_path / "runs", "grpo-s0", {"n": n}) for n in range(3)]
    assert len({run.path for run in made}) == 3
    assert set(list_runs(tmp_path / "runs")) == {run.path for run in made}
    assert [RunStore.open(run.path).config["n"] for run in made] == [0, 1, 2]
    assert list_runs(tmp_path / "nowhere") == []


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "-x", ".hidden"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="name: must be letters"):
        RunStore.create(tmp_path, name, {})
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["entropy", "reward", "pass@1", "coefficient/entropy"]),
            st.one_of(st.none(), st.floats(allow_nan=False), st.integers(-(2**53), 2**53)),
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 7),
)
def test_numbers_come_back_bit_for_bit_wherever_flushes_fall(tmp_path_factory, rows, flush_at):
    run = RunStore.create(tmp_path_factory.mktemp("runs"), "x", {})
    for step, row in enumerate(rows):
        run.append({"step": step, **row})
        if step == flush_at:
            run.flush()
    run.flush()
    metrics = RunStore.open(run.path).metrics()
    assert metrics["step"].tolist() == list(range(len(rows)))
    for name in metrics.keys() - {"step"}:
        expected = np.array([np.nan if row.get(name) is None else float(row[name]) for row in rows])
        np.testing.assert_array_equal(metrics[name].view(np.int64), expected.view(np.int64), err_msg=name)
        assert metrics[name].dtype == np.float64


def test_a_column_that_appears_late_is_null_before_and_absent_values_are_nan(run):
    run.append({"step": 0, "entropy": 1.0})
    run.flush()
    run.append({"step": 5, "pass@1": 0.25})
    run.append({"step": 7, "entropy": None, "pass@1": float("nan")})
    run.flush()
    metrics = RunStore.open(run.path).metrics()
    np.testing.assert_array_equal(metrics["step"], [0, 5, 7])
    np.testing.assert_array_equal(metrics["entropy"], [1.0, np.nan, np.nan])
    np.testing.assert_array_equal(metrics["pass@1"], [np.nan, 0.25, np.nan])
    table = pq.read_table(run.path / "metrics.parquet")
    assert table["pass@1"].null_count == 1, "a NaN that was measured is not a missing value"


def test_rows_are_readable_before_they_are_flushed_but_not_on_disk(run):
    run.append({"step": 0, "reward": 0.5})
    run.add_samples([{"step": 0, "completion": "x"}])
    assert run.metrics()["reward"].tolist() == [0.5]
    assert len(run.samples()) == 1
    other = RunStore.open(run.path)
    assert len(other) == 0
    assert other.samples() == []


def test_an_unfinished_run_opens(run):
    run.append({"step": 0, "reward": 0.5})
    run.flush()
    other = RunStore.open(run.path)
    assert other.last_step == 0
    assert other.summary == {}
    assert other.diagnosis == {}
    other.append({"step": 1, "reward": 0.75})
    other.flush()
    assert RunStore.open(run.path).metrics()["reward"].tolist() == [0.5, 0.75]


@pytest.mark.parametrize("step", [None, 1.0, True, "1", -1, 3, 2])
def test_a_row_needs_a_new_integer_step(run, step):
    run.append({"step": 3})
    with pytest.raises(ValueError, match="step"):
        run.append({"step": step})
    assert len(run) == 1


def test_numpy_numbers_are_numbers_and_other_things_are_not(run):
    run.append({"step": np.int64(0), "a": np.float32(0.5), "b": np.int32(3)})
    assert run.metrics()["a"].tolist() == [0.5]
    with pytest.raises(TypeError, match=r"'a' must be a number or None; got ndarray; call .item\(\)"):
        run.append({"step": 1, "a": np.zeros(())})
    with pytest.raises(TypeError, match="'a' must be a number"):
        run.append({"step": 1, "a": "0.5"})
    with pytest.raises(TypeError, match="'a' must be a number"):
        run.append({"step": 1, "a": True})
    with pytest.raises(ValueError, match="9007199254740993"):
        run.append({"step": 1, "a": 2**53 + 1})
    assert len(run) == 1
    assert set(map(len, run.metrics().values())) == {1}, "a refused row leaves nothing behind"


def test_samples_keep_every_character(run):
    samples = [
        {
            "step": 0,
            "prompt": "1+1=",
            "completion": "\u2028</script>\n\r\ud800é",
            "tokens": ["é", "\n"],
            "entropies": [0.5, 0.0],
        },
        {"step": 2, "prompt": "", "completion": "", "tokens": [], "entropies": [], "reward": np.float32(1.0)},
    ]
    run.add_samples(samples)
    run.flush()
    assert RunStore.open(run.path).samples() == samples


def test_a_sample_needs_one_entropy_a_token(run):
    with pytest.raises(ValueError, match=r"samples\[1\]: needs one entropy a token; got 1 entropies for 2 tokens"):
        run.add_samples([{"step": 0}, {"step": 0, "tokens": ["a", "b"], "entropies": [0.1]}])
    with pytest.raises(ValueError, match=r"samples\[0\]: needs an integer 'step'"):
        run.add_samples([{"completion": "x"}])
    with pytest.raises(TypeError, match=r"samples\[0\]\['reward'\]"):
        run.add_samples([{"step": 0, "reward": object()}])
    assert run.samples() == []


def test_truncate_drops_what_came_after_and_lets_the_run_go_on(run):
    for step in range(6):
        run.append({"step": step, "reward": step / 10})
        run.add_samples([{"step": step, "completion": str(step)}])
    run.flush()
    run.write_json("summary", {"entropy_end": 0.1})
    resumed = RunStore.open(run.path)
    resumed.append({"step": 9})
    resumed.truncate(3)
    assert resumed.last_step == 3
    assert resumed.summary == {}, "the summary was of a run that now goes on"
    on_disk = RunStore.open(run.path)
    assert on_disk.metrics()["reward"].tolist() == [0.0, 0.1, 0.2, 0.3]
    assert [sample["step"] for sample in on_disk.samples()] == [0, 1, 2, 3]
    on_disk.append({"step": 4, "reward": 0.9})
    on_disk.flush()
    assert RunStore.open(run.path).metrics()["reward"][-1] == 0.9
    on_disk.truncate(-1)
    assert len(RunStore.open(run.path)) == 0


def test_json_files_hold_null_for_what_json_has_no_number_for(run):
    run.write_json(
        "summary", {"entropy_end": np.float64(0.25), "pass@1": float("nan"), "curve": np.arange(2), "n": np.int64(3)}
    )
    text = (run.path / "summary.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == {
        "entropy_end": 0.25,
        "pass@1": None,
        "curve": [0, 1],
        "n": 3,
    }
    assert run.summary["entropy_end"] == 0.25
    run.write_json("diagnosis.json", {"sentences": ["Entropy fell."], "numbers": {}})
    assert RunStore.open(run.path).diagnosis["sentences"] == ["Entropy fell."]
    with pytest.raises(ValueError, match="plain file name"):
        run.write_json("../summary", {})
    with pytest.raises(TypeError, match=r"summary\['model'\]: JSON cannot hold a object"):
        run.write_json("summary", {"model": object()})
    assert run.summary["entropy_end"] == 0.25


def test_what_is_no_run_is_named(tmp_path, run):
    with pytest.raises(FileNotFoundError, match="no such run folder") as caught:
        RunStore.open(tmp_path / "missing")
    assert caught.value.filename == str(tmp_path / "missing")
    with pytest.raises(ValueError, match=f"not a run folder .*; it holds 1 runs, such as {run.path}"):
        RunStore.open(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b'{"id": '),
        ("config.json", b"[1, 2]"),
        ("config.json", b"\xff\xfe"),
        ("metrics.parquet", b"PAR1 not a table PAR1"),
        ("metrics.parquet", b""),
        ("samples.jsonl", b'{"step": 0}\n{"step"\n'),
        ("samples.jsonl", b'{"completion": "x"}\n'),
    ],
)
def test_a_damaged_file_is_named(run, name, content):
    (run.path / name).write_bytes(content)
    with pytest.raises(ValueError, match="damaged") as caught:
        RunStore.open(run.path)
    assert str(run.path / name) in str(caught.value)


def test_a_cut_parquet_file_is_damaged_not_short(run):
    for step in range(100):
        run.append({"step": step, "reward": step / 7})
    run.flush()
    whole = (run.path / "metrics.parquet").read_bytes()
    (run.path / "metrics.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"metrics\.parquet: damaged"):
        RunStore.open(run.path)


def test_a_write_that_fails_keeps_the_earlier_file_and_can_be_retried(run):
    pytest.importorskip("resource", reason="file-size limits are POSIX")
    run.append({"step": 0, "reward": 0.5})
    run.add_samples([{"step": 0, "completion": "first"}])
    run.flush()
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    # A limit on the size of files stands in for a full disk: the operating system itself refuses the write.
    program = textwrap.dedent(
        """
        import resource, signal, sys
        from isentrope.report import RunStore
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        run = RunStore.open(sys.argv[1])
        run.append({"step": 1, "reward": 0.75})
        run.add_samples([{"step": 1, "completion": "x" * 100_000}])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
        try:
            run.flush()
        except OSError as error:
            print(error.filename)
        else:
            sys.exit("the write did not fail")
        if sys.argv[2] == "retry":
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            run.flush()
        """
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, str(run.path)]
    failed = subprocess.run([*command, "fail"], capture_output=True, text=True, env=environment, check=True)
    assert failed.stdout.strip() == str(run.path / "metrics.parquet")
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before
    subprocess.run([*command, "retry"], capture_output=True, env=environment, check=True)
    again = RunStore.open(run.path)
    assert again.metrics()["reward"].tolist() == [0.5, 0.75]
    assert len(again.samples()[-1]["completion"]) == 100_000

"""Settings of runs: defaults, run files, overrides, and what is message of mistakes; and the folder of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from graph_toys import begin
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from blink.errors import DataError, MismatchError, MissingFileError, SettingsError

pytest.importorskip("yaml", reason="needs the extra kglm")

from blink.kglm.config import DATA_VARIABLE, data_path, kind_of, load_settings
from blink.kglm.kinds import KINDS, runner_for
from blink.kglm.run import KglmRun
from blink.kglm.settings import Settings
from blink.runs.finite import NotFinite, require_finite
from blink.runs.seeds import seed_for
from blink.runs.settings import choice, read_settings_file

pytestmark = pytest.mark.quick


def test_an_override_goes_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("kind: graph\ntrain:\n  lr: 1e-2\n  epochs: 7\n")
    settings = load_settings("graph", file, ["--train.lr", "1e-3", "--model.arguments.p=1"])
    assert (settings.train.lr, settings.train.epochs, settings.model.name) == (0.001, 7, "complex")
    assert settings.model.arguments == {"p": 1}
    assert kind_of(file) == "graph"


def test_words_of_a_command_line_keep_the_type_of_their_setting() -> None:
    words = ["--model.name", "007", "--train.lr", "1", "--model.reciprocal", "no", "--train.label-smoothing=.5"]
    settings = load_settings("graph", None, words)
    assert (settings.model.name, settings.train.lr, settings.model.reciprocal) == ("007", 1.0, False)
    assert type(settings.train.lr) is float
    assert settings.train.label_smoothing == 0.5


def test_where_several_names_may_stand_one_may_stand_alone(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    for graph, graphs in (("kg/a", ["kg/a"]), ("[kg/a, kg/b]", ["kg/a", "kg/b"]), ('""', [])):
        file.write_text(f"kind: graph\ndata: {{graph: {graph}}}\n")
        assert load_settings("graph", file).data.graph == graphs
    for graph, graphs in (("kg/c", ["kg/c"]), ("[c, d]", ["c", "d"])):
        assert load_settings("graph", file, ["--data.graph", graph]).data.graph == graphs
        assert load_settings("graph").replace({"data.graph": graph}).data.graph == (graphs if graph[0] != "[" else [graph])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.graph", "[a, 3]"], "sets data.graph to 3; it must be text"),
        (["--train.lrr", "1"], "train.lrr, which is unknown; did you mean train.lr?"),
        (["--epochs", "3"], "did you mean train.epochs?"),
        (["--train.epochs", "ten"], "it must be a whole number"),
        (["--train.epochs", "1.5"], "it must be a whole number"),
        (["--train.epochs", "true"], "it must be a whole number"),
        (["--train.lr", "fast"], "it must be a number such as 0.001"),
        (["--model.reciprocal", "1"], "it must be true or false"),
        (["--train", "x"], "it is a section, set what is in it, such as train.type"),
        (["--train.lr.x", "1"], "it must be a number"),
        (["--train.lr", "[1"], "cannot be read"),
        (["oops"], "'oops' is no setting"),
        (["--seed"], "--seed lacks a value"),
        (["--train.lr", "1", "--train.lr.x", "2"], "cannot both be set"),
    ],
)
def test_a_mistake_is_one_clear_line(words: list[str], message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings("graph", None, words)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["kind: lm\n", "- a\n- b\n", "a: [\n", "lr: 3\n"])
def test_a_run_file_of_another_kind_or_shape_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises((SettingsError, DataError)) as raised:
        load_settings("graph", file)
    assert "run.yaml" in str(raised.value)


def test_a_run_file_that_names_no_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("seed: 1\n")
    with pytest.raises(SettingsError, match="does not say its kind"):
        kind_of(file)
    with pytest.raises(MissingFileError):
        kind_of(tmp_path / "none.yaml")


def test_files_are_never_read_as_objects(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("seed: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(DataError):
        read_settings_file(file)


SIMPLE = st.text(max_size=20).filter(lambda s: s.isprintable())


@hypothesis_settings(max_examples=25)
@given(lr=st.floats(1e-9, 1e9), epochs=st.integers(1, 10**9), name=SIMPLE, reciprocal=st.booleans())
def test_written_settings_are_read_again(
    tmp_path_factory: pytest.TempPathFactory, lr: float, epochs: int, name: str, reciprocal: bool
) -> None:
    changes: dict[str, Any] = {"train.lr": lr, "train.epochs": epochs, "model.name": name, "model.reciprocal": reciprocal}
    settings = load_settings("graph").replace(changes)
    file = tmp_path_factory.mktemp("written") / "settings.yaml"
    settings.write(file)
    again = load_settings("graph", file)
    assert again == settings
    assert again.digest() == settings.digest()
    assert {k: again.flat()[k] for k in changes} == changes


def test_settings_cannot_be_changed_in_place() -> None:
    settings = load_settings("graph")
    with pytest.raises(AttributeError):
        settings.train.lr = 1.0
    assert settings.replace({"train.lr": 1.0}).digest() != settings.digest()


def test_the_nearest_of_the_allowed_is_named() -> None:
    with pytest.raises(SettingsError, match="did you mean cross_entropy"):
        choice("train.loss", "crossentropy", ("cross_entropy", "bce"))


def test_data_is_looked_for_here_then_in_the_named_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "kg"
    folder.mkdir(parents=True)
    assert data_path("kg", "data") == Path("data/kg")
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    assert data_path("kg") == folder
    (tmp_path / "kg").mkdir()
    assert data_path("kg") == Path("kg")
    with pytest.raises(MissingFileError, match=r"--data\.root DIR"):
        data_path("none")


def test_every_kind_has_defaults_that_name_it() -> None:
    for kind in KINDS:
        assert load_settings(kind).kind == kind
        assert isinstance(load_settings(kind).seed, int)
        assert load_settings(kind).train.epochs > 0
    with pytest.raises(SettingsError, match="did you mean graph"):
        runner_for("grpah")


# -- the folder of a run -------------------------------------------------------------------------------------------------


@pytest.fixture
def settings() -> Settings:
    return load_settings("graph").replace({"device": "cpu"})


def test_a_folder_holds_one_run(tmp_path: Path, settings: Settings) -> None:
    begin(tmp_path / "run", settings)
    with pytest.raises(SettingsError, match="holds a run already"):
        begin(tmp_path / "run", settings)
    with pytest.raises(MissingFileError, match="holds no run"):
        KglmRun.open(tmp_path)


def test_only_the_length_of_a_run_may_change(tmp_path: Path, settings: Settings) -> None:
    begin(tmp_path, settings)
    assert KglmRun.open(tmp_path, ["--train.epochs", "9"]).settings.train.epochs == 9
    with pytest.raises(SettingsError, match=r"another train\.lr"):
        KglmRun.open(tmp_path, ["--train.lr", "9"])


def test_other_contents_of_a_file_are_noticed(tmp_path: Path, settings: Settings) -> None:
    file = tmp_path / "train.txt"
    file.write_text("one")
    run = begin(tmp_path / "run", settings, [file])
    run.require_same(run.about([file]))
    file.write_text("two")
    with pytest.raises(MismatchError, match=r"train\.txt"):
        run.require_same(run.about([file]))


def test_metrics_are_kept_by_split(tmp_path: Path, settings: Settings) -> None:
    run = begin(tmp_path, settings)
    run.add_metrics("valid", {"mrr": 0.5})
    run.add_metrics("test", {"mrr": 0.4})
    assert run.add_metrics("valid", {"mrr": 0.6}) == {"valid": {"mrr": 0.6}, "test": {"mrr": 0.4}} == run.metrics()


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_is_named(loss: float) -> None:
    with pytest.raises(NotFinite, match="at step 7"):
        require_finite(loss, "step 7")
    require_finite(1e30, "step 7")


def test_seeds_of_neighbours_differ() -> None:
    assert len({seed_for(seed, what, step) for seed in range(9) for what in ("order", "dropout") for step in range(9)}) == 162


@pytest.mark.parametrize(
    ("kind", "name", "meant"),
    [
        ("graph", name, "did you mean train.lr?")
        for name in (
            "lr",
            "LR",
            "learning_rate",
            "learning-rate",
            "learningrate",
            "training.lr",
            "train.learn_rate",
            "optimizer.lr",
        )
    ]
    + [
        ("graph", "dimension", "did you mean model.dim?"),
        ("graph", "embedding_dim", "did you mean model.dim?"),
        ("graph", "train.batchsize", "did you mean train.batch_size or eval.batch_size?"),
        ("graph", "batch", "train.batch_size or eval.batch_size?"),
        ("lm", "learningrate", "did you mean train.learning_rate_lm?"),
        ("glove", "lr", "did you mean train.lr or words.lr?"),
    ],
)
def test_what_other_tools_call_a_setting(kind: str, name: str, meant: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(kind, None, [f"--{name}", "1"])
    assert meant in str(raised.value)

"""Typed settings: sources and their order, round trips, and messages of errors."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import Field, model_validator

from blink.apps.options import settings_options, take_settings
from blink.errors import BlinkError, DataError, MissingFileError, SettingsError
from blink.runs.fields import Allowed, Line, Natural, Positive, Rate, Section, Share, names
from blink.runs.settings import Settings, Source, choice, from_environment, from_flags, nested, origins, read_settings_file

pytestmark = pytest.mark.quick


class Data(Section):
    """Files."""

    root: str = ""
    files: list[str] = Field(default_factory=list)
    label: Line | None = None


class Train(Section):
    """Steps."""

    epochs: Positive = 3
    """Passes over the data."""
    learning_rate: Rate = 0.1
    """Peak rate."""
    warmup: Share | None = None
    """Share of rising steps."""
    mode: Literal["sum", "alternate"] = "sum"
    """How tasks take turns."""
    shuffle: bool = True
    """In a new order each time."""
    layers: list[Positive] = Field(default_factory=lambda: [8])
    half: Annotated[float, Field(ge=0, le=0.5), Allowed("give a share from 0 up to 0.5")] = 0.0


class Run(Settings):
    """A run."""

    seed: Natural
    data: Data = Data()
    train: Train = Train()
    arguments: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _require_text(self) -> Run:
        if self.train.mode == "alternate" and not self.data.files:
            raise SettingsError("train.mode alternate needs data.files; name one")
        return self


DEFAULT = Source("defaults.yaml", {"seed": 0})


def load(*sources: Source) -> Run:
    return Run.load([DEFAULT, *sources])


def message(*sources: Source) -> str:
    with pytest.raises(SettingsError) as raised:
        load(*sources)
    assert "\n" not in str(raised.value)
    return str(raised.value)


TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=12)
FLOATS = st.floats(1e-300, 1e300)
RUNS = st.builds(
    Run,
    seed=st.integers(0, 10**12),
    data=st.builds(Data, root=TEXT, files=st.lists(TEXT, max_size=3), label=st.none() | TEXT),
    train=st.builds(
        Train, epochs=st.integers(1, 10**9), learning_rate=FLOATS, warmup=st.none() | st.floats(0, 1, exclude_max=True),
        shuffle=st.booleans(), layers=st.lists(st.integers(1, 9), max_size=3), half=st.floats(0, 0.5),
    ),
    arguments=st.dictionaries(TEXT.filter(lambda s: s and "." not in s), st.integers() | TEXT | st.booleans(), max_size=2),
)  # fmt: skip


# -- round trips ---------------------------------------------------------------------------------------------------------


@hypothesis_settings(max_examples=60)
@given(run=RUNS, name=st.sampled_from(["settings.yaml", "settings.json"]))
def test_written_settings_are_read_again(tmp_path_factory: pytest.TempPathFactory, run: Run, name: str) -> None:
    file = tmp_path_factory.mktemp("written") / name
    run.write(file)
    again = Run.read(file)
    assert again == run
    assert again.digest() == run.digest()


@hypothesis_settings(max_examples=60)
@given(run=RUNS)
def test_flags_and_variables_say_the_same_as_values(run: Run) -> None:
    flat = {name: value for name, value in run.flat().items() if value is not None and name != "arguments"}
    words = {name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for name, value in flat.items()}
    flags = [f"--{name}={text}" for name, text in words.items()]
    expected = run.replace({"arguments": {}}).to_dict() | {"arguments": {}}
    assert load(from_flags(flags)).to_dict() == expected
    separate = [word for name, text in words.items() for word in (f"--{name.replace('_', '-')}", text)]
    assert load(from_flags(separate)).to_dict() == expected
    variables = {f"RUN_{name.upper().replace('.', '_')}": name for name in words}
    environment = {variable: words[name] for variable, name in variables.items()}
    blank = {name for name, text in words.items() if not text}  # an empty variable is as if it were not set
    assert load(*from_environment(environment, variables)).flat() == {
        name: load().flat()[name] if name in blank else value for name, value in Run(**expected).flat().items()
    }


@given(run=RUNS)
def test_replacing_nothing_changes_nothing_and_full_names_reach_every_value(run: Run) -> None:
    assert run.replace({}) == run
    assert load().replace(run.flat()).flat() | {"arguments": run.arguments} == run.flat()
    assert set(run.flat()) == set(names(Run))


def test_the_digest_is_of_the_values_whatever_their_order(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("train: {epochs: 5, shuffle: false}\nseed: 1\n")
    (tmp_path / "b.json").write_text('{"seed": 1, "train": {"shuffle": false, "epochs": 5}}')
    one, other = (Run.read(tmp_path / name) for name in ("a.yaml", "b.json"))
    assert one.digest() == other.digest() != one.replace({"train.epochs": 6}).digest()


# -- order of sources ----------------------------------------------------------------------------------------------------


def test_a_flag_goes_over_the_environment_over_the_file_over_the_defaults() -> None:
    file = Source("run.yaml", {"train": {"epochs": 5, "learning_rate": "1e-2", "shuffle": False}, "seed": 7})
    environment = from_environment(
        {"EPOCHS": "6", "RATE": "0.5", "OTHER": "1"}, {"EPOCHS": "train.epochs", "RATE": "train.learning_rate"}
    )
    flags = from_flags(["--train.learning-rate", "0.25", "--arguments.p=1"])
    run = load(file, *environment, flags)
    changed = {"seed": 7, "train.epochs": 6, "train.learning_rate": 0.25, "train.shuffle": False, "arguments": {"p": 1}}
    assert run.flat() == load().flat() | changed
    where = origins([DEFAULT, file, *environment, flags])
    assert [where[name] for name in ("seed", "train.shuffle", "train.epochs", "train.learning_rate")] == [
        "run.yaml", "run.yaml", "EPOCHS", "the command line",
    ]  # fmt: skip
    assert "data.root" not in where


def test_free_settings_of_several_sources_are_joined() -> None:
    run = load(
        Source("run.yaml", {"arguments": {"p": 1, "q": "x"}}), from_flags(["--arguments.q", "[1, 2]", "--arguments.r", "z"])
    )
    assert run.arguments == {"p": 1, "q": [1, 2], "r": "z"}


def test_values_keep_the_types_of_their_fields() -> None:
    run = load(
        from_flags(["--data.root", "007", "--data.files", "kg/a", "--train.learning_rate", "1", "--train.shuffle", "no"])
    )
    assert (run.data.root, run.data.files, run.train.learning_rate, run.train.shuffle) == ("007", ["kg/a"], 1.0, False)
    assert type(run.train.learning_rate) is float
    assert load(from_flags(["--seed", "010"])).seed == 10  # not a number in base 8
    assert load(from_flags(["--train", "{epochs: 4, learning_rate: 1e-3}"])).train == Train(epochs=4, learning_rate=1e-3)
    assert load(from_flags(["--data.files", "[a, b]", "--train.layers", "[3, 4]"])).train.layers == [3, 4]


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(AttributeError, match="epochs cannot be set; take a copy by replace"):
        load().train.epochs = 4
    assert load().train.epochs == 3


# -- mistakes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--train.epochs ten", "train.epochs is 'ten' (from the command line); it must be a whole number of at least 1"),
        ("--train.epochs true", "train.epochs is 'true' (from the command line); it must be a whole number of at least 1"),
        ("--train.epochs 1.5", "train.epochs is '1.5' (from the command line); it must be a whole number of at least 1"),
        ("--train.epochs 0", "train.epochs is 0 (from the command line); it must be at least 1"),
        ("--train.learning_rate true", "it must be a number such as 0.001, above 0 and finite"),
        ("--train.learning_rate inf", "train.learning_rate is inf (from the command line); it must be above 0 and finite"),
        ("--train.learning_rate nan", "train.learning_rate is nan (from the command line); it must be above 0 and finite"),
        ("--train.warmup 1", "train.warmup is 1.0 (from the command line); it must be a share from 0 to below 1"),
        ("--train.half 0.6", "train.half is 0.6 (from the command line); give a share from 0 up to 0.5"),
        ("--train.shuffle 1", "it must be true or false"),
        ("--train.mode summ", "train.mode is 'summ' (from the command line); allowed are sum, alternate; did you mean sum?"),
        ("--train.layers [3,x]", "train.layers is 'x' (from the command line); it must be a whole number of at least 1"),
        ("--train.layers [3,0]", "train.layers is 0 (from the command line); it must be at least 1"),
        ("--data.files 3", "data.files is '3' (from the command line); it must be a list such as [A, B]"),
        ("--train 3", "it is a section, set what is in it, such as train.epochs"),
        ("--train.epochs.x 3", "train.epochs is {'x': '3'} (from the command line); it must be a whole number"),
        ("--train.epochs [1", "the command line sets train.epochs to '[1', which cannot be read"),
        ("--arguments 3", "it must be settings such as {p: 1}"),
        ("--seed 1 --seed.x 2", "seed.x and seed cannot both be set"),
        ("--seed", "--seed lacks a value; write --seed VALUE"),
        ("seed", "'seed' is no setting; write settings as --section.name value"),
        ("--", "'--' is no setting"),
        ("--train.mode alternate", "train.mode alternate needs data.files; name one"),
    ],
)
def test_a_mistake_names_value_source_and_what_is_allowed(flags: str, words: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load(from_flags(flags.split()))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("train.epoch", "train.epochs"),
        ("epochs", "train.epochs"),
        ("epoch", "train.epochs"),
        ("data.epochs", "train.epochs"),
        ("optimiser.epochs", "train.epochs"),
        ("lr", "train.learning_rate"),
        ("train.lr", "train.learning_rate"),
        ("model.lr", "train.learning_rate"),
        ("root", "data.root"),
        ("sede", "seed"),
        ("shuffel", "train.shuffle"),
    ],
)
def test_an_unknown_setting_is_answered_with_the_nearest(name: str, suggestion: str) -> None:
    text = message(from_flags([f"--{name}", "1"]))
    assert text == f"the command line sets {name}, which is unknown; did you mean {suggestion}?"


def test_an_unknown_setting_like_no_other_is_answered_with_what_the_section_has() -> None:
    assert message(from_flags(["--data.zzz", "1"])).endswith("; known are data.root, data.files, data.label")


def test_the_last_source_that_set_a_value_is_named() -> None:
    file, over = Source("run.yaml", {"train": {"epochs": -1}}), from_environment({"E": "-2"}, {"E": "train.epochs"})
    assert message(file) == "train.epochs is -1 (from run.yaml); it must be at least 1"
    assert message(Source("run.yaml", {"a\nb": 1})).startswith("run.yaml sets a b, which is unknown; known are seed")
    assert message(file, *over) == "train.epochs is -2 (from E); it must be at least 1"
    assert message(Source("cluster.ini", {"data": {"label": "a\nb"}}, text=True)) == (
        "data.label has several lines; give one (from cluster.ini)"
    )
    assert load(file, from_flags(["--train.epochs", "2"])).train.epochs == 2


def test_mistakes_in_code_are_settings_errors_too() -> None:
    with pytest.raises(SettingsError, match=r"^seed is -1; it must be at least 0$"):
        Run(seed=-1)
    with pytest.raises(SettingsError, match=r"^seed is not set; give it a value$"):
        Run()  # type: ignore[call-arg]
    with pytest.raises(SettingsError, match=r"^sead is unknown; did you mean seed"):
        Run(seed=1, sead=2)  # type: ignore[call-arg]
    with pytest.raises(SettingsError, match=r"^train\.warmup is nan; it must be a share from 0 to below 1$"):
        load().replace({"train.warmup": math.nan})


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=2),
    max_leaves=4,
)


@hypothesis_settings(max_examples=200)
@given(name=st.sampled_from([*names(Run), "train", "data", "train.x", "x"]), value=JUNK, text=st.booleans())
def test_whatever_a_source_holds_the_answer_is_settings_or_one_line(name: str, value: Any, text: bool) -> None:
    try:
        run = load(Source("junk", nested({name: str(value) if text else value}), text))
    except SettingsError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        for key, number in (("train.epochs", int), ("seed", int), ("train.learning_rate", float)):
            assert type(run.flat()[key]) is number


@pytest.mark.parametrize("text", ["- a\n", "a: [\n", "3\n", "seed: !!python/object/apply:os.system ['true']\n", "\x00"])
def test_a_file_that_holds_no_settings_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(DataError, match=r"run\.yaml") as raised:
        read_settings_file(tmp_path / "run.yaml")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_empty_or_missing(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").touch()
    assert read_settings_file(tmp_path / "run.yaml") == {}
    for name in ("none.yaml", "none.json"):
        with pytest.raises(MissingFileError, match="none"):
            read_settings_file(tmp_path / name)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(BlinkError, match=r"run\.json"):
        read_settings_file(tmp_path / "run.json")


def test_a_choice_in_code() -> None:
    assert choice("mode", "sum", ("sum", "alternate")) == "sum"
    with pytest.raises(SettingsError, match=r"^mode is 'add'; it must be one of sum, alternate$"):
        choice("mode", "add", ("sum", "alternate"))


# -- options of a command ------------------------------------------------------------------------------------------------


class Flat(Settings):
    """Options."""

    epochs: Positive = 3
    """passes over the data."""
    rate: Rate = 0.1
    """Peak rate."""
    dropout: Share | None = None
    mode: Literal["sum", "alternate"] = "sum"
    shuffle: bool = True
    hidden: str = ""


def invoke(*arguments: str, **settings: Any) -> tuple[Any, Any]:
    values: list[Flat] = []

    @click.command()
    @settings_options(Flat, without=("hidden",), **settings)
    def command(**options: Any) -> None:
        values.append(take_settings(Flat, options))
        assert not options

    result = CliRunner().invoke(command, list(arguments))
    return result, values[0] if values else None


def test_fields_are_options() -> None:
    assert invoke()[1] == Flat()
    values = invoke("--epochs", "4", "--rate", "1", "--dropout", "0.5", "--mode", "alternate", "--no-shuffle")[1]
    assert values == Flat(epochs=4, rate=1.0, dropout=0.5, mode="alternate", shuffle=False)
    assert invoke(defaults={"epochs": 9})[1] == Flat(epochs=9)


def test_their_help_is_that_of_the_fields() -> None:
    text = invoke("--help")[0].output
    for words in ("Passes over the data.  [default: 3]", "Peak rate.", "--mode [sum|alternate]", "--shuffle / --no-shuffle"):
        assert words in text
    assert "--hidden" not in text


def test_wrong_options_are_refused_by_type_by_choice_and_by_range() -> None:
    assert "is not a valid integer" in invoke("--epochs", "x")[0].output
    assert "'add' is not one of 'sum', 'alternate'" in invoke("--mode", "add")[0].output
    error = invoke("--epochs", "0")[0].exception
    assert isinstance(error, SettingsError)
    assert str(error) == "epochs is 0; it must be at least 1"
    assert "0 is not in the range x>=1" in invoke("--epochs", "0", bounds=True)[0].output

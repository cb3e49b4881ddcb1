"""The card of a model: what commands did to it, and how figures were computed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from outcomes import done

from blink.evaluation.comparison import execution_in
from blink.files import sha256
from blink.machine import processor
from blink.model.card import BEGIN, CARD_FILE, END, REPLACES, TITLES, add_entry, duration, read_entries
from blink.model.execution import UNKNOWN, Execution, execution_line

Run = Callable[..., tuple[int, str, str]]

ENTRY = {
    "figures": [{"development file": "dev.jsonl", "all weak F1 (95 %)": "0.9000 (0.8000-0.9500)"}],
    "recipe": {"epochs": 3},
    "kb": {"name": "kb", "entities": 1234, "sha256": "ab" * 32},
    "seconds": 75.0,
    "command": ["blink", "train", "--train", "a file.jsonl"],
    "execution": Execution("fp32", "onnx", "cpu", "A CPU", ("avx2",), 2).to_json(),
}


def card(folder: Path) -> str:
    return (folder / CARD_FILE).read_bytes().decode()


@pytest.mark.quick
class TestCard:
    def test_it_says_data_recipe_figures_and_how_to_load(self, tmp_path: Path) -> None:
        add_entry(tmp_path, "train", ENTRY)
        text = card(tmp_path)
        assert text.startswith("---\nlicense: other")
        for words in (
            "| dev.jsonl | 0.9000 (0.8000-0.9500) |",
            "`epochs=3`",
            "kb, 1,234 entities",
            "75 s",
            "`blink train --train 'a file.jsonl'`",
            "Figures computed in fp32, ONNX Runtime, cpu: A CPU (avx2), 2 cores.",
            f"blink.load({tmp_path.name!r}, 'kb')",
        ):
            assert words in text
        assert read_entries(tmp_path) == {"train": ENTRY}

    def test_what_people_write_stays(self, tmp_path: Path) -> None:
        add_entry(tmp_path, "train", ENTRY)
        before, _, rest = card(tmp_path).partition(BEGIN)
        mine = before.replace("license: other", "license: cc-by-4.0") + "My own words.\r\n\xff\n"
        edited = mine + BEGIN + rest + "\nAnd after it.\n"
        (tmp_path / CARD_FILE).write_bytes(edited.encode("latin-1"))
        add_entry(tmp_path, "rank", {"measured": {"Spans": 7}})
        text = (tmp_path / CARD_FILE).read_bytes()
        assert text.startswith(mine.encode("latin-1"))
        assert text.endswith(b"\n\nAnd after it.\n")
        assert b"- Spans: 7\n" in text
        assert list(read_entries(tmp_path)) == ["train", "rank"]

    def test_a_file_without_a_section_gets_one_at_its_end(self, tmp_path: Path) -> None:
        (tmp_path / CARD_FILE).write_text("# Mine\n")
        for _ in range(2):
            add_entry(tmp_path, "train", ENTRY)
        assert card(tmp_path).startswith("# Mine\n\n" + BEGIN)
        assert card(tmp_path).count(BEGIN) == card(tmp_path).count(END) == 1

    @pytest.mark.parametrize("kind", TITLES)
    def test_a_new_entry_drops_those_that_it_makes_obsolete(self, tmp_path: Path, kind: str) -> None:
        for other in TITLES:
            add_entry(tmp_path, other, {"measured": {"of": other}})
        add_entry(tmp_path, kind, {"measured": {"of": "new"}})
        kept = [other for other in TITLES if other not in REPLACES[kind] or other == kind]
        entries = read_entries(tmp_path)
        assert list(entries) == kept
        assert entries[kind] == {"measured": {"of": "new"}}
        assert re.findall(r"^## (.*)$", card(tmp_path), re.M) == ["How to load", *(TITLES[k] for k in kept)]

    @settings(max_examples=60)
    @given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
    def test_no_text_breaks_it(self, tmp_path_factory: pytest.TempPathFactory, name: str, value: str) -> None:
        folder = tmp_path_factory.getbasetemp() / "any text"
        folder.mkdir(exist_ok=True)
        (folder / CARD_FILE).unlink(missing_ok=True)
        entry = {"measured": {name: f"{value} --> {END}"}, "figures": [{name: value}], "command": [name, value]}
        add_entry(folder, "train", entry)
        assert read_entries(folder) == {"train": entry}
        add_entry(folder, "calibrate", {})
        assert list(read_entries(folder)) == ["train", "calibrate"]

    @pytest.mark.parametrize("damage", ["<!-- blink-card {", "<!-- blink-card [] -->", '<!-- blink-card {"train": 1} -->', ""])
    def test_a_damaged_section_is_written_again(self, tmp_path: Path, damage: str) -> None:
        (tmp_path / CARD_FILE).write_text(f"mine\n{BEGIN}\n{damage}\n{END}\n")
        assert read_entries(tmp_path) == {}
        add_entry(tmp_path, "train", ENTRY)
        assert card(tmp_path).startswith(f"mine\n{BEGIN}\n")
        assert read_entries(tmp_path) == {"train": ENTRY}

    def test_durations(self) -> None:
        assert [duration(s) for s in (0.4, 89, 90, 5000, 7200)] == ["0 s", "89 s", "2 min", "83 min", "2.0 h"]


@pytest.mark.quick
def test_how_a_model_ran() -> None:
    here = Execution.here("fp32", "onnx", "cpu")
    assert here.processor
    assert set(here.features) <= processor()[1]
    assert Execution.from_json(json.loads(json.dumps(here.to_json()))) == here
    assert str(here).startswith(f"fp32, ONNX Runtime, cpu: {here.processor}")
    assert execution_line(None) == UNKNOWN


class TestCommands:
    @pytest.fixture
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        model = toys.model(1)
        model.save_pretrained("start")
        toys.knowledge_base(tmp_path / "kb", model, toys.rows(12))
        rows = [{"id": str(i), "text": f"is Oslo {i} old?", "mentions": [[3, 9]], "label_id": [i]} for i in range(8)]
        for name in ("train", "dev"):
            Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path

    def test_training_ranking_and_calibration_write_it(self, home: Path, blink: Run) -> None:
        train = ("train", "--model", "start", "--kb", "kb", "--train", "train.jsonl", "--dev", "dev.jsonl", "--out", "run")
        _, err = done(blink(*train, "--epochs", 2, "--batch-size", 4, "--precision", "fp32"))
        best = home / "run" / "best"
        entry = read_entries(best)["train"]
        assert f"computed in {Execution.from_json(entry['execution'])}" in err
        assert entry["recipe"] == {"epochs": 2, "batch_size": 4, "precision": "fp32"}
        assert [(row["role"], row["texts"], row["gold mentions"]) for row in entry["data"]] == [
            ("train", "8", "8"),
            ("dev", "8", "8"),
        ]
        assert entry["data"][0]["sha256"] == sha256(home / "train.jsonl")
        stored = json.loads((home / "run" / "best.json").read_text())
        assert stored["execution"] == entry["execution"]
        assert entry["execution"]["precision"] == "fp32"
        assert f"{stored['f1']:.4f} (" in entry["figures"][0]["covered weak F1 (95 %)"]
        assert entry["measured"]["Threshold, selected on these texts"] == stored["threshold"]
        assert entry["seconds"] > 0
        done(blink("rank", "run/best", "--kb", "kb", "--train", "train.jsonl", "--epochs", 1, "--precision", "fp32"))
        out, _ = done(blink("calibrate", "run/best", "--on", "kb", "dev.jsonl", "--json", "cut.json", "--precision", "fp32"))
        entries = read_entries(best)
        assert list(entries) == ["train", "rank", "calibrate"]
        assert entries["train"] == entry
        figures = json.loads(Path("cut.json").read_text())
        assert figures["execution"] == entries["calibrate"]["execution"]
        assert str(Execution.from_json(figures["execution"])) in out
        weak = figures["sets"][0]["covered"]["weak"]
        assert entries["calibrate"]["figures"][0]["covered weak F1 (95 %)"].startswith(
            f"{weak['f1']:.4f} ({weak['f1_low']:.4f}-"
        )
        done(blink(*train, "--epochs", 1, "--batch-size", 4, "--precision", "fp32"))
        assert list(read_entries(best)) == ["train"]

    def test_evaluations_say_how_they_were_computed(self, home: Path, blink: Run) -> None:
        command = ("eval", "dev.jsonl", "--model", "start", "--kb", "kb", "--json", "f.json", "--rows", "rows.jsonl")
        for precision in ("fp32", "bf16"):
            out, _ = done(blink(*command, "--precision", precision, "--save-preds", "p.npz"))
            execution = Execution.from_json(json.loads(Path("f.json").read_text())["execution"])
            assert (execution.precision, execution.backend) == (precision, "torch")
            assert f"computed in {execution}\n" in out
            assert execution_in("rows.jsonl") == str(execution)
        out, _ = done(blink("eval", "--preds", "p.npz", "--json", "g.json"))
        assert f"computed in {execution}\n" in out
        assert json.loads(Path("g.json").read_text())["execution"] == execution.to_json()
        Path("old.jsonl").write_text(re.sub(r', "execution": "[^"]*"', "", Path("rows.jsonl").read_text()))
        out, _ = done(blink("compare", "rows.jsonl", "old.jsonl"))
        assert f"A = rows.jsonl: {execution}\nB = old.jsonl: {UNKNOWN}\n" in out

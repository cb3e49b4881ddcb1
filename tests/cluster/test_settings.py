"""Where settings come from, which wins, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from blink.cluster.settings import ClusterSettings, SlurmSettings, find_file, load_settings
from blink.errors import MissingFileError, SettingsError

pytestmark = pytest.mark.quick

FILE = """\
# a comment
[slurm]
partition = learnfair   # of the file
gpus = 8
time_min = 3000
account =
setup = module load cuda
    ulimit -n 4096
[paths]
data = /data
[data]
WebQSP_EL = /elsewhere/questions
[sizes]
large = /toys/large
[flags]
train = --num_train_epochs 3 --seed '7'
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "site.ini"
    path.write_text(FILE)
    return path


def test_nothing_is_set_by_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings({"HOME": str(tmp_path)})
    assert settings == ClusterSettings()
    names = ("partition", "account", "qos", "constraint", "gpus", "cpus", "mem_gb", "time_min")
    assert [getattr(settings.slurm, name) for name in names] == [None] * len(names)
    assert settings.encoder("large") == "bert-large-uncased"


def test_the_file(file: Path) -> None:
    settings = load_settings({}, file)
    assert settings.slurm.partition == "learnfair"
    assert (settings.slurm.gpus, settings.slurm.time_min, settings.slurm.account) == (8, 3000, None)
    assert settings.slurm.setup.splitlines() == ["module load cuda", "ulimit -n 4096"]
    assert settings.data_folder("WebQSP_EL") == Path("/elsewhere/questions")
    assert settings.data_folder("nq") == Path("/data/nq")
    assert settings.encoder("large") == "/toys/large"
    assert settings.encoder("base") == "bert-base-uncased"
    assert settings.extra_flags("train") == ["--num_train_epochs", "3", "--seed", "7"]
    assert settings.extra_flags("eval") == []
    assert settings.origin("slurm.partition") == str(file)
    assert settings.origin("slurm.account") == "default"


def test_a_flag_goes_before_the_environment_before_the_file(file: Path) -> None:
    environment = {"BLINK_PARTITION": "dev", "BLINK_GPUS": "2", "BLINK_DATA_ROOT": "/mine", "BLINK_SIZE_BASE": "/toys/base"}
    settings = load_settings(environment, file, gpus=1, partition=None)
    assert (settings.slurm.partition, settings.slurm.gpus, settings.slurm.time_min) == ("dev", 1, 3000)
    assert settings.origin("slurm.partition") == "BLINK_PARTITION"
    assert settings.origin("slurm.gpus") == "--gpus"
    assert settings.data_folder("nq") == Path("/mine/nq")
    assert settings.encoder("base") == "/toys/base"


def test_data_sets_and_flags_in_the_environment(file: Path) -> None:
    settings = load_settings({"BLINK_DATA_NQ": "/nq", "BLINK_FLAGS_TRAIN": "--epochs 2", "BLINK_MODELS_DIR": "/m"}, file)
    assert settings.data_folder("nq") == Path("/nq")
    assert settings.extra_flags("train") == ["--epochs", "2"]
    assert settings.paths.models == "/m"


def test_an_empty_variable_is_none(file: Path) -> None:
    assert load_settings({"BLINK_PARTITION": "", "BLINK_GPUS": ""}, file).slurm.partition == "learnfair"


def test_where_the_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    (home / ".config" / "blink").mkdir(parents=True)
    (home / ".config" / "blink" / "cluster.ini").write_text("[slurm]\npartition = of-home\n")
    environment = {"HOME": str(home)}
    assert load_settings(environment).slurm.partition == "of-home"
    (tmp_path / "cluster.ini").write_text("[slurm]\npartition = here\n")
    assert load_settings(environment).slurm.partition == "here"
    named = tmp_path / "named.ini"
    named.write_text("[slurm]\npartition = named\n")
    assert load_settings({**environment, "BLINK_CLUSTER": str(named)}).slurm.partition == "named"
    with pytest.raises(MissingFileError, match=r"nowhere\.ini, the settings file named by BLINK_CLUSTER, does not exist"):
        find_file({"BLINK_CLUSTER": "nowhere.ini"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[slurm]\npartion = x\n",
            r"site\.ini: 'partion' is no key of \[slurm\] \(did you mean 'partition'\?\); allowed are submit,",
        ),
        (
            "[slurn]\npartition = x\n",
            r"site\.ini: \[slurn\] is no section \(did you mean 'slurm'\?\); allowed are slurm, paths",
        ),
        ("[slurm]\ngpus = many\n", r"gpus is 'many' \(from .*site\.ini\); it must be a whole number of at least 0"),
        ("[slurm]\nnodes = 0\n", r"nodes is 0 \(from .*site\.ini\); it must be at least 1"),
        ("[slurm]\nsubmit = maybe\n", r"submit is 'maybe' .*; allowed are auto, slurm, local"),
        ("[slurm]\npartition = a\n  b\n", "partition has several lines"),
        ("[slurm]\npartition = a\npartition = b\n", "cannot be read .*already exists"),
        ("partition = a\n", "cannot be read .*write 'key = value' below"),
        ("[flags]\nlink = --json\n", r"'link' is no key of \[flags\]; allowed are train, encode, eval"),
        ("[paths]\nroot = /x\n", r"'root' is no key of \[paths\]"),
    ],
)
def test_a_wrong_file_is_one_line(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError, match=message) as error:
        load_settings({}, file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"BLINK_PARTITON": "x"}, r"BLINK_PARTITON is no setting \(did you mean BLINK_PARTITION\?\)"),
        ({"BLINK_MEM_GB": "4.5"}, r"mem_gb is '4.5' \(from BLINK_MEM_GB\)"),
        ({"BLINK_FLAGS_TRIAN": "x"}, "BLINK_FLAGS_TRIAN: 'trian' is no key"),
    ],
)
def test_a_wrong_variable(environment: dict[str, str], message: str, file: Path) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(environment, file)


def test_variables_of_others_are_left_alone(file: Path) -> None:
    load_settings({"BLINK_MIRROR": "https://here", "BLINK_RETRY_WAIT_S": "1", "BLINK_DRY_RUN": "1", "BLINK_SHARD": "3"}, file)


def test_wrong_values_that_are_asked_for_later(file: Path) -> None:
    settings = load_settings({"BLINK_FLAGS_EVAL": "'open"}, file)
    with pytest.raises(SettingsError, match="the model size is 'huge'; allowed are base, large"):
        settings.encoder("huge")
    with pytest.raises(SettingsError, match=r"flags\.eval is .* quote it as a shell would"):
        settings.extra_flags("eval")


def test_processes() -> None:
    assert SlurmSettings().processes_per_node == 1
    assert SlurmSettings(gpus=8).processes_per_node == 8
    assert SlurmSettings(gpus=0).processes_per_node == 1
    assert SlurmSettings(gpus=8, processes=2).processes_per_node == 2


def test_earlier_names_of_settings_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "cluster.ini"
    file.write_text("[slurm]\nnotice_s = 40\n")
    assert load_settings({}, file).slurm.signal_lead_s == 40
    assert load_settings({"BLINK_NOTICE_S": "50"}, file).slurm.signal_lead_s == 50

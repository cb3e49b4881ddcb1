"""One case: a sample, damaged by its seed, read in a process of its product_frames, and the outcome."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import shutil
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.kinds import OTHER, Kind, run_use
from tests.fuzz.mutations import mutate
from tests.fuzz.processes import TRACEBACK, Ended, load_modules, run_limited
from tests.fuzz.wide import Scene, damage, heed_modes, make_removable

REFUSED, NOTED, SAME, UNVERIFIED = "refused", "noted", "same", "by design"
SILENT, CRASH, HANG, MEMORY, UNCLEAR, BROKEN = "SILENT", "TRACEBACK", "HANG", "MEMORY", "UNCLEAR", "BROKEN"
GOOD, BAD = (REFUSED, NOTED, SAME, UNVERIFIED), (CRASH, HANG, SILENT, MEMORY, UNCLEAR, BROKEN)
MEANINGS = {
    REFUSED: "one clear line, non-zero exit",
    NOTED: "another result, and a line that says why",
    SAME: "the same result",
    UNVERIFIED: "another result of a file whose content is by design unverified",
    CRASH: "an exception that no command made a line of, or a signal",
    HANG: "more time than the limit",
    SILENT: "another result of a verified file, and not a word",
    MEMORY: "more memory than the limit",
    UNCLEAR: "an error that is no line, a long line, or holds control characters",
    BROKEN: "the sample itself cannot be read: the fuzzer is wrong",
}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_PROGRESS = re.compile(r"\r[^\n]*")
LONGEST_LINE = 2000


@dataclass(frozen=True)
class Result:
    """A case and its outcome.

    Attributes:
        kind: name of the kind.
        case: its seed, ``seed:number``.
        outcome: one of `MEANINGS`.
        damage: which files, and how.
        detail: the line that refused it, or what escaped.
        seconds: of computing.
        folder: where the damaged files are, if they were kept.
    """

    kind: str
    case: str
    outcome: str
    damage: str
    detail: str
    seconds: float
    folder: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Cases:
    """Runs cases of kinds; samples are made once, in ``work``.

    Args:
        kinds: by name.
        work: a folder of its product_frames.
        keep: where the files of bad cases go; None keeps none.
        wide: damage as of `tests.fuzz.wide`, not of `tests.fuzz.mutations`.
    """

    def __init__(self, kinds: Mapping[str, Kind], work: Path, keep: Path | None, *, wide: bool = False) -> None:
        self.kinds, self.work, self.keep, self.wide = kinds, work, keep, wide
        self._faults: dict[str, str] = {}
        self._sound: dict[tuple[str, int, str], Ended] = {}

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run the case of a request: ``kind`` and ``case``."""
        try:
            return self._run(self.kinds[request["kind"]], request["case"]).to_dict()
        except Exception as error:
            fault = f"{error!r}\n{traceback.format_exc()[-500:]}"
            return Result(request["kind"], request["case"], BROKEN, "", fault, 0.0).to_dict()

    def sample(self, kind: Kind, *, other: bool = False) -> Path:
        """The folder of a kind's sample, or of one with other content.

        Raises:
            RuntimeError: it cannot be made.
        """
        folder = self.work / ("others" if other else "samples") / kind.name
        if str(folder) in self._faults:
            raise RuntimeError(self._faults[str(folder)])
        if not folder.exists():
            output = self._output("make")
            new = self._case()  # files that name others name them as in a case
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)

            def make(at: Path) -> None:
                os.environ[OTHER] = "1" if other else ""
                kind.make(at)

            ended = run_limited(make, new, output)
            if ended.status or ended.limit:
                self._faults[str(folder)] = f"no sample of {kind.name}: {ended.limit} {ended.err[-600:]}"
                raise RuntimeError(self._faults[str(folder)])
            folder.parent.mkdir(parents=True, exist_ok=True)
            new.rename(folder)
        return folder

    def _case(self) -> Path:
        return self.work / f"case-{os.getpid()}"

    def _output(self, name: str) -> Path:
        output = self.work / f"output-{os.getpid()}-{name}"
        output.mkdir(parents=True, exist_ok=True)
        return output

    def _read(self, kind: Kind, use: int, folder: Path, file: Path, *, as_user: bool = False) -> Ended:
        def read(at: Path) -> int | None:
            if as_user:
                heed_modes()
            os.environ.update({name: value.replace("{}", str(at)) for name, value in kind.environment.items()})
            os.fsync = lambda handle: None  # type: ignore[assignment]
            tempfile.tempdir = str(at)
            return run_use(kind.uses[use], at, file)

        return run_limited(read, folder, self._output("case"))

    def _copied(self, sample: Path) -> Path:
        folder = self._case()
        make_removable(folder)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(sample, folder, symlinks=True)
        return folder

    def _run(self, kind: Kind, case: str) -> Result:
        rng = random.Random(hashlib.sha256(f"{kind.name}:{case}".encode()).digest())
        os.environ["BLINK_FUZZ_SHARED"] = str(self.work / "shared")
        try:
            sample = self.sample(kind)
        except RuntimeError as error:
            return Result(kind.name, case, BROKEN, "", str(error), 0.0)
        use = rng.randrange(len(kind.uses))
        if not kind.files(sample):
            return Result(kind.name, case, BROKEN, "", f"{sample} has none of {kind.targets}", 0.0)
        targets = [path.relative_to(sample) for path in kind.files(sample)]
        folder = self._copied(sample)
        scene = self._scene(kind, folder, sample, [folder / path for path in targets], rng)
        done = damage(scene) if self.wide else mutate(folder, scene.targets, rng)
        first = done[0][0]
        sound = self._sound_result(kind, use, sample, first.relative_to(folder))
        if sound.status or sound.limit:
            return Result(kind.name, case, BROKEN, "", f"{sound.limit} {sound.err[-600:]}", sound.seconds)
        saved = self._copy_for_reports(folder, kind, case)
        names = [path.relative_to(folder) for path, _ in done]
        verified = not scene.forged and any(
            kind.is_verified(name, is_lost=_is_lost(sample / name, folder / name)) for name in names
        )
        ended = self._read(kind, use, folder, first, as_user=scene.as_user)
        outcome, detail = judged(ended, sound, verified)
        text = "; ".join(f"{path.relative_to(folder)} {how}" for path, how in done)
        if saved is not None:
            (saved / "err").write_text(ended.err, encoding="utf-8")
            if outcome in GOOD:
                shutil.rmtree(saved)
        return Result(kind.name, case, outcome, text, detail, ended.seconds, str(saved or "") if outcome in BAD else "")

    def _scene(self, kind: Kind, folder: Path, sample: Path, targets: list[Path], rng: random.Random) -> Scene:
        if not self.wide:
            return Scene(folder, sample, None, targets, targets[0], rng)
        other = None
        with contextlib.suppress(RuntimeError):
            aside = folder.with_name(folder.name + "-aside")
            folder.rename(aside)
            try:
                other = self.sample(kind, other=True) if kind.verified else None
            finally:
                aside.rename(folder)
        return Scene(folder, sample, other, targets, rng.choice(targets), rng)

    def _sound_result(self, kind: Kind, use: int, sample: Path, file: Path) -> Ended:
        """What the sample itself gives; it is read in the folder of the case, so that names are the same."""
        key = (kind.name, use, str(file) if _names_file(kind.uses[use]) else "")
        if key not in self._sound:
            case = self._case()
            aside = case.with_name(case.name + "-aside")
            shutil.rmtree(aside, ignore_errors=True)
            case.rename(aside)
            folder = self._copied(sample)
            self._sound[key] = self._read(kind, use, folder, folder / file)
            load_modules(self._output("case"))
            shutil.rmtree(folder)
            aside.rename(case)
        return self._sound[key]

    def _copy_for_reports(self, folder: Path, kind: Kind, case: str) -> Path | None:
        if self.keep is None:
            return None
        saved = self.keep / f"{kind.name}-{case.replace(':', '-')}"
        shutil.rmtree(saved, ignore_errors=True)
        saved.mkdir(parents=True)
        for path in sorted(folder.rglob("*")):
            with contextlib.suppress(OSError):  # it may not be read
                if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 24:
                    target = saved / path.relative_to(folder)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, target)
        return saved


def _names_file(use: Any) -> bool:
    return callable(use) or "{file}" in use


def judged(ended: Ended, sound: Ended, verified: bool) -> tuple[str, str]:
    """The outcome of a case, and its line.

    Args:
        ended: how the process on the damaged files ended.
        sound: how that on the sample ended.
        verified: whether a damaged file is verified.
    """
    if ended.limit:
        return ended.limit, _where(ended.err)
    if ended.status < 0 or ended.status == TRACEBACK or "Traceback (most recent call last)" in ended.err:
        return CRASH, _where(ended.err) if ended.status >= 0 else f"signal {-ended.status}"
    messages = [line for line in _PROGRESS.sub("", ended.err).split("\n") if line.strip()]
    known = {_shape(line) for line in _PROGRESS.sub("", sound.err).split("\n")}
    fresh = [line for line in messages if _shape(line) not in known]
    faults = [line for line in fresh if _CONTROL.search(line) or len(line) > LONGEST_LINE or "Warning: " in line]
    if faults:
        return UNCLEAR, faults[0][:300]
    if ended.status:
        if not messages and ended.out and ended.out != sound.out:
            return REFUSED, _difference(sound.out, ended.out)
        if not messages:
            return UNCLEAR, f"exit status {ended.status} without a line"
        if "out of memory" in messages[-1]:
            return MEMORY, messages[-1][:300]
        return REFUSED, messages[-1]
    if ended.out == sound.out:
        return SAME, ""
    if fresh:
        return NOTED, fresh[-1]
    return (SILENT if verified else UNVERIFIED), _difference(sound.out, ended.out)


def _shape(line: str) -> str:
    return re.sub(r"\d+(\.\d+)?", "0", line.strip())


def _difference(before: str, after: str) -> str:
    i = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after)))
    return f"{before[max(i - 20, 0) : i + 60]!r} became {after[max(i - 20, 0) : i + 60]!r}"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:500] if lines else ""


def _where(err: str) -> str:
    """The last line of a traceback, and the last frame in the product."""
    frames = re.findall(r'File "[^"]*?/((?:blink|examples|elq|tests)/[^"]*)", line (\d+), in (\S+)', err)
    product_frames = [frame for frame in frames if not frame[0].startswith("tests")] or frames
    at = f" at {product_frames[-1][0]}:{product_frames[-1][1]} {product_frames[-1][2]}" if product_frames else ""
    return f"{_last_line(err)[:300]}{at}"


def numbered(kinds: Mapping[str, Kind], seed: int) -> Iterator[tuple[str, str]]:
    """Kinds and seeds of cases, without end: by weight, in an order that follows from the seed."""
    order = random.Random(seed)
    names = list(kinds)
    weights = [kinds[name].weight for name in names]
    counts = dict.fromkeys(names, 0)
    while True:
        (name,) = order.choices(names, weights)
        yield name, f"{seed}:{counts[name]}"
        counts[name] += 1


def _is_lost(before: Path, after: Path) -> bool:
    """Whether a file is gone, or its last lines are."""
    if not os.path.lexists(after):
        return True
    if not after.is_file() or not before.is_file() or after.stat().st_size > before.stat().st_size:
        return False
    try:
        rest = after.read_bytes()
    except OSError:
        return False
    return (not rest or rest.endswith(b"\n")) and before.read_bytes().startswith(rest)

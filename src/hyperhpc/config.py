"""What a run is asked to do: flags over a TOML file over defaults, checked at once."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral
from pathlib import Path
from typing import Any

from hyperhpc.errors import ConfigError

MODELS = ("lloyd", "minibatch")
ENGINES = ("hyperhpc", "dask-ml")
LAUNCHERS = ("local", "gang", "elastic", "external")
OVERLAPS = ("first", "last", "nadir")
MASKS = ("weather", "shadow", "cloud")
BANDS = ("same", "intersect")
#: 255 marks a missing label, so 0-254 can be used.
MAX_CLUSTERS = 255
#: Bits of the fraction of a float32.
INDEX_BITS = 23
#: What scikit-learn takes as random_state.
MAX_SEED = 2**32 - 1

#: Names of options that were renamed; files, calls and command lines may still use them.
ALIASES = {"index": "formula", "model": "apply_model"}
#: Values of ``launcher`` that were renamed.
_LAUNCHER_ALIASES = {"scheduler": "external"}
#: Names under which plan.json and run.json keep options, where they differ.
STORED_NAMES = {"formula": "index", "apply_model": "model"}


def present_name(stored: str) -> str:
    """Name of the option that plan.json and run.json keep under a name."""
    return ALIASES.get(stored, stored)


_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


@dataclass(frozen=True, kw_only=True)
class SceneOptions:
    """How a scene is read: what its files leave open, and which of its pixels count.

    Attributes
    ----------
    group
        Group that holds the cube; by default it is searched.
    wavelengths
        File of band centres (nm, one per line) for files that carry none.
    overlap
        Whose pixels a mosaic shows where sources overlap, one of :data:`OVERLAPS`.
    mask
        Quality layers, of :data:`MASKS`, whose pixels become no-data.
    aoi
        File of polygons (GeoPackage or GeoJSON); pixels outside become no-data.
    bands
        What a mosaic does with bands that not all sources have, one of :data:`BANDS`.
    resample_bands
        Interpolate all sources of a mosaic to the band centres of the first.

    Raises
    ------
    ConfigError
        A choice that does not exist.
    """

    group: str | None = None
    wavelengths: Path | None = None
    overlap: str = "first"
    mask: tuple[str, ...] = ()
    aoi: Path | None = None
    bands: str = "same"
    resample_bands: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown choices."""
        if problems := self._find_problems():
            raise ConfigError("; ".join(problems), "see hyperhpc info --help")

    def _find_problems(self) -> list[str]:
        asked = [("overlap", self.overlap, OVERLAPS), ("bands", self.bands, BANDS)]
        asked += [("mask", name, MASKS) for name in self.mask]
        return [
            f"{name} = {value!r}: choose of {', '.join(known)}"
            for name, value, known in asked
            if value not in known
        ]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All options of a run.

    Fields marked ``changes results`` must agree when a run is continued; the others may
    differ from one call to the next.
    """

    scene: Path
    out: Path
    group: str | None = dataclasses.field(default=None, metadata={"changes results": True})
    wavelengths: Path | None = None  # this and aoi count by their content: Plan.options
    overlap: str = dataclasses.field(default="first", metadata={"changes results": True})
    mask: tuple[str, ...] = dataclasses.field(default=(), metadata={"changes results": True})
    aoi: Path | None = None
    bands: str = dataclasses.field(default="same", metadata={"changes results": True})
    resample_bands: bool = dataclasses.field(default=False, metadata={"changes results": True})
    bbox: tuple[float, float, float, float] | None = dataclasses.field(
        default=None, metadata={"changes results": True}
    )
    drop: tuple[tuple[float, float], ...] | None = dataclasses.field(
        default=None, metadata={"changes results": True}
    )
    clusters: int = dataclasses.field(default=8, metadata={"changes results": True})
    stride: int = dataclasses.field(default=4, metadata={"changes results": True})
    models: tuple[str, ...] = dataclasses.field(
        default=MODELS, metadata={"changes results": True}
    )
    indices: tuple[str, ...] = dataclasses.field(
        default=("all",), metadata={"changes results": True}
    )
    formula: Mapping[str, str] = dataclasses.field(
        default_factory=dict, metadata={"changes results": True}
    )
    index_bits: int = dataclasses.field(default=INDEX_BITS, metadata={"changes results": True})
    points: tuple[tuple[float, float], ...] = dataclasses.field(
        default=(), metadata={"changes results": True}
    )
    seed: int = dataclasses.field(default=0, metadata={"changes results": True})
    engine: str = dataclasses.field(default="hyperhpc", metadata={"changes results": True})
    estimator: str | None = dataclasses.field(default=None, metadata={"changes results": True})
    seed_compat: bool = dataclasses.field(default=False, metadata={"changes results": True})
    apply_model: Path | None = None  # it counts by its content: Plan.options
    skip_bad_tiles: bool = dataclasses.field(default=False, metadata={"changes results": True})
    workers: int | None = None
    threads_per_worker: int = 1
    memory_per_worker: str = "4GiB"
    launcher: str = "local"
    address: str | None = None
    interface: str | None = None
    insecure: bool = False
    dashboard: bool = False
    restart: bool = False

    def result_options(self) -> dict[str, Any]:
        """The options that change results, as plain JSON values."""
        return {
            STORED_NAMES.get(field.name, field.name): _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.metadata.get("changes results")
        }

    @property
    def scene_options(self) -> SceneOptions:
        """Those of the options that say how the scene is read."""
        names = (field.name for field in dataclasses.fields(SceneOptions))
        return SceneOptions(**{name: getattr(self, name) for name in names})

    @property
    def memory_bytes(self) -> int:
        """``memory_per_worker`` in bytes."""
        return parse_memory(self.memory_per_worker)


def parse_memory(text: str) -> int:
    """Bytes in ``4GiB``, ``512MiB``, ``3.5G`` (powers of 1024) or ``4GB`` (of 1000).

    Raises
    ------
    ConfigError
        If it is no amount of memory.
    """
    match = re.fullmatch(
        r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*(?:([KMGT])(i?B?)|B?)\s*", str(text), re.IGNORECASE
    )
    if not match:
        raise ConfigError(f"{text!r} is no amount of memory", "write it as 4GiB or 512MiB")
    unit = (match[2] or "").upper()
    base = 1000 if unit and match[3].upper() == "B" else 1024
    return int(Fraction(match[1]) * base ** _UNITS[unit])


def load_config(
    scene: str | Path, out: str | Path, flags: Mapping[str, Any], file: str | Path | None = None
) -> RunConfig:
    """Merge flags over a TOML file over defaults, and check everything.

    Parameters
    ----------
    flags
        Field name to value; None means not given.
    file
        TOML file whose keys are the field names.

    Raises
    ------
    ConfigError
        Naming every problem found, not only the first.
    """
    problems: list[str] = []
    values = _rename(_read_toml(Path(file)), problems) if file else {}
    given = {name: value for name, value in flags.items() if value is not None}
    values |= _rename(given, problems)
    fields = {f.name for f in dataclasses.fields(RunConfig)} - {"scene", "out"}
    clean: dict[str, Any] = {}
    for name, value in values.items():
        if name not in fields:
            problems.append(f"unknown key {name!r}")
            continue
        try:
            clean[name] = _CLEANERS[name](value)
        except (TypeError, ValueError, OverflowError) as error:
            problems.append(f"{name} = {value!r}: {error}")
    config = RunConfig(scene=Path(scene), out=Path(out), **clean)
    problems += _find_problems(config)
    if problems:
        known = f"known keys: {' '.join(sorted(fields))}"
        raise ConfigError(
            "; ".join(problems), known if values.keys() - fields else "see hyperhpc run --help"
        )
    return config


def _rename(values: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """Use the present names of options that were renamed."""
    for old, new in ALIASES.items():
        if old in values and new in values:
            problems.append(f"{old} is the former name of {new}: give {new} only")
    return {ALIASES.get(name, name): value for name, value in values.items()}


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, nested too deep
        raise ConfigError(f"{file} is not valid TOML: {error}") from None


def _find_problems(config: RunConfig) -> list[str]:
    problems = []
    if not 1 <= config.clusters <= MAX_CLUSTERS:
        problems.append(f"clusters = {config.clusters}: 1 to {MAX_CLUSTERS} are possible")
    if config.stride < 1:
        problems.append(f"stride = {config.stride}: at least 1")
    if not 1 <= config.index_bits <= INDEX_BITS:
        problems.append(f"index_bits = {config.index_bits}: 1 to {INDEX_BITS} are possible")
    if not 0 <= config.seed <= MAX_SEED:
        problems.append(f"seed = {config.seed}: 0 to {MAX_SEED} are possible")
    problems += [
        f"model {m!r}: choose of {', '.join(MODELS)}" for m in config.models if m not in MODELS
    ]
    if len(set(config.models)) < len(config.models):
        problems.append(f"models = {','.join(config.models)}: each once")
    if not config.models and not config.estimator:
        problems.append("no model: give --models or --estimator")
    if config.engine not in ENGINES:
        problems.append(f"engine = {config.engine!r}: choose of {', '.join(ENGINES)}")
    if config.launcher not in LAUNCHERS:
        problems.append(f"launcher = {config.launcher!r}: choose of {', '.join(LAUNCHERS)}")
    try:
        config.scene_options  # noqa: B018 - it checks itself
    except ConfigError as error:
        problems.append(error.message)
    problems += _find_launcher_problems(config)
    if config.apply_model and config.estimator:
        problems.append("apply_model and estimator: a model that is applied is not fitted")
    if config.estimator and not re.fullmatch(r"[\w.]+:\w+", config.estimator):
        problems.append(f"estimator = {config.estimator!r}: write module:Class")
    if config.workers is not None and config.workers < 1:
        problems.append(f"workers = {config.workers}: at least 1")
    if config.threads_per_worker < 1:
        problems.append(f"threads-per-worker = {config.threads_per_worker}: at least 1")
    if config.bbox and not (
        config.bbox[0] < config.bbox[2] and config.bbox[1] < config.bbox[3]
    ):
        problems.append(f"bbox = {config.bbox}: XMIN < XMAX and YMIN < YMAX")
    problems += [
        f"drop {lo:g}-{hi:g}: the first must not be larger"
        for lo, hi in config.drop or ()
        if lo > hi
    ]
    problems += [
        f"point {x:g},{y:g}: both must be finite"
        for x, y in config.points
        if not (math.isfinite(x) and math.isfinite(y))
    ]
    try:
        if config.memory_bytes < 1:
            problems.append(f"memory-per-worker = {config.memory_per_worker}: more than 0")
    except ConfigError as error:
        problems.append(error.message)
    return problems


def _find_launcher_problems(config: RunConfig) -> list[str]:
    problems = []
    if config.launcher == "external" and not config.address:
        problems.append("launcher = 'external' needs --address tls://HOST:PORT")
    if config.address and config.launcher != "external":
        problems.append("address: only with --launcher external")
    if config.address and not re.fullmatch(r"(tls|tcp)://\S+:\d+", config.address):
        problems.append(f"address = {config.address!r}: write tls://HOST:PORT")
    elif config.address and config.address.startswith("tcp://") and not config.insecure:
        problems.append(
            f"address = {config.address!r}: whoever reaches an unencrypted port runs "
            "programs as you; --insecure allows it"
        )
    if config.launcher == "local" and (config.insecure or config.interface):
        problems.append("insecure and interface: a local run has no network")
    return problems


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral | float) or value % 1 != 0:
        raise ValueError("a whole number is needed")
    number = int(value)
    if abs(number) >= 2**63:  # Python reads on where TOML ends, and floats follow no further
        raise ValueError("a number of at most 63 bits is needed")
    return number


def _items(value: Any, what: str) -> list[Any]:
    """What a list, tuple or array holds; letters and keys are not meant."""
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise ValueError(what)
    return list(value)


def _words(value: Any) -> tuple[str, ...]:
    words = _items(value.split(",") if isinstance(value, str) else value, "names are needed")
    if not all(isinstance(word, str) for word in words):
        raise ValueError("names are needed")
    return tuple(word.strip() for word in words if word.strip())


def _numbers(count: int) -> Any:
    what = f"{count} numbers are needed"

    def clean(value: Any) -> tuple[float, ...]:
        numbers = _items(value.split(",") if isinstance(value, str) else value, what)
        if len(numbers) != count or any(isinstance(number, bool) for number in numbers):
            raise ValueError(what)
        clean = tuple(float(number) for number in numbers)
        if any(math.isnan(number) for number in clean):
            raise ValueError("NaN is no number")
        return clean

    return clean


def _list_of(clean: Any) -> Any:
    return lambda values: tuple(clean(value) for value in _items(values, "a list is needed"))


def _formulas(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
        raise ValueError("a table of name = formula is needed")
    return dict(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false is needed")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text is needed")
    return value


def _launcher(value: Any) -> str:
    return _LAUNCHER_ALIASES.get(_text(value), value)


def _path(value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("a path is needed")
    return Path(value)


_CLEANERS: dict[str, Any] = {
    "group": _text,
    "wavelengths": _path,
    "overlap": _text,
    "mask": _words,
    "aoi": _path,
    "bands": _text,
    "resample_bands": _truth,
    "bbox": _numbers(4),
    "drop": _list_of(_numbers(2)),
    "clusters": _integer,
    "stride": _integer,
    "models": _words,
    "indices": lambda value: tuple(name.lower() for name in _words(value)),
    "formula": _formulas,
    "index_bits": _integer,
    "points": _list_of(_numbers(2)),
    "seed": _integer,
    "engine": _text,
    "estimator": _text,
    "seed_compat": _truth,
    "apply_model": _path,
    "skip_bad_tiles": _truth,
    "workers": _integer,
    "threads_per_worker": _integer,
    "memory_per_worker": _text,
    "launcher": _launcher,
    "address": _text,
    "interface": _text,
    "insecure": _truth,
    "dashboard": _truth,
    "restart": _truth,
}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):  # a list: the order is that of the results
        return [f"{name}={text}" for name, text in value.items()]
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return str(value)  # JSON has no infinity
    return value

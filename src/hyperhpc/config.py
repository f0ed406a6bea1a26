"""The options of a run: one table, from which everything that takes options follows.

A field made by :func:`option` says all there is to say of an option: its name, type, default,
help, parser, choices, limits and former names. :class:`SceneOptions` and :class:`RunConfig`
check themselves with it; the command line (:mod:`hyperhpc.cli.options`), the keys of TOML
files, ``--help``, docs/reference.md and the signature of ``hyperhpc.run`` are made from it.
"""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from inspect import Parameter
from pathlib import Path
from typing import Any

from hyperhpc import parsers
from hyperhpc.errors import ConfigError, unreadable
from hyperhpc.parsers import Parser, parse_memory
from hyperhpc.reading import read_file

MODELS = ("lloyd", "minibatch")
OVERLAPS = ("first", "last", "nadir")
MASKS = (
    "weather", "shadow", "cloud", "haze", "cloud-shadow", "terrain-shadow", "water", "snow",
)  # fmt: skip
#: Words that choose maps or tables of a run (``export --what``): no index or endmember has them
#: as its name.
RESERVED_NAMES = frozenset(
    {"clusters", "indices", "fractions", "points", "lloyd", "minibatch", "fraction"}
    | {"unmixing_rmse"}
)
#: NEON's layers of codes, by whose names ``--mask LAYER=CODE`` works too.
CODED_LAYERS = (
    "Weather_Quality_Indicator", "Cast_Shadow", "Haze_Cloud_Water_Map",
    "Dark_Dense_Vegetation_Classification",
)  # fmt: skip
BANDS = ("same", "intersect")
FIGURES = ("page", "all")
CLUSTER_COLORS = ("palette", "spectral")
RESAMPLING = ("nearest",)
#: ``--unmix-by`` this word: brightness does not count.
SHAPE = "shape"
#: Labels 254 and 255 mark pixels without a cluster, so 0-253 can be used.
MAX_CLUSTERS = 254
#: Rows and columns from one fitted pixel to the next, unless these are fewer than enough; 4 is
#: THINNED_STEP: only its multiples read a store's extra copy (decisions 0011 and 0036).
STRIDE, ENOUGH_PIXELS = 4, 2000
#: Bits of the fraction of a float32.
INDEX_BITS = 23
#: The largest random_state that scikit-learn takes.
MAX_SEED = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class Option:
    """What is known of one option besides its name and its type.

    ``parse``: A value from a file, a call or a command line in, the clean value out; it raises
        ValueError with what is needed instead.
    ``default_text``: The default in words, where ``default`` does not say it.
    ``section``, ``metavar``: Heading and what stands for the value in ``hyperhpc run --help``.
    ``choices``: All words allowed, in any case; for a list, those it may hold.
    ``limits``: The smallest and the largest number allowed, both inclusive.
    ``flag``: Name on the command line, if it is not the field's with dashes.
    ``is_repeatable``: True if the command line takes it several times.
    ``former_names``, ``former_choices``: Names and words that were replaced but are still
        understood.
    ``stored_as``: Key in plan.json and run.json, if it is not the field's name.
    ``changes_results``: True if it must stay the same when a run resumes.
    """

    default: Any
    help: str
    parse: Parser
    default_text: str = ""
    section: str = "Analysis"
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    limits: tuple[float, float] = (-math.inf, math.inf)
    flag: str | None = None
    is_repeatable: bool = False
    former_names: tuple[str, ...] = ()
    former_choices: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stored_as: str | None = None
    changes_results: bool = True


def option(default: Any, help: str, parse: Parser | None = None, **more: Any) -> Any:
    """Make a field: ``choices`` or ``limits`` name its parser; without any, it is a flag."""
    if "choices" in more and parse is None:
        make = parsers.parse_choices if isinstance(default, tuple) else parsers.parse_choice
        parse = make(more["choices"], more.get("former_choices", {}))
    elif "limits" in more:
        parse = parsers.parse_integer
    elif parse is parsers.parse_path:
        more |= {"metavar": "FILE", "changes_results": False}  # its content does: Plan.options
    entry = Option(default=default, help=help, parse=parse or parsers.parse_flag, **more)
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata={"option": entry})
    return dataclasses.field(default=default, metadata={"option": entry})


_scene_option = partial(option, section="Scene")
_first_option = partial(option, section="Options that matter first")
_worker_option = partial(option, section="Workers", changes_results=False)


def options_of(kind: type[SceneOptions]) -> dict[str, Option]:
    """Name to option, in the order of the fields."""
    fields = dataclasses.fields(kind)
    return {f.name: f.metadata["option"] for f in fields if "option" in f.metadata}


@dataclass(frozen=True, kw_only=True)
class SceneOptions:
    """How a scene is read. Each option is described by ``options_of(SceneOptions)``.

    Raises ConfigError: naming every problem found, not only the first.
    """

    group: str | None = _scene_option(
        None,
        "Read the cube from this group of the file.",
        parsers.parse_text,
        default_text="the only group with a cube",
    )
    wavelengths: Path | None = _scene_option(
        None,
        "Read the band centres from this file, for a scene without them: one per line (nm), a "
        "table, an ENVI header or a NEON file.",
        parsers.parse_path,
    )
    scale: float | None = _scene_option(
        None,
        "Divide the values by this to get reflectance 0-1 (below 1: multiply), whatever the file "
        "declares; 1 for values that are reflectance.",
        parsers.parse_positive,
        metavar="VALUE",
        default_text="as declared, else 10000 for integers",
    )
    nodata: tuple[float, ...] | None = _scene_option(
        None,
        "Treat this stored value as no-data, whatever the file declares; repeat it for several.",
        parsers.parse_list(parsers.parse_number),
        metavar="VALUE",
        default_text="as declared",
        is_repeatable=True,
    )
    overlap: str = _scene_option(
        "first",
        "Choose the source whose pixels a mosaic takes where its sources overlap.",
        choices=OVERLAPS,
    )
    mask: tuple[str, ...] = _scene_option(
        (),
        "Treat pixels as no-data that the quality layers of the scene name so; NAME=CODE,... says "
        "which codes of a layer these are.",
        parsers.parse_masks(MASKS, tuple(map(str.lower, CODED_LAYERS))),
        choices=MASKS,
    )
    aoi: Path | None = _scene_option(
        None,
        "Treat pixels outside the polygons of this file (GeoPackage, Shapefile, GeoJSON, "
        "FlatGeobuf, KML) as no-data.",
        parsers.parse_path,
    )
    layer: str | None = _scene_option(
        None,
        "Read this layer of the file of polygons or points.",
        parsers.parse_text,
        metavar="NAME",
        default_text="the only layer",
        changes_results=False,  # its content does: Plan.options
    )
    bands: str = _scene_option(
        "same",
        "Require that all sources of a mosaic have the same bands, or use those they share.",
        choices=BANDS,
    )
    resample_bands: bool = _scene_option(
        False, "Interpolate all sources of a mosaic to the band centres of the first one."
    )
    resample: str | None = _scene_option(
        None,
        "Bring a rotated or mirrored scene to a north-up grid of the same pixel size, and the "
        "sources of a mosaic to the grid of the first; each pixel takes the values of the nearest.",
        choices=RESAMPLING,
        default_text="refuse it",
    )

    def __post_init__(self) -> None:
        """Parse every option, and refuse what cannot be used."""
        problems = []
        for name, entry in options_of(type(self)).items():
            value = getattr(self, name)
            if value is None and entry.default is None:
                continue
            try:
                clean = entry.parse(value)
                low, high = entry.limits
                if isinstance(clean, int) and not low <= clean <= high:
                    need = f"{low} to {high} are possible" if high < math.inf else f"at least {low}"
                    raise ValueError(need)
            except (TypeError, ValueError, OverflowError) as error:
                problems.append(f"{name} = {value!r}: {error}")
                clean = entry.default
            object.__setattr__(self, name, clean)
        if problems := problems + self._find_problems():
            raise ConfigError("; ".join(problems), "See hyperhpc run --help")

    def as_words(self) -> list[str]:
        """The options that differ from their defaults, as words of a command line."""
        words = []
        for name, entry in options_of(SceneOptions).items():
            value = getattr(self, name)
            flag = entry.flag or f"--{name.replace('_', '-')}"
            if value in (entry.default, None):
                continue
            if value is True:
                words.append(flag)
            elif entry.is_repeatable:
                words += [f"{flag}={one!r}" for one in value]
            else:
                words.append(f"{flag}={','.join(value) if isinstance(value, tuple) else value}")
        return words

    def _find_problems(self) -> list[str]:
        """What is wrong with options together."""
        return []


@dataclass(frozen=True, kw_only=True)
class RunConfig(SceneOptions):
    """All options of a run, which ``options_of(RunConfig)`` describes; ``out`` is its folder.

    Raises ConfigError: naming every problem found, not only the first.
    """

    scene: Path
    out: Path
    bbox: tuple[float, float, float, float] | None = _first_option(
        None,
        "Analyse only this rectangle, given in the scene's CRS.",
        parsers.parse_numbers(4),
        default_text="the whole scene",
        metavar="XMIN,YMIN,XMAX,YMAX",
    )
    drop: tuple[tuple[float, float], ...] | str | None = option(
        None,
        "Leave out the bands from LO to HI nm; repeat it for several windows. The word auto leaves "
        "out what the default does, and the bands with most noise.",
        parsers.parse_drop,
        default_text="water vapour and the noisy ends",
        metavar="LO-HI",
        is_repeatable=True,
    )
    clusters: int = _first_option(
        8,
        f"Group the pixels into this number of clusters (1 to {MAX_CLUSTERS}).",
        limits=(1, MAX_CLUSTERS),
    )
    where: tuple[str, ...] = option(
        (),
        "Cluster only the pixels where this holds, such as 'NDVI > 0.2 and R(860) > 0.05'; the "
        "others get their indices, and the label 254. Repeat it: all must hold.",
        parsers.parse_texts,
        metavar="CONDITION",
        default_text="all valid pixels",
        is_repeatable=True,
    )
    stride: int | None = option(
        None,
        "Fit the models to every n-th row and column of pixels; all pixels get a cluster.",
        limits=(1, math.inf),
        default_text=f"{STRIDE}, less where that leaves fewer than {ENOUGH_PIXELS} pixels",
    )
    models: tuple[str, ...] = option(
        MODELS, "Fit these k-means models, with commas between.", choices=MODELS
    )
    indices: tuple[str, ...] = _first_option(
        ("all",),
        "Compute these spectral indices, such as ndvi,cai with commas between.",
        parsers.parse_words,
        metavar="NAME,...",
    )
    formula: Mapping[str, str] = option(
        {},
        "Compute your own index too, such as g=R(550)/R(670): R(nm) is reflectance (0-1), "
        "R(540,560) the mean between two wavelengths. Repeat it for several.",
        parsers.parse_formulas,
        metavar="NAME=EXPR",
        is_repeatable=True,
        former_names=("index",),
        stored_as="index",
    )
    index_bits: int = option(
        INDEX_BITS,
        f"Keep this number of bits (1 to {INDEX_BITS}) of an index's fraction; "
        "11 make maps a third smaller.",
        limits=(1, INDEX_BITS),
    )
    points: tuple[tuple[float, float], ...] = _first_option(
        (),
        "Take the spectrum at this point, in the scene's CRS or in --point-crs; repeat it for "
        "several points.",
        parsers.parse_list(parsers.parse_numbers(2)),
        metavar="X,Y",
        flag="--point",
        is_repeatable=True,
    )
    points_file: Path | None = _first_option(
        None,
        "Take the spectra at the points of this file too: CSV with columns x,y or "
        "easting,northing or lon,lat; GeoPackage, Shapefile, GeoJSON, FlatGeobuf, KML.",
        parsers.parse_path,
        flag="--points",
    )
    point_crs: str | None = _first_option(
        None,
        "Read the coordinates of --point, and of a CSV file, in this CRS; degrees are longitude, "
        "latitude.",
        parsers.parse_text,
        metavar="EPSG:CODE",
        default_text="that of the scene; degrees for columns lon,lat",
    )
    seed: int = option(0, "Start all random choices from this number.", limits=(0, MAX_SEED))
    engine: str = option(
        "hyperhpc",
        "Fit the models with hyperhpc's exact code, or with dask-ml for comparison.",
        choices=("hyperhpc", "dask-ml"),
    )
    estimator: str | None = option(
        None,
        "Fit this model of scikit-learn too, such as sklearn.cluster:Birch.",
        parsers.parse_text,
        metavar="MODULE:CLASS",
    )
    seed_compat: bool = option(False, "Choose bands and formulas as the original tutorial did.")
    apply_model: Path | None = option(
        None,
        "Apply OUT/model.json of another run instead of fitting models.",
        parsers.parse_path,
        former_names=("model",),
        stored_as="model",
    )
    unmix: Path | None = option(
        None,
        "Compute the fraction of each endmember of this table in each pixel, by fully constrained "
        "least squares; hyperhpc endmembers makes such tables.",
        parsers.parse_path,
    )
    unmix_by: str = option(
        "reflectance",
        "Unmix reflectance as it is, or only the shape of spectra, so that shade and slope do not "
        "count.",
        choices=("reflectance", SHAPE),
        changes_results=False,  # only with --unmix: Plan.options
    )
    skip_bad_tiles: bool = option(
        False, "Treat tiles that cannot be read as no-data instead of stopping."
    )
    workers: int | None = _worker_option(
        None,
        "Start this number of worker processes.",
        default_text="as many as fit the machine; one for a small scene",
        limits=(1, math.inf),
    )
    threads_per_worker: int = _worker_option(
        1, "Run this number of threads in each worker process.", limits=(1, math.inf)
    )
    memory_per_worker: str = _first_option(
        "4GiB",
        "Let each worker process use this much memory, such as 512MiB or 2GiB.",
        parsers.parse_amount,
        metavar="SIZE",
        changes_results=False,
    )
    launcher: str = _worker_option(
        "local",
        "Run the workers on this machine (local), in this Slurm job (gang), in Slurm jobs of "
        "their own (elastic), or in a Dask cluster that you started (external).",
        choices=("local", "gang", "elastic", "external"),
        former_choices={"scheduler": "external"},
    )
    address: str | None = _worker_option(
        None,
        "Connect to the Dask scheduler at this address, with --launcher external.",
        parsers.parse_text,
        metavar="tls://HOST:PORT",
    )
    interface: str | None = _worker_option(
        None,
        "Connect the nodes over this network interface, such as ib0.",
        parsers.parse_text,
        default_text="found automatically",
        metavar="NAME",
    )
    insecure: bool = _worker_option(
        False, "Switch off encryption (TLS): whoever reaches the ports can run programs as you."
    )
    dashboard: bool = _worker_option(
        False, "Open Dask's dashboard on the loopback address, and print its secret link."
    )
    restart: bool = option(
        False,
        "Rename what an earlier call has written, and start from the beginning.",
        section="General",
        changes_results=False,
    )

    figures: str = option(
        "page",
        "Draw the figures that the report shows, or also a map of each index by itself with its "
        "histogram (all).",
        choices=FIGURES,
        section="General",
        changes_results=False,
    )

    cluster_colors: str = option(
        "palette",
        "Give clusters the colours of a palette by their numbers, or colours by their mean spectra "
        "(spectral): water blue, vegetation green, soil brown, all else grey, brighter where "
        "the cluster is.",
        choices=CLUSTER_COLORS,
        section="General",
        changes_results=False,
    )

    def result_options(self) -> dict[str, Any]:
        """The options that change results, as plain JSON values, as plan.json holds them."""
        return {
            entry.stored_as or name: _to_json(getattr(self, name))
            for name, entry in options_of(type(self)).items()
            if entry.changes_results
        }

    @property
    def scene_options(self) -> SceneOptions:
        """The options that say how the scene is read."""
        return SceneOptions(**{name: getattr(self, name) for name in options_of(SceneOptions)})

    @property
    def memory_bytes(self) -> int:
        """``memory_per_worker`` in bytes."""
        return parse_memory(self.memory_per_worker)

    def _find_problems(self) -> list[str]:
        problems = []
        if len(set(self.models)) < len(self.models):
            problems.append(f"models = {','.join(self.models)}: name each model once")
        if not self.models and not self.estimator:
            problems.append("models is empty: give --models or --estimator")
        if self.apply_model and self.estimator:
            problems.append(
                "apply_model and estimator: give one of them, as an applied model is not fitted"
            )
        problems += [
            f"formula = {name}: this word names maps of a run; take another one"
            for name in self.formula
            if name.lower() in RESERVED_NAMES
        ]
        if self.unmix_by == SHAPE and not self.unmix:
            problems.append("unmix_by = 'shape' needs a table of endmembers: give --unmix FILE")
        if self.estimator and not re.fullmatch(r"[\w.]+:\w+", self.estimator):
            problems.append(f"estimator = {self.estimator!r}: write module:Class")
        problems += [
            f"drop {low:g}-{high:g}: the first must not be larger"
            for low, high in (() if isinstance(self.drop, str) else self.drop or ())
            if low > high
        ]
        problems += [
            f"points {x:g},{y:g}: both numbers must be finite"
            for x, y in self.points
            if not (math.isfinite(x) and math.isfinite(y))
        ]
        return problems + self._find_launcher_problems()

    def _find_launcher_problems(self) -> list[str]:
        problems = []
        address = self.address or ""
        if self.launcher == "external" and not address:
            problems.append("launcher = 'external' needs --address tls://HOST:PORT")
        if address and self.launcher != "external":
            problems.append("address: give it only with --launcher external")
        if address and not re.fullmatch(r"(tls|tcp)://\S+:\d+", address):
            problems.append(f"address = {address!r}: write tls://HOST:PORT")
        elif address.startswith("tcp://") and not self.insecure:
            problems.append(
                f"address = {address!r}: whoever reaches an unencrypted port runs programs as "
                "you; --insecure allows it"
            )
        if self.launcher == "local" and (self.insecure or self.interface):
            problems.append("insecure and interface: a local run has no network")
        return problems


OPTIONS = options_of(RunConfig)
_MAX_TOML_BYTES = 2**20
_FORMER_NAMES = {old: name for name, entry in OPTIONS.items() for old in entry.former_names}
#: Key in plan.json and run.json to name of the option, where they differ.
_STORED = {entry.stored_as: name for name, entry in OPTIONS.items() if entry.stored_as}


def present_name(stored: str) -> str:
    """Name of the option that plan.json and run.json keep under a key."""
    return _STORED.get(stored, stored)


def option_parameters() -> list[Parameter]:
    """The options as keyword parameters, for the signature of ``hyperhpc.run``."""
    types = {field.name: field.type for field in dataclasses.fields(RunConfig)}
    return [
        Parameter(name, Parameter.KEYWORD_ONLY, default=entry.default, annotation=types[name])
        for name, entry in OPTIONS.items()
    ]


def load_config(
    scene: str | Path, out: str | Path, flags: Mapping[str, Any], file: str | Path | None = None
) -> RunConfig:
    """Merge flags over a TOML file over defaults, and check everything.

    ``flags``: Name of the option to value; None means not given.
    ``file``: TOML file whose keys are the names of options.

    Raises ConfigError: naming every problem found, not only the first.
    """
    problems: list[str] = []
    values = _rename(_read_toml(Path(file)), problems) if file else {}
    given = {name: value for name, value in flags.items() if value is not None}
    values |= _rename(given, problems)
    unknown = [name for name in values if name not in OPTIONS]
    problems += [f"{name!r} is not an option" for name in unknown]
    hint = f"The options are {' '.join(sorted(OPTIONS))}" if unknown else "See hyperhpc run --help"
    known = {name: value for name, value in values.items() if name in OPTIONS}
    try:
        config = RunConfig(scene=Path(scene), out=Path(out), **known)
    except ConfigError as error:
        problems.append(error.message)
    if problems:
        raise ConfigError("; ".join(problems), hint)
    return config


def _rename(values: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """Use the present names of options that were renamed."""
    for old, new in _FORMER_NAMES.items():
        if old in values and new in values:
            problems.append(f"{old} is the former name of {new}: give {new} only")
    return {_FORMER_NAMES.get(name, name): value for name, value in values.items()}


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_file(file, _MAX_TOML_BYTES).decode("utf-8"))
    except OSError as error:
        raise unreadable(file, error) from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, nested too deep
        raise ConfigError(
            f"{file} is not valid TOML: {error}",
            "Write lines such as clusters = 8, with the names of the options of run",
        ) from None


def _to_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, Mapping):  # a list: the order is that of the results
        return [f"{name}={text}" for name, text in value.items()]
    if isinstance(value, float) and math.isinf(value):
        return str(value)  # JSON has no infinity
    return value

"""Variables and settings files of a user: they change no result and break no run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from attack import REFUSED, Attack, Case
from world import COMMANDS

#: Values that have a meaning for the program that reads the variable, and some that have none.
_SWITCH = ("", "0", "1", "true", "false", "none", "-1", "garbage", "1e400")
_VARIABLES: dict[str, tuple[str | None, ...]] = {
    # Zarr and Dask
    "ZARR_ARRAY__ORDER": ("F", "C", "X"),
    "ZARR_ARRAY__WRITE_EMPTY_CHUNKS": _SWITCH,
    "ZARR_DEFAULT_ZARR_FORMAT": ("2", "3", "9"),
    "ZARR_ASYNC__CONCURRENCY": ("1", "0", "x"),
    "ZARR_THREADING__MAX_WORKERS": ("1", "0", "x"),
    "ZARR_CODEC_PIPELINE__BATCH_SIZE": ("1", "0", "x"),
    "DASK_SCHEDULER": ("processes", "synchronous", "garbage"),
    "DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT": ("1s", "1ms", "x"),
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": ("1ms", "x"),
    "DASK_DISTRIBUTED__COMM__COMPRESSION": ("zlib", "x"),
    "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": ("0.001", "x"),
    "DASK_TEMPORARY_DIRECTORY": ("/nonexistent", "/dev/null"),
    "DASK_ARRAY__CHUNK_SIZE": ("1", "0", "x"),
    "DASK_CONFIG": ("/nonexistent", "/dev/null"),
    # GDAL and PROJ
    "GDAL_DATA": ("/nonexistent",),
    "GDAL_DRIVER_PATH": ("/nonexistent",),
    "GDAL_SKIP": ("GTiff", "ENVI", "VRT"),
    "GDAL_NUM_THREADS": ("0", "ALL_CPUS", "x"),
    "GDAL_CACHEMAX": ("0", "1", "-5", "x"),
    "GDAL_DISABLE_READDIR_ON_OPEN": ("TRUE", "EMPTY_DIR"),
    "GDAL_TIFF_INTERNAL_MASK": ("YES", "NO"),
    "GDAL_PAM_ENABLED": ("YES", "NO"),
    "GTIFF_FORCE_RGBA": ("YES",),
    "COMPRESS_OVERVIEW": ("JPEG", "x"),
    "CPL_DEBUG": ("ON",),
    "CPL_LOG": ("/dev/null",),
    "OGR_CT_FORCE_TRADITIONAL_GIS_ORDER": ("YES", "NO"),
    "OGR_GEOJSON_MAX_OBJ_SIZE": ("0", "x"),
    "PROJ_LIB": ("/nonexistent",),
    "PROJ_DATA": ("/nonexistent",),
    "PROJ_NETWORK": ("ON",),
    # HDF5
    "HDF5_USE_FILE_LOCKING": ("TRUE", "FALSE", "BEST_EFFORT", "x"),
    "HDF5_PLUGIN_PATH": ("/nonexistent",),
    "HDF5_DRIVER": ("core", "x"),
    # matplotlib and Bokeh
    "MPLBACKEND": ("garbage", "TkAgg", "module://nothing"),
    "MATPLOTLIBRC": ("/nonexistent", "/dev/null"),
    "MPLCONFIGDIR": ("/nonexistent/x", "/dev/null"),
    "BOKEH_RESOURCES": ("cdn", "x"),
    "BOKEH_LOG_LEVEL": ("trace", "x"),
    # Python and its packages
    "PYTHONHASHSEED": ("0", "7", "random"),
    "PYTHONWARNINGS": ("ignore", "default", "garbage"),
    "PYTHONOPTIMIZE": ("1", "2"),
    "PYTHONUTF8": ("0", "1"),
    "PYTHONIOENCODING": ("ascii", "utf-8:replace"),
    "PYTHONUNBUFFERED": ("1",),
    "PYTHONDONTWRITEBYTECODE": ("1",),
    "PYTHONMALLOC": ("debug", "malloc"),
    "PYTHONFAULTHANDLER": ("1",),
    "PYTHONBREAKPOINT": ("garbage",),
    "PYTHONSTARTUP": ("/nonexistent",),
    "OMP_NUM_THREADS": ("1", "0", "-3", "x", "1000"),
    "OPENBLAS_NUM_THREADS": ("1", "0", "x"),
    "MKL_NUM_THREADS": ("1", "x"),
    "NUMBA_NUM_THREADS": ("1", "x"),
    "BLOSC_NTHREADS": ("1", "0", "x"),
    "LOKY_MAX_CPU_COUNT": ("1", "x"),
    "NPY_DISABLE_CPU_FEATURES": ("AVX2",),
    # the system
    "LANG": ("C", "de_DE.UTF-8", "x"),
    "LC_ALL": ("C", "tr_TR.UTF-8", "POSIX", "x", None),
    "LC_NUMERIC": ("de_DE.UTF-8",),
    "TZ": ("Asia/Kathmandu", "x", ":/dev/null"),
    "HOME": (None, "/nonexistent", "/dev/null", ""),
    "USER": (None, "", "a b"),
    "PATH": (None, "", "/nonexistent"),
    "XDG_CACHE_HOME": ("/nonexistent", "/dev/null", "relative"),
    "XDG_CONFIG_HOME": ("/nonexistent", "/dev/null", "relative"),
    "TERM": (None, "dumb", "x"),
    "COLUMNS": ("1", "0", "x", "100000"),
    "NO_COLOR": ("1",),
    "FORCE_COLOR": ("1",),
    "SHELL": (None, "/nonexistent"),
    # Slurm, as left over from another job
    "SLURM_JOB_ID": ("7", "x"),
    "SLURM_PROCID": ("0", "x"),
    "SLURM_NTASKS": ("1", "x"),
    "SLURM_RESTART_COUNT": ("3", "x"),
    "SLURM_CPUS_PER_TASK": ("1", "x"),
}

#: Settings files, where the programs look for them; nothing in them is ours.
_FILES = {
    "matplotlibrc": (
        "image.origin: lower\nimage.interpolation: bicubic\n", "text.usetex: True\n",
        "backend: garbage\n", "axes.prop_cycle: cycler('color', ['red'])\n", "\0\0\0",
        "figure.dpi: -1\n",
        "savefig.format: svg\nsavefig.transparent: True\nsavefig.bbox: tight\n",
    ),
    "dask.yaml": (
        "distributed:\n  scheduler:\n    idle-timeout: 1ms\n", "distributed: [1, 2\n",
        "a: &a [*a]\n",
        "distributed:\n  comm:\n    tls:\n      min-version: 1.9\n", "\0", "- 1\n- 2\n",
        "array: {slicing: x}\n",
        "distributed: !!python/object/apply:os.system ['touch pwned']\n",
        "temporary-directory: /nonexistent\n",
    ),
    "zarr.yaml": ("array:\n  order: F\n", "codecs: {bytes: os.system}\n", "[",
    "default_zarr_format: 2\n"),
}  # fmt: skip


def _draw_variables(rng: Random, folder: Path) -> Case:
    names = rng.sample(sorted(_VARIABLES), rng.choice((1, 1, 2, 4, 8)))
    environment = {name: rng.choice(_VARIABLES[name]) for name in names}
    words = COMMANDS[rng.choice(sorted(COMMANDS))]
    return Case(f"{words[0]} with {environment}", words, environment=environment, is_program=True)


def _draw_settings(rng: Random, folder: Path) -> Case:
    name = rng.choice(sorted(_FILES))
    text = rng.choice(_FILES[name])
    place = folder.with_name(f"{folder.name}.settings")
    (place / "dask").mkdir(parents=True)
    (place / "dask" / name).write_text(text)
    (place / "matplotlib").mkdir()
    (place / "matplotlib" / name).write_text(text)
    environment = {"DASK_CONFIG": str(place / "dask"), "XDG_CONFIG_HOME": str(place)}
    if name == "matplotlibrc":
        environment["MPLCONFIGDIR"] = str(place / "matplotlib")
        environment["MATPLOTLIBRC"] = str(place / "matplotlib" / name)
    words = COMMANDS[rng.choice(sorted(COMMANDS))]
    what = f"{words[0]} with {name}: {text!r}"
    return Case(what, words, environment=environment, is_program=True)


def rows() -> Iterator[Attack]:
    """This part of the table."""
    yield Attack("surroundings", "variables", frozenset({0}), _draw_variables)
    # a file that no program can parse may be refused, by its name
    yield Attack("surroundings", "settings files", frozenset({0}) | REFUSED, _draw_settings)

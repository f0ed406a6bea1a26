"""The part of run.json that is known before a run starts."""

from __future__ import annotations

from typing import Any

from hyperhpc.analysis.indices import describe_index
from hyperhpc.compute.endmembers import Endmembers
from hyperhpc.compute.fit.applied import TOLERANCE_NM
from hyperhpc.compute.selection import describe_bands
from hyperhpc.config import ENOUGH_PIXELS, INDEX_BITS, STRIDE
from hyperhpc.pipeline.context import RunContext
from hyperhpc.rundir.folder import describe_machine, read_versions
from hyperhpc.scene import describe
from hyperhpc.scene.georef import pixel_area_m2
from hyperhpc.scene.probe import describe_acquisition
from hyperhpc.schema import NOT_CLUSTERED
from hyperhpc.version import __version__


def run_header(ctx: RunContext, command: str) -> dict[str, Any]:
    """What was asked for, what the scene is, what was chosen, and on which machine."""
    config, scene, area = ctx.config, ctx.scene, ctx.plan.area
    bands = describe_bands(scene, ctx.selection)
    return {
        "hyperhpc": __version__,
        "command": command,
        "scene": {"path": str(config.scene), **describe(scene)}
        | {"n_good_bands": len(ctx.selection.bands)}
        | {"acquisition": describe_acquisition(scene)},
        "area": {
            "bounds": scene.grid.bounds((area.row0, area.row1), (area.col0, area.col1)),
            "shape": list(area.shape),
            "row0": area.row0,
            "col0": area.col0,
            "pixel_area_m2": pixel_area_m2(scene.grid),
        },
        "options": describe_options(ctx),
        "cluster_colors": config.cluster_colors,
        "applied_model": ctx.applied
        and {"path": str(config.apply_model), "sha256": ctx.applied.digest},
        "bands": bands,
        "indices": {
            "computed": [
                describe_index(bound, scene.wavelength_nm, ctx.selection.windows_nm)
                for bound in ctx.indices
            ],
            "skipped": [{"name": name, "why": why} for name, why in ctx.skipped.items()],
        },
        "pixels": {"total": ctx.n_pixels},
        "tiles": {"shape": list(ctx.plan.tile_shape), "transposed": ctx.plan.is_transposed},
        "machine": describe_machine(),
        "workers": {
            "launcher": config.launcher,
            "threads_per_worker": config.threads_per_worker,
            "memory_per_worker": config.memory_per_worker,
        },
        "versions": read_versions(),
        "choices": describe_choices(ctx),
    }


def describe_options(ctx: RunContext) -> dict[str, Any]:
    """The options that change results, with what was chosen where they say nothing."""
    windows = describe_bands(ctx.scene, ctx.selection)["dropped_windows_nm"]
    return ctx.config.result_options() | {"stride": ctx.stride, "drop_windows_nm": windows}


def describe_choices(ctx: RunContext) -> list[str]:
    """Sentences on what was decided, for the report."""
    scene, selection, config = ctx.scene, ctx.selection, ctx.config
    choices = list(scene.notes)
    if ctx.applied:
        choices.append(
            f"The model {config.apply_model} (SHA-256 {ctx.applied.digest[:12]}) was applied: "
            f"its {len(selection.bands)} bands were matched within {TOLERANCE_NM} nm; "
            "numbers and spectra of its clusters are those of the scene it was fitted to."
        )
    elif config.seed_compat:
        choices.append(
            "The tutorial's choices were reproduced: its 358 bands by position, and "
            "its NDLI with the sign of its denominator."
        )
    else:
        windows = ", ".join(
            f"{lo:g}-{hi:g} nm" if hi != float("inf") else f"from {lo:g} nm"
            for lo, hi in selection.windows_nm
        )
        n_bad = len(scene.bad_bands)
        flagged = f", and {n_bad} that are flagged as bad," if n_bad else ""
        why = "since water vapour absorbs the light in the windows, and noise outweighs it at "
        why += "the ends of the range"
        if config.drop is not None:
            why = "as --drop asks"
        choices.append(
            f"Bands in {windows}{flagged} were left out of validity and clustering, "
            f"{why}: {len(selection.bands)} of {scene.shape[2]} remain."
        )
    choices.append(
        "A pixel is no-data if a remaining band holds "
        + " or ".join(f"{value:g}" for value in scene.nodata)
        + "; it has no index and no cluster, since that number is no reflectance."
        if scene.nodata
        else "Pixels are no-data only where a remaining band is not a finite number."
    )
    if len(ctx.conditions):
        choices.append(
            f"Only pixels where {' and '.join(f'({text})' for text in ctx.conditions.texts)} are "
            "clustered, as --where asks: the models see no other pixel, and all others with data "
            f"have the label {NOT_CLUSTERED}. Shares of clusters are shares of the clustered "
            "pixels; indices are those of all pixels."
        )
    if config.index_bits < INDEX_BITS:
        choices.append(
            f"Index values are rounded to {config.index_bits} bits of their fraction, as "
            f"--index-bits asks: they are off by {2.0 ** -(config.index_bits + 1):.1g} of "
            "themselves at most."
        )
    if ctx.endmembers:
        choices.append(_describe_unmixing(ctx.endmembers))
    if ctx.applied:
        return choices
    which = "clustered" if len(ctx.conditions) else "valid"
    choices.append(
        f"Models were fitted to the {which} pixels of {say_every(ctx.stride)} row and column"
        f"{_why_less(ctx)}, scaled to zero mean and unit standard deviation per band, so that "
        "bright bands do not outweigh dark ones."
    )
    choices.append(
        "Clusters of the first model are numbered by ascending mean near-infrared reflectance. A "
        "cluster of another model has the number of the one with which it shares most pixels, so "
        "that a number and its colour mean the same in all maps."
    )
    return choices


def _describe_unmixing(endmembers: Endmembers) -> str:
    """How fractions are computed."""
    mixed = "to reflectance as it is, so that shade counts as the darkest of them"
    if endmembers.is_by_shape:
        mixed = "to the shape of spectra: all have one peak, and brightness does not count"
    return (
        f"Fractions of the {len(endmembers.names)} endmembers of {endmembers.path} (SHA-256 "
        f"{endmembers.digest[:12]}) were fitted {mixed}; they are not negative and sum to one."
    )


def _why_less(ctx: RunContext) -> str:
    """Why the stride is smaller than usual."""
    if ctx.plan.options.get("stride") is not None or ctx.stride == STRIDE:
        return ""
    return f" (those of {say_every(STRIDE)} are fewer than {ENOUGH_PIXELS:,})"


def say_every(stride: int) -> str:
    """``every``, ``every second``, ``every 4th``."""
    if stride <= 3:
        return ("every", "every second", "every third")[stride - 1]
    ending = {1: "st", 2: "nd", 3: "rd"}.get(stride % 10, "th")
    return f"every {stride}{'th' if stride % 100 in (11, 12, 13) else ending}"

"""The number of clusters for a scene, tried on a sample: ``hyperhpc choose-k``."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis import agreement
from hyperhpc.analysis.kernel import Scorer, label_pixels
from hyperhpc.analysis.kmeans import Fit, fit_scaler, measure_moments
from hyperhpc.analysis.starts import fit_start, merge_bands
from hyperhpc.compute.fit.fitting import FEWEST_PER_CLUSTER
from hyperhpc.compute.fit.starts import MAX_COARSE_PIXELS, Subsample, write_subsample
from hyperhpc.config import RunConfig
from hyperhpc.errors import ConfigError
from hyperhpc.files import atomic_outputs, check_absent
from hyperhpc.rundir.progress import Progress
from hyperhpc.scene.cube import THINNED_STEP
from hyperhpc.scratch import scratch_folder
from hyperhpc.tools.csv_table import write_table
from hyperhpc.tools.sampled import SampledScene, open_sampled, read_sample

#: Fits of each k: of all pixels from different seeds, and of random subsamples of this share.
N_SEEDS, N_SUBSAMPLES, SUBSAMPLE_SHARE = 5, 5, 0.8
#: Pixels of the silhouette, which needs all distances between them.
SILHOUETTE_PIXELS = 2000
#: Measured on one core: pixels read per second, and values (pixel x band x cluster) of a
#: pass of a fit per second.
_READ_RATE, _FIT_RATE = 1.0e6, 1.2e9
#: Passes over the pixels that a fit takes, about.
_PASSES = 25
#: Memory of Python and its libraries.
_BASE_BYTES = 250 * 2**20


@dataclass(frozen=True)
class Trial(SampledScene):
    """What will be fitted, known before a pixel is read: numbers of clusters, ascending."""

    ks: Sequence[int]

    @property
    def n_pixels(self) -> int:
        """Upper bound of the number of pixels that are fitted."""
        sampled = math.prod(-(-side // self.stride) for side in self.plan.area.shape)
        return min(MAX_COARSE_PIXELS, sampled)

    def describe_cost(self) -> str:
        """Pixels, memory and time, in a sentence."""
        rows, cols = self.plan.area.shape
        n_read = rows * cols
        if self.scene.thinned is not None and self.stride % THINNED_STEP == 0:
            n_read //= THINNED_STEP**2
        values = self.n_pixels * len(self.bands)
        n_fits = N_SEEDS + N_SUBSAMPLES * SUBSAMPLE_SHARE
        fits = n_fits * sum(self.ks) * values * _PASSES / _FIT_RATE
        seconds = 3 + n_read / _READ_RATE + fits
        nbytes = _BASE_BYTES + values * (2 * np.dtype(self.scene.dtype).itemsize + 24)
        return (
            f"{N_SEEDS + N_SUBSAMPLES} fits of each k to at most {self.n_pixels} pixels of "
            f"{rows} x {cols}, taken {self.stride} apart; about {nbytes / 1e6:.0f} MB of memory "
            f"and {max(1, round(seconds / 60))} min"
        )


#: Files of :func:`save_choice`: table, figure, facts.
_NAMES = ("choose-k.csv", "choose-k.png", "choose-k.json")


def check_choice_folder(folder: Path) -> None:
    """Refuse a folder that :func:`save_choice` could not write to, before anything is read.

    Raises ConfigError: it is a file, or holds one of the files already.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise ConfigError(f"--out {folder} is not a folder", "Name a folder")
    *extra_names, name = _NAMES
    check_absent(folder / name, extra_names)


def prepare_trial(config: RunConfig, ks: Sequence[int]) -> Trial:
    """Open the scene and choose the pixels; ``ks`` are ascending, and at least 2.

    Raises ConfigError, SceneError, ResourceError: as for a run with these options; or the scene
    is stored band by band.
    """
    o = open_sampled(config, MAX_COARSE_PIXELS)
    return Trial(o.config, o.scene, o.bands, o.conditions, o.plan, o.stride, ks)


def choose_k(trial: Trial, progress: Progress) -> dict[str, Any]:
    """Fit each number of clusters, as in a run, and score it.

    It is fitted to the same pixels from several seeds, and to several random subsamples of them.

    Returns: the keys of ``hyperhpc choose-k --json``.
    Raises ConfigError: there are too few valid pixels.
    """
    dn = _read_sample(trial, progress)
    if len(dn) < max(trial.ks) * FEWEST_PER_CLUSTER:
        which = " that meet --where" if len(trial.conditions) else ""
        raise ConfigError(
            f"{len(dn)} valid sampled pixels{which} are too few for {max(trial.ks)} clusters, "
            f"which need {max(trial.ks) * FEWEST_PER_CLUSTER}: {FEWEST_PER_CLUSTER} per cluster",
            "Give a larger area or smaller numbers",
        )
    config, is_integer = trial.config, np.issubdtype(dn.dtype, np.integer)
    reference = np.zeros(dn.shape[1]) if is_integer else dn[0].astype(np.float64)
    moments = measure_moments(dn, reference)
    scaler = fit_scaler(moments, reference, trial.scene.scale_factor, is_integer=is_integer)
    squares = measure_moments(dn, scaler.offset).squares.astype(np.float64)
    scaled, merged = scaler.transform(dn), merge_bands(dn, scaler)
    total = float((scaled**2).sum())
    picks = draw_subsamples(len(dn), config.seed)
    few = np.linspace(0, len(dn) - 1, min(SILHOUETTE_PIXELS, len(dn))).astype(int)
    judged = []

    def label(fit: Fit) -> np.ndarray:
        return label_pixels(dn, [Scorer(fit.centres, scaler)])[0]

    with progress.stage("fitting", len(trial.ks) * (N_SEEDS + N_SUBSAMPLES), "fits"):
        for k in trial.ks:
            fits = []
            for n in range(N_SEEDS):  # random numbers as for the starts of a run
                rng = np.random.default_rng([config.seed, 2, n])
                fits.append(fit_start(dn, merged, k, scaler, squares, rng))
                progress.advance(1)
            labels = [label(fit) for fit in fits]
            resampled = []
            for n, pick in enumerate(picks):
                rng = np.random.default_rng([config.seed, 2, n])
                part = dn[pick]
                own = measure_moments(part, scaler.offset).squares.astype(np.float64)
                fit = fit_start(part, merged[pick], k, scaler, own, rng)
                resampled.append(label(fit))
                progress.advance(1)
            best = min(range(N_SEEDS), key=lambda i: fits[i].inertia)
            inertia = fits[best].inertia
            silhouette, davies_bouldin = agreement.score_clustering(scaled, labels[best], few)
            unexplained = inertia / total if total else 0.0
            stabilities = (
                agreement.measure_seed_stability(labels, k),
                agreement.measure_resampling_stability(resampled, picks),
            )
            scores = (unexplained, silhouette, davies_bouldin, *stabilities)
            judged.append(agreement.ClusterScores(k, inertia, *scores))
    k, reason = agreement.recommend_k(judged)
    return {
        "scene": trial.scene.path,
        "shape": list(trial.plan.area.shape),
        "stride": trial.stride,
        "pixels": len(dn),
        "silhouette_pixels": len(few),
        "bands": len(trial.bands),
        "seeds": N_SEEDS,
        "subsamples": N_SUBSAMPLES,
        "subsample_share": SUBSAMPLE_SHARE,
        "table": [asdict(entry) for entry in judged],
        "elbow": agreement.find_elbow(judged),
        "recommended": k,
        "reason": reason,
    }


def draw_subsamples(n_pixels: int, seed: int) -> list[np.ndarray]:
    """Positions (ascending) of the pixels of each random subsample: always the same ones."""
    size = math.ceil(n_pixels * SUBSAMPLE_SHARE)
    return [
        np.sort(np.random.default_rng([seed, 3, n]).choice(n_pixels, size, replace=False))
        for n in range(N_SUBSAMPLES)
    ]


def _read_sample(trial: Trial, progress: Progress) -> np.ndarray:
    """Digital numbers (pixel, good band) of valid pixels, sampled as in a run."""
    with scratch_folder() as scratch:
        work = Path(scratch)
        sample = read_sample(trial, work, progress)
        subsample = Subsample.at(work)
        write_subsample(sample, trial.config.seed, subsample)
        return np.load(subsample.coarse)


def save_choice(found: dict[str, Any], folder: Path) -> list[Path]:
    """Write the table as CSV, its figure, and all results as JSON into a folder.

    Raises ConfigError: one of the files exists already; ResourceError: they cannot be written.
    """
    from hyperhpc.report.plots.comparison import choice_figure
    from hyperhpc.tools.inspect import save_figure

    table, figure, facts = _NAMES
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_outputs(folder / facts, (table, figure)) as part:
        rows = [list(row.values()) for row in found["table"]]
        write_table(part / table, list(found["table"][0]), rows)
        save_figure(choice_figure(found), part / figure)
        (part / facts).write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return [folder / name for name in _NAMES]

"""run.json: what was asked, chosen and found, and what it took."""

from __future__ import annotations

import resource
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hyperhpc.analysis.indices import describe_index
from hyperhpc.compute.applied import TOLERANCE_NM
from hyperhpc.compute.selection import describe_bands
from hyperhpc.compute.tiles import describe_bad_tiles
from hyperhpc.config import INDEX_BITS
from hyperhpc.rundir.folder import describe_machine, read_json, read_versions, write_json
from hyperhpc.scene import describe
from hyperhpc.scene.georef import pixel_area_m2
from hyperhpc.version import __version__

if TYPE_CHECKING:
    from hyperhpc.pipeline.runner import Run
    from hyperhpc.workers import Workers


class Journal:
    """Keeps run.json up to date; timings of a continued run add up."""

    def __init__(self, run: Run, command: str) -> None:
        self._run, self.command = run, command
        path = run.folder.run
        before = read_json(path) if path.is_file() else {}
        self._stages: dict[str, dict[str, Any]] = {
            s["name"]: s for s in before.get("stages", [])
        }
        self._memory: dict[str, float] = before.get("peak_memory_mib", {})
        self._pixels: dict[str, Any] = before.get("pixels", {})
        #: Tiles that could not be read and were left as no-data.
        self.bad_tiles: list[dict[str, Any]] = before.get("bad_tiles", [])
        self._warnings: list[str] = before.get("warnings", [])
        self._created = before.get("created") or datetime.now(UTC).isoformat(timespec="seconds")

    def add_stage(self, entry: dict[str, Any]) -> None:
        """Note a finished stage; seconds of an earlier call are added."""
        earlier = self._stages.get(entry["name"], {})
        seconds = round(entry["seconds"] + earlier.get("seconds", 0.0), 3)
        empty = {"bytes_read": 0, "bytes_written": 0, "tiles": 0, "tiles_resumed": 0}
        self._stages[entry["name"]] = {**empty, **entry, "seconds": seconds}
        self.write(complete=False)

    def note_memory(self, workers: Workers) -> None:
        """Peak resident memory of every process."""
        self._memory["client"] = _peak_mib()
        peaks = workers.client.run(_peak_mib, on_error="ignore")  # one may just be dying
        for number, peak in enumerate(peaks.values()):
            name = f"worker-{number}"
            self._memory[name] = max(peak, self._memory.get(name, 0.0))

    def note_pixels(self, records: dict[str, dict[str, Any]]) -> None:
        """Valid and no-data pixels of the whole area; missing values of each index."""
        valid = sum(r["valid"] for r in records.values())
        nodata = sum(r["nodata"] for r in records.values())
        names = [bound.index.name for bound in self._run.indices]
        missing = [sum(r["missing"][i] for r in records.values()) for i in range(len(names))]
        self._pixels = {
            "total": valid + nodata,
            "valid": valid,
            "nodata": nodata,
            "missing": dict(zip(names, missing, strict=True)),
        }

    def note_bad(self, bad: dict[str, str]) -> None:
        """Tiles that were left out, and why."""
        plan = self._run.plan
        for entry in describe_bad_tiles(plan.tiles(), plan.area, bad):
            if entry not in self.bad_tiles:
                self.bad_tiles.append(entry)
                self.warn(f"tile {entry['tile']} is left as no-data: {entry['why']}")

    def warn(self, text: str) -> None:
        """Tell the user now, and the reader of the report."""
        self._run.progress.note(f"warning: {text}")
        if text not in self._warnings:
            self._warnings.append(text)

    def finish(self) -> None:
        """The run is complete."""
        self._memory["client"] = max(_peak_mib(), self._memory.get("client", 0.0))
        self.write(complete=True)

    def write(self, *, complete: bool) -> None:
        """Write run.json."""
        write_json(self._run.folder.run, self._describe(complete))

    def _describe(self, complete: bool) -> dict[str, Any]:
        run = self._run
        scene, area, selection = run.scene, run.plan.area, run.selection
        return {
            "hyperhpc": __version__,
            "complete": complete,
            "command": self.command,
            "created": self._created,
            "scene": {"path": str(run.config.scene), **describe(scene)}
            | {"n_good_bands": len(selection.bands)},
            "area": {
                "bounds": scene.grid.bounds((area.row0, area.row1), (area.col0, area.col1)),
                "shape": list(area.shape),
                "row0": area.row0,
                "col0": area.col0,
                "pixel_area_m2": pixel_area_m2(scene.grid),
            },
            "options": run.config.result_options()
            | {"drop_windows_nm": describe_bands(scene, selection)["dropped_windows_nm"]},
            "applied_model": run.applied
            and {"path": str(run.config.apply_model), "sha256": run.applied.digest},
            "bands": describe_bands(scene, selection),
            "indices": {
                "computed": [
                    describe_index(bound, scene.wavelength_nm, selection.windows_nm)
                    for bound in run.indices
                ],
                "skipped": [{"name": name, "why": why} for name, why in run.skipped.items()],
            },
            "pixels": self._pixels or {"total": area.shape[0] * area.shape[1]},
            "tiles": {"shape": list(run.plan.tile_shape), "transposed": run.plan.is_transposed},
            "stages": list(self._stages.values()),
            "peak_memory_mib": self._memory,
            "machine": describe_machine(),
            "workers": {
                "launcher": run.config.launcher,
                "threads_per_worker": run.config.threads_per_worker,
                "memory_per_worker": run.config.memory_per_worker,
            },
            "versions": read_versions(),
            "choices": self._choices(),
            "bad_tiles": self.bad_tiles,
            "warnings": self._warnings,
        }

    def _choices(self) -> list[str]:
        """Sentences on what was decided, for the report."""
        run = self._run
        scene, selection, config = run.scene, run.selection, run.config
        choices = list(scene.notes)
        if run.applied:
            choices.append(
                f"The model {config.apply_model} (SHA-256 {run.applied.digest[:12]}) was "
                f"applied: its {len(selection.bands)} bands were matched within "
                f"{TOLERANCE_NM} nm; numbers and spectra of its clusters are those of the "
                "scene it was fitted to."
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
            flagged = f", and {n_bad} that the file flags as bad," if n_bad else ""
            why = (
                "as --drop asks"
                if config.drop is not None
                else "since water vapour absorbs the light in the windows, and noise outweighs "
                "it at the ends of the range"
            )
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
        if config.index_bits < INDEX_BITS:
            choices.append(
                f"Index values are rounded to {config.index_bits} bits of their fraction, as "
                f"--index-bits asks: they are off by {2.0 ** -(config.index_bits + 1):.1g} of "
                "themselves at most."
            )
        if run.applied:
            return choices
        choices.append(
            f"Models were fitted to the valid pixels of {_every(config.stride)} row and "
            "column, scaled to zero mean and unit standard deviation per band, so that "
            "bright bands do not outweigh dark ones."
        )
        choices.append(
            "Clusters are numbered by ascending mean near-infrared reflectance, so that a "
            "number and its colour mean the same from run to run."
        )
        return choices


def _every(stride: int) -> str:
    """``every``, ``every second``, ``every 4th``."""
    if stride <= 3:
        return ("every", "every second", "every third")[stride - 1]
    ending = {1: "st", 2: "nd", 3: "rd"}.get(stride % 10, "th")
    return f"every {stride}{'th' if stride % 100 in (11, 12, 13) else ending}"


def _peak_mib() -> float:
    """Peak resident memory of this process, MiB."""
    try:  # getrusage would count what the parent held when it started this process
        with open("/proc/self/status", encoding="ascii") as status:
            kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):  # not Linux
        kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(kib / 1024, 1)

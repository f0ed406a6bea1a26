"""run.json: the header of a run, and what its stages took and found."""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hyperhpc.sealed import DamagedJsonError, read_json, write_sealed
from hyperhpc.workers import Workers


class RunRecord:
    """Keeps run.json up to date; what an earlier call has recorded there is kept.

    ``header``: What is known before the run; it replaces that of an earlier call.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], note: Callable[[str], None]) -> None:
        before: dict[str, Any] = {}
        try:
            before = read_json(path) if path.is_file() else {}
        except DamagedJsonError:
            note(f"warning: {path} is damaged; what earlier calls have recorded there is lost")
        self._path, self._note = path, note
        self._stages: dict[str, dict[str, Any]] = {s["name"]: s for s in before.get("stages", [])}
        self._values: dict[str, Any] = {
            **header,
            "created": before.get("created") or datetime.now(UTC).isoformat(timespec="seconds"),
            "pixels": before.get("pixels") or header["pixels"],
            "peak_memory_mib": before.get("peak_memory_mib", {}),
            "bad_tiles": before.get("bad_tiles", []),
            "warnings": before.get("warnings", []),
            "band_quality": before.get("band_quality"),
        }

    @property
    def has_band_quality(self) -> bool:
        """Whether an earlier call has measured the bands."""
        return self._values["band_quality"] is not None

    def set_band_quality(self, facts: Mapping[str, Any]) -> None:
        """Record noise and signal (reflectance) of the good bands, and interpolated ranges, nm."""
        self._values["band_quality"] = dict(facts)

    def known_bad_tiles(self) -> dict[str, str]:
        """Tiles that are left as no-data, and why, as far as is known."""
        return {entry["tile"]: entry["why"] for entry in self._values["bad_tiles"]}

    def add_stage(self, entry: Mapping[str, Any]) -> None:
        """Record a finished stage; the seconds of earlier calls are added to its own."""
        earlier = self._stages.get(entry["name"], {})
        seconds = round(entry["seconds"] + earlier.get("seconds", 0.0), 3)
        empty = {"bytes_read": 0, "bytes_written": 0, "tiles": 0, "tiles_resumed": 0}
        self._stages[entry["name"]] = {**empty, **entry, "seconds": seconds}
        self.write()

    def revise(self, options: Mapping[str, Any], choices: Sequence[str]) -> None:
        """Record the options and choices as they are known once the sample was taken."""
        self._values |= {"options": dict(options), "choices": list(choices)}

    def set_pixels(self, counts: Mapping[str, Any]) -> None:
        """Record valid and no-data pixels of the area, and missing values of each index."""
        self._values["pixels"] = dict(counts)

    def set_unmixing(self, facts: Mapping[str, Any]) -> None:
        """Record the endmembers and their mean fractions; nothing without ``--unmix``."""
        if facts:
            self._values["unmixing"] = dict(facts)

    def note_index(self, name: str, text: str) -> None:
        """Say something on an index that the report shows at it."""
        for entry in self._values["indices"]["computed"]:
            if entry["name"] == name:
                entry["note"] = text

    def add_bad_tiles(self, entries: Sequence[dict[str, Any]]) -> None:
        """Record tiles that were left as no-data, and warn of each that is new."""
        for entry in entries:
            if entry not in self._values["bad_tiles"]:
                self._values["bad_tiles"].append(entry)
                self.warn(f"tile {entry['tile']} is left as no-data: {entry['why']}")

    def warn(self, text: str) -> None:
        """Warn the user now, and the reader of the report."""
        self._note(f"warning: {text}")
        if text not in self._values["warnings"]:
            self._values["warnings"].append(text)

    def measure_memory(self, workers: Workers) -> None:
        """Record the peak resident memory of this process and of each worker, MiB."""
        memory = self._values["peak_memory_mib"]
        memory["client"] = _peak_mib()
        peaks = workers.client.run(_peak_mib, on_error="ignore")  # one may just be dying
        for number, peak in enumerate(peaks.values()):
            name = f"worker-{number}"
            memory[name] = max(peak, memory.get(name, 0.0))

    def finish(self) -> None:
        """Record that the run is complete."""
        memory = self._values["peak_memory_mib"]
        memory["client"] = max(_peak_mib(), memory.get("client", 0.0))
        self.write(complete=True)

    def write(self, *, complete: bool = False) -> None:
        """Write run.json."""
        values = {"complete": complete, **self._values, "stages": list(self._stages.values())}
        write_sealed(self._path, values)


def _peak_mib() -> float:
    """Peak resident memory of this process, MiB."""
    try:  # getrusage would count what the parent held when it started this process
        with open("/proc/self/status", encoding="ascii") as status:
            kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):  # not Linux
        kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(kib / 1024, 1)

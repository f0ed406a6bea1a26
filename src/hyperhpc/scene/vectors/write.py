"""Writing layers of a GeoPackage."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

#: Version of GeoPackage that GDAL of Debian 12 and QGIS of that time read without a warning.
_VERSION = "1.3"


def write_layer(
    path: Path,
    layer: str,
    geometries: np.ndarray | None,
    fields: Mapping[str, np.ndarray],
    kind: str | None,
    crs: str | None,
    *,
    append: bool,
) -> None:
    """Write a layer of a GeoPackage, or add features to it; other layers stay.

    ``geometries``: Object array of shapely's geometries, None for one that is missing; None for a
        table without geometries.
    ``fields``: Values by name, one per feature; NaN and None are missing.
    ``kind``: Geometry type, such as ``Polygon``.
    ``crs``: WKT; None if it is not known.

    Raises OSError: GDAL cannot write it.
    """
    import pyogrio
    import shapely

    wkb = None if geometries is None else shapely.to_wkb(geometries)
    data = list(fields.values())
    masks = [
        np.array([value is None for value in column]) if column.dtype == object else None
        for column in data
    ]
    more: dict[str, Any] = {"geometry_type": kind, "crs": crs} if kind else {}
    if not path.exists():
        more["dataset_options"] = {"VERSION": _VERSION}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        try:
            pyogrio.raw.write(
                path, wkb, data, np.array(list(fields), dtype=object), field_mask=masks,
                layer=layer, driver="GPKG", append=append, **more,
            )  # fmt: skip
        except (pyogrio.errors.DataSourceError, RuntimeError) as error:
            raise OSError(" ".join(str(error).split()).rstrip(".")) from None

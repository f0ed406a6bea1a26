"""Vector files as people have them: which are read, and what is said of the others."""

from __future__ import annotations

import sqlite3
import struct
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pyproj
import pytest
import shapely

from hyperhpc.errors import ConfigError
from hyperhpc.scene.vectors import Features, read_features
from vector_case import geopackage, write_vectors

PLACES = [(517000.5, 4526000.25), (517010.0, 4526020.0), (517030.0, 4526001.0)]
POINTS = [shapely.Point(place) for place in PLACES]


def places(features: Features) -> list[tuple[float, float] | None]:
    return [None if g is None else (g.x, g.y) for g in features.geometries]


def refused(path: Path, layer: str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        read_features(path, "--points", layer)
    return f"{caught.value.message}. {caught.value.hint}"


@pytest.mark.parametrize("name", ["p.gpkg", "p.shp", "p.fgb", "p.geojson"])
def test_vectors__formats_give_the_same_points(tmp_path: Path, name: str) -> None:
    more = {"RFC7946": "NO"} if name.endswith("geojson") else {}
    features = read_features(write_vectors(tmp_path / name, POINTS, **more), "--points")
    found = dict(zip([row["plot"] for row in features.attributes], places(features), strict=True))
    assert found == dict(zip(["p1", "p2", "p3"], PLACES, strict=True))  # FlatGeobuf sorts
    assert pyproj.CRS(features.crs).to_epsg() == 32613


def test_vectors__kml_is_in_degrees(tmp_path: Path) -> None:
    path = write_vectors(
        tmp_path / "p.kml", [shapely.Point(-105.5, 40.1)], crs="EPSG:4326", driver="KML"
    )
    features = read_features(path, "--points")
    assert (places(features), features.crs) == ([(-105.5, 40.1)], "EPSG:4326")


def test_vectors__a_zipped_shapefile_may_be_in_a_folder(tmp_path: Path) -> None:
    write_vectors(tmp_path / "plots ü.shp", POINTS)
    write_vectors(tmp_path / "other.shp", POINTS[:1])
    for names, archive in ((["plots ü"], "one.zip"), (["plots ü", "other"], "two.zip")):
        with zipfile.ZipFile(tmp_path / archive, "w") as file:
            for member in sorted(tmp_path.glob("*.*")):
                if member.stem in names:
                    file.write(member, f"from the field/{member.name}")
    assert places(read_features(tmp_path / "one.zip", "--points")) == PLACES
    assert "its layers are" in refused(tmp_path / "two.zip")
    assert places(read_features(tmp_path / "two.zip", "--points", "other")) == PLACES[:1]


def test_vectors__a_shapefile_lacks_its_other_files(tmp_path: Path) -> None:
    path = write_vectors(tmp_path / "p.shp", POINTS)
    path.with_suffix(".prj").unlink()
    assert read_features(path, "--points").crs is None
    path.with_suffix(".shx").unlink()
    found = refused(path)
    assert "not a readable Shapefile" in found
    assert ".shx, .dbf and .prj" in found
    assert not path.with_suffix(".shx").exists()


def test_vectors__several_layers_need_a_name(tmp_path: Path) -> None:
    path = write_vectors(tmp_path / "p.gpkg", POINTS, layer="plots")
    write_vectors(path, POINTS[1:], layer="trees")
    found = refused(path)
    assert "does not say which layer to read: its layers are plots, trees" in found
    assert "--layer plots" in found
    assert places(read_features(path, "--points", "trees")) == PLACES[1:]
    assert "has no layer wells: its layers are plots, trees" in refused(path, "wells")


def test_vectors__a_geopackage_in_use_is_read_as_it_is_now(tmp_path: Path) -> None:
    path = write_vectors(tmp_path / "p.gpkg", POINTS, SPATIAL_INDEX="NO", layer="plots")
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode = wal")
        other.execute("PRAGMA wal_autocheckpoint = 0")
        for trigger in other.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            other.execute(f"DROP TRIGGER {trigger[0]}")
        other.execute("UPDATE plots SET plot = 'edited' WHERE plot = 'p1'")
        other.execute("DELETE FROM plots WHERE plot = 'p3'")
        other.commit()
        assert (tmp_path / "p.gpkg-wal").stat().st_size
        features = read_features(path, "--points")
    assert [row["plot"] for row in features.attributes] == ["edited", "p2"]


def test_vectors__empty_geometries_are_none_and_single_parts_are_taken_out(tmp_path: Path) -> None:
    many = [shapely.MultiPoint([POINTS[0]]), shapely.MultiPoint(POINTS), shapely.MultiPoint(), None]
    features = read_features(write_vectors(tmp_path / "p.gpkg", many, "MultiPoint"), "--points")
    assert [g and g.geom_type for g in features.geometries] == ["Point", "MultiPoint", None, None]
    path = geopackage(tmp_path / "e.gpkg", shapely.Point())  # NaN, NaN, as some programs write it
    assert places(read_features(path, "--points")) == [None, None]


def test_vectors__curves_become_lines(tmp_path: Path) -> None:
    arc = struct.pack("<BII6d", 1, 8, 3, 0, 0, 1, 1, 2, 0)  # a half circle about (1, 0)
    line = read_features(geopackage(tmp_path / "arc.gpkg", arc), "--points").geometries[0]
    radius = np.hypot(*(shapely.get_coordinates(line) - (1, 0)).T)
    np.testing.assert_allclose(radius, 1)
    assert line.length == pytest.approx(np.pi, rel=1e-3)


def test_vectors__an_unclosed_ring_is_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "p.geojson"
    ring = "[[1, 0], [1, 1], [0, 1], [0, 0]]"
    path.write_text('{"type": "Polygon", "coordinates": [' + ring + "]}")
    assert "closed" in refused(path)


def test_vectors__the_digest_follows_the_geometries_and_the_crs(tmp_path: Path) -> None:
    one = read_features(write_vectors(tmp_path / "a.gpkg", POINTS), "--points").digest
    assert read_features(write_vectors(tmp_path / "b.shp", POINTS), "--points").digest == one
    moved = [*POINTS[:2], shapely.Point(0, 0)]
    other = [
        write_vectors(tmp_path / "c.gpkg", moved),
        write_vectors(tmp_path / "d.gpkg", POINTS, crs="EPSG:32611"),
    ]
    assert len({one, *(read_features(path, "--points").digest for path in other)}) == 3


def test_vectors__whole_numbers_stay_whole_next_to_gaps(tmp_path: Path) -> None:
    path = tmp_path / "p.geojson"
    feature = '{"type": "Feature", "properties": {"n": %s}, "geometry": null}'
    texts = ", ".join(feature % value for value in ("12345678901", "null", "3"))
    path.write_text('{"type": "FeatureCollection", "features": [' + texts + "]}")
    found = read_features(path, "--points").attributes
    assert [row["n"] for row in found] == [12345678901, None, 3]


@pytest.mark.parametrize("order", ["pyogrio, rasterio", "rasterio, pyogrio"])
@pytest.mark.slow
def test_vectors__two_gdals_work_in_one_process(tmp_path: Path, order: str) -> None:
    path = write_vectors(tmp_path / "p.gpkg", POINTS)
    code = f"""
import {order}, pyproj, rasterio.crs, rasterio.warp
from rasterio.io import MemoryFile
assert pyogrio.raw.read({str(path)!r})[0]["crs"] == "EPSG:32613"
assert rasterio.crs.CRS.from_epsg(32613).to_epsg() == 32613
x, y = rasterio.warp.transform("EPSG:32613", "EPSG:4326", [517000.0], [4526000.0])
expected = pyproj.Transformer.from_crs(32613, 4326, always_xy=True).transform(517000.0, 4526000.0)
assert abs(x[0] - expected[0]) < 1e-9 and abs(y[0] - expected[1]) < 1e-9, (x, y, expected)
with MemoryFile() as memory:
    with memory.open(driver="GTiff", width=2, height=2, count=1, dtype="uint8",
                     crs="EPSG:32613") as file:
        file.write(__import__("numpy").ones((1, 2, 2), "uint8"))
    with memory.open() as file:
        assert file.read().sum() == 4 and file.crs.to_epsg() == 32613
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Tables of points.

POINT_TABLES = {
    "easting": "plot,Easting,Northing\na,517000.5,4526000.25\n",
    "geoNEON": "plot,adjEasting,adjNorthing,adjDecimalLatitude\na,517000.5,4526000.25,40\n",
    "semicolons": "plot;X;Y\na;517000.5;4526000.25\n",
    "tabs": "plot\tx\ty\na\t 517000.5 \t4526000.25\n",
    "BOM and CRLF": "\ufeffplot,x,y\r\na,517000.5,4526000.25\r\n",
    "Excel's first line": "sep=;\r\nplot;x;y\r\na;517000.5;4526000.25\r\n",
    "lines of blanks": "plot,x,y\na,517000.5,4526000.25\n\n",
}
DEGREES = {
    "Darwin Core": "plot,decimalLatitude,decimalLongitude\na,40.1,-105.5\n",
    "lat/long": "plot,lat,long\na,40.1,-105.5\n",
    "empty x and y": "plot,x,y,lat,lon\na,NA,NA,40.1,-105.5\nb,,,,\n",
    "lat/lng": "plot,Lat,Lng\na,40.1,-105.5\n",
}


@pytest.mark.parametrize("kind", [*POINT_TABLES, *DEGREES])
def test_tables__columns_as_people_name_them(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text((POINT_TABLES | DEGREES)[kind], "utf-8", newline="")
    features = read_features(path, "--points")
    assert places(features)[:1] == [PLACES[0] if kind in POINT_TABLES else (-105.5, 40.1)]
    assert features.crs == ("of the scene" if kind in POINT_TABLES else "OGC:CRS84")
    assert features.attributes[0]["plot"] == "a"


def test_tables__a_row_without_coordinates_has_no_geometry(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    missing = ["NA,NA", ",", "nan,1", "null,NULL", "N/A,-", "1"]
    path.write_text("x,y,plot\n" + "".join(f"{cells}\n" for cells in missing) + "1,2,b\n")
    assert places(read_features(path, "--points")) == [*[None] * len(missing), (1.0, 2.0)]


def test_tables__unicode_text_of_excel_is_read(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("name\tx\ty\nKönigsforst\t1\t2\n", "utf-16")
    features = read_features(path, "--points")
    assert places(features) == [(1.0, 2.0)]
    assert features.attributes == [{"name": "Königsforst"}]


def test_tables__a_message_counts_the_lines_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("sep=;\nx;y\n1;2\n3;north\n")
    assert "Line 4" in refused(path)


def test_tables__latin_1_is_read_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes("x,y,name\n1,2,Königsforst\n".encode("latin-1"))
    features = read_features(path, "--points")
    assert features.attributes == [{"name": "Königsforst"}]
    assert "Latin-1" in features.notes[0]


def test_tables__a_decimal_comma_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("x;y\n517000,5;4526000,25\n")
    found = refused(path)
    assert "Line 2" in found
    assert "'517000,5'" in found
    assert "decimal point" in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,x,y\na,500001,25,4499999,5\n", "has 5 fields, and the first line names 3 columns"),
        ('"x","y"\n"1",500001,4499999\n', "tables from R with row.names = FALSE"),
        ("x,X,y\n1,500001,4499999\n", "has two columns called X. Delete one of them"),
        ("x,y\n500_001,4_499_999\n", "Line 2 of --points"),
    ],
)
def test_tables__numbers_are_never_moved_or_cut(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    assert message in refused(tmp_path / "p.csv")


def test_tables__empty_fields_at_the_end_are_no_numbers(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("x,y\n517000.5,4526000.25,,\n")
    assert places(read_features(tmp_path / "p.csv", "--points")) == PLACES[:1]


def test_tables__damaged_utf_16_is_said_to_be_that(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes("x,y\n1,2\n".encode("utf-16") + b"\1")
    assert "is damaged: it begins as UTF-16. Save it as UTF-8" in refused(tmp_path / "p.csv")


def test_read_features__refuses_a_zip_that_is_a_bomb(tmp_path: Path) -> None:
    path = tmp_path / "plots.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("plots.shp", bytes(2**16))
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")  # the size in the directory, which GDAL reads too
    data[entry + 24 : entry + 28] = struct.pack("<I", 0xFFFF0000)
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="holds 4 GiB when it is unpacked; at most 2 GiB"):
        read_features(path, "--aoi")

"""The table of options, and what follows from it: types, help, completion, headings."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cli_case import call, check_refused
from hyperhpc.cli.commands import cli
from hyperhpc.cli.options import Words, index_names
from hyperhpc.config import OPTIONS, RunConfig, SceneOptions, option_parameters
from hyperhpc.errors import ConfigError


def options_of_run() -> dict[str, click.Option]:
    return {p.name or "": p for p in cli.commands["run"].params if isinstance(p, click.Option)}


def test_table__every_field_is_an_option_and_every_option_a_flag() -> None:
    fields = {field.name for field in dataclasses.fields(RunConfig)}
    assert fields - OPTIONS.keys() == {"scene", "out"}
    assert OPTIONS.keys() <= options_of_run().keys()


def test_table__defaults_are_clean_and_shown_in_help() -> None:
    config = RunConfig(scene=Path("scene"), out=Path("out"))
    text = " ".join(call("run", "--help").out.split())
    for name, entry in OPTIONS.items():
        assert getattr(config, name) == entry.default, name
        if isinstance(entry.default, str | int) and not isinstance(entry.default, bool):
            assert f"[default: {entry.default}]" in text, name


def test_table__is_the_signature_of_python() -> None:
    parameters = {p.name: p for p in option_parameters()}
    assert list(parameters) == [n for n in parameters if n in OPTIONS]
    assert parameters.keys() == OPTIONS.keys()
    assert parameters["clusters"].default == 8
    assert parameters["memory_per_worker"].default == RunConfig.memory_per_worker


def test_defaults__are_written_once() -> None:
    sources = Path(sys.modules["hyperhpc"].__file__ or "").parent
    texts = [path.read_text("utf-8") for path in sources.rglob("*.py")]
    assert sum(len(re.findall(r'"4GiB"', text)) for text in texts) == 1


def test_scene_options__check_themselves() -> None:
    options = SceneOptions(overlap="LAST", mask="Cloud, shadow", aoi="a.gpkg")  # type: ignore[arg-type]
    assert (options.overlap, options.mask) == ("last", ("cloud", "shadow"))
    assert options.aoi == Path("a.gpkg")
    coded = SceneOptions(mask="water, Cloud=15, 16,cast_shadow=0")  # type: ignore[arg-type]
    assert coded.mask == ("water", "cloud=15,16", "cast_shadow=0")
    assert SceneOptions(mask=coded.mask) == coded
    assert coded.as_words() == ["--mask=water,cloud=15,16,cast_shadow=0"]
    with pytest.raises(ConfigError, match=r"overlap = 'mean': choose from .*; bands = 'any'"):
        SceneOptions(overlap="mean", bands="any")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("--launcher slurm", "'local', 'gang', 'elastic', 'external'"),
        ("--models lloyd,kmeans", "'kmeans' is not one of lloyd, minibatch"),
        ("--mask fog", "'fog' is not one of weather, shadow, cloud"),
        ("--mask cast_shadow", "'cast_shadow' is not one of weather, shadow, cloud"),
        ("--mask shadow=dark", "'shadow=dark': write shadow=CODE, a whole number"),
        ("--mask shadow,shadow=1", "'shadow' is given twice"),
        ("--mask shadow,1", "'1' is not one of weather, shadow, cloud"),
        ("--bbox 1,2", "'1,2': 4 numbers are needed, with commas between"),
        ("--drop 1340:1445", "'1340:1445': write LO-HI in nm"),
        ("--memory-per-worker lots", "an amount of memory such as 2GiB"),
    ],
)
def test_run__refuses_wrong_words_as_usage(words: str, part: str) -> None:
    check_refused(call("run", "scene", "out", *words.split()), 2, part, "run --help")


def test_run__takes_words_in_any_case(small_scene: Path, tmp_path: Path) -> None:
    words = "--models Lloyd --indices NDVI,Cai --launcher LOCAL --bands Same --json".split()
    outcome = call("plan", small_scene, tmp_path / "out", *words)
    assert outcome.code == 0, outcome.err
    assert '"lloyd"' in outcome.out
    assert re.search(r'"indices": \[\s*"ndvi",\s*"cai"\s*\]', outcome.out)


def test_words__complete_each_word_of_a_list() -> None:
    context = click.Context(cli.commands["run"])
    option = options_of_run()["models"]
    assert isinstance(option.type, Words)

    def complete(text: str) -> list[str]:
        return [item.value for item in option.type.shell_complete(context, option, text)]

    assert complete("") == ["lloyd", "minibatch"]
    assert complete("L") == ["lloyd"]
    assert complete("lloyd,") == ["lloyd,minibatch"]
    assert complete("x") == []
    assert {"all", "ndvi", "cai"} <= set(index_names())


def test_completion__offers_words_in_a_shell() -> None:
    env = os.environ | {
        "_HYPERHPC_COMPLETE": "bash_complete",
        "COMP_WORDS": "hyperhpc run scene out --launcher e",
        "COMP_CWORD": "5",
    }
    done = subprocess.run(
        [Path(sys.executable).parent / "hyperhpc"], env=env, capture_output=True, text=True
    )
    assert done.stdout.split() == ["plain,elastic", "plain,external"]


def test_help__of_run_shows_what_matters_first() -> None:
    shown = call("run", "--help").out
    headings = re.findall(r"^(\S.*):$", shown, re.MULTILINE)
    assert headings == ["Options that matter first", "Analysis", "Scene", "Workers", "General"]
    first = shown.split("Analysis:")[0]
    found = re.findall(r"^  (--[\w-]+)", first, re.MULTILINE)
    points = ["--point", "--points", "--point-crs"]
    assert found == ["--bbox", "--clusters", "--indices", *points, "--memory-per-worker"]


def test_help__imports_no_large_library() -> None:
    """So it starts in 0.25 s (decision 0025); the time itself depends on the machine."""
    code = (
        "import sys\n"
        "from hyperhpc.cli.main import main\n"
        "try:\n    main(['--help'])\n"
        "finally:\n    print(*sorted(name for name in sys.modules if '.' not in name))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    large = "bokeh dask distributed h5py jinja2 matplotlib numpy pyogrio pyproj rasterio scipy"
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "click" in loaded
    assert not loaded & {*large.split(), "shapely", "sklearn", "xarray", "zarr"}


def test_help__is_made_of_whole_sentences() -> None:
    for name, command in cli.commands.items():
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                text = (option.help or "").split("  [default")[0]
                assert text[:1].isupper(), (name, option.opts, text)
                assert text.endswith("."), (name, option.opts, text)
                assert len(text.split()) > 3, (name, option.opts, text)

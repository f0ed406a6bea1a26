"""Measure speed and memory, as ratios of measurements on this machine.

    python benchmarks/bench.py COMMAND [options]      or: make bench ARGS="COMMAND [options]"

Each command prints what it runs, writes build/bench/NAME.json (every repeat, the machine,
versions, the commit) and shows its part of the table. Scenes are simulated once and kept in
$HYPERHPC_CACHE/bench. ``table --write`` writes the results into docs/performance-tables.md.
"""

from __future__ import annotations

from collections.abc import Callable

import click

from record import Result, whole_table, write_page

#: The benchmarks, in the order of the table.
ORDER = (
    "seed", "kernel", "reading", "memory", "full", "scaling", "tiles", "startup", "costs",
    "ingest", "outputs",
)  # fmt: skip

repeats = click.option("--repeats", default=3, show_default=True, help="Number of measurements.")


def size_option(default: int) -> Callable:
    """Option ``--size``: pixels on a side."""
    return click.option(
        "--size", default=default, show_default=True, help="Pixels on a side of the scene."
    )


def finish(result: Result) -> None:
    """Write a result and show its table."""
    path = result.write()
    click.echo(f"\n{result.table()}")
    click.echo(f"written: {path}\n", err=True)


@click.group(help=__doc__.replace("\n    ", "\n\n\b\n    ", 1))
def bench() -> None:
    """Replaced by the docstring of the module."""


@bench.command()
@click.pass_context
def quick(context: click.Context) -> None:
    """Run the short benchmarks, on small scenes: some minutes."""
    context.invoke(startup, repeats=5)
    context.invoke(kernel, pixels=100_000)
    context.invoke(tiles, number=1000)
    context.invoke(seed, size=1000)
    context.invoke(reading, size=1000)
    context.invoke(scaling, size=1000)


@bench.command()
@click.option("--repeats", default=10, show_default=True, help="Number of measurements.")
def startup(repeats: int) -> None:
    """Measure hyperhpc --help, and imports."""
    from startup import start_up

    finish(start_up(repeats))


@bench.command()
@click.option("--pixels", default=200_000, show_default=True, help="Pixels in memory.")
@repeats
def kernel(pixels: int, repeats: int) -> None:
    """Compare labels, a Lloyd pass and inertia with scikit-learn."""
    from kernel import against_sklearn

    finish(against_sklearn(pixels, repeats))


@bench.command()
@size_option(2000)
@repeats
def seed(size: int, repeats: int) -> None:
    """Compare a whole run with the tutorial's recipe."""
    from whole import compare_with_recipe

    finish(compare_with_recipe(size, repeats))


@bench.command()
@size_option(4096)
@repeats
def reading(size: int, repeats: int) -> None:
    """Compare a run with a bare read of its store."""
    from reading import floor

    finish(floor(size, repeats))


@bench.command()
@click.option(
    "--sizes", default="2048,4096", show_default=True, help="Sides of two scenes, in pixels."
)
@repeats
def memory(sizes: str, repeats: int) -> None:
    """Measure peak memory at two sizes, and compare it with its limit."""
    from whole import memory as peaks

    small, large = (int(size) for size in sizes.split(","))
    finish(peaks((small, large), repeats))


@bench.command()
@click.option("--rows", default=13092, show_default=True, help="Rows of the scene.")
@click.option("--columns", default=12050, show_default=True, help="Columns of the scene.")
@click.option(
    "--block",
    default=2048,
    show_default=True,
    help="Side of the block that is repeated, in pixels.",
)
@repeats
def full_domain(rows: int, columns: int, block: int, repeats: int) -> None:
    """Run the tutorial's domain, from hard-linked shards; needs 17 GB of disk."""
    from whole import full_domain as domain

    finish(domain(rows, columns, block, repeats))


@bench.command()
@size_option(4096)
@repeats
def scaling(size: int, repeats: int) -> None:
    """Measure the stages on one and on two workers."""
    from whole import scaling as scale

    finish(scale(size, repeats))


@bench.command()
@click.option(
    "--tiles", "number", default=100_000, show_default=True, help="Number of empty tiles."
)
@repeats
def tiles(number: int, repeats: int) -> None:
    """Measure time and memory of empty tiles."""
    from tiles import empty_tiles

    finish(empty_tiles(number, repeats))


@bench.command()
@size_option(2000)
@repeats
def costs(size: int, repeats: int) -> None:
    """Profile the passes."""
    from costs import costs as profile

    finish(profile(size, repeats))


@bench.command()
@size_option(1000)
@repeats
def ingest(size: int, repeats: int) -> None:
    """Compare ingest of NEON's files to a store with h5py and xarray."""
    from ingest import ingest as write_store

    finish(write_store(size, repeats))


@bench.command()
@size_option(2000)
@repeats
def outputs(size: int, repeats: int) -> None:
    """Compare codecs and rounding for the maps of a run."""
    from outputs import outputs as by_codec

    finish(by_codec(size, repeats))


@bench.command()
@click.option("--write", is_flag=True, help="Write it into docs/performance-tables.md.")
def table(write: bool) -> None:
    """Show everything measured so far."""
    text = whole_table(ORDER)
    if write:
        write_page(text)
    else:
        click.echo(text)


if __name__ == "__main__":
    bench(prog_name="bench.py")

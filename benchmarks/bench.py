"""Measure speed and memory, as ratios taken side by side on this machine.

    python benchmarks/bench.py COMMAND [options]      or: make bench ARGS="COMMAND [options]"

Each command prints what it runs, writes build/bench/NAME.json (every repeat, the machine,
versions, the commit) and shows its part of the table. Scenes are simulated once and kept in
$HYPERHPC_CACHE/bench. ``table --write`` puts what was measured into docs/performance-tables.md.
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

repeats = click.option("--repeats", default=3, show_default=True, help="how often")


def size_option(default: int) -> Callable:
    """``--size``: pixels on a side."""
    return click.option(
        "--size", default=default, show_default=True, help="pixels on a side of the scene"
    )


def finish(result: Result) -> None:
    """Write a result and show its table."""
    path = result.write()
    click.echo(f"\n{result.table()}")
    click.echo(f"written: {path}\n", err=True)


@click.group(help=__doc__.replace("\n    ", "\n\n\b\n    ", 1))
def bench() -> None:
    """See above."""


@bench.command()
@click.pass_context
def quick(context: click.Context) -> None:
    """The short ones, on small scenes: some minutes."""
    context.invoke(startup, repeats=5)
    context.invoke(kernel, pixels=100_000)
    context.invoke(tiles, number=1000)
    context.invoke(seed, size=1000)
    context.invoke(reading, size=1000)
    context.invoke(scaling, size=1000)


@bench.command()
@click.option("--repeats", default=10, show_default=True, help="how often")
def startup(repeats: int) -> None:
    """hyperhpc --help, and imports."""
    from startup import start_up

    finish(start_up(repeats))


@bench.command()
@click.option("--pixels", default=200_000, show_default=True, help="pixels in memory")
@repeats
def kernel(pixels: int, repeats: int) -> None:
    """Labels, a Lloyd pass and inertia beside scikit-learn's."""
    from kernel import against_sklearn

    finish(against_sklearn(pixels, repeats))


@bench.command()
@size_option(2000)
@repeats
def seed(size: int, repeats: int) -> None:
    """A whole run beside the tutorial's recipe."""
    from whole import beside_seed

    finish(beside_seed(size, repeats))


@bench.command()
@size_option(4096)
@repeats
def reading(size: int, repeats: int) -> None:
    """A run beside a bare read of its store."""
    from reading import floor

    finish(floor(size, repeats))


@bench.command()
@click.option("--sizes", default="2048,4096", show_default=True, help="sides of two scenes")
@repeats
def memory(sizes: str, repeats: int) -> None:
    """Peaks at two sizes, and against the promise."""
    from whole import memory as peaks

    small, large = (int(size) for size in sizes.split(","))
    finish(peaks((small, large), repeats))


@bench.command()
@click.option("--rows", default=13092, show_default=True)
@click.option("--columns", default=12050, show_default=True)
@click.option("--block", default=2048, show_default=True, help="side of what is repeated")
@repeats
def full_domain(rows: int, columns: int, block: int, repeats: int) -> None:
    """The tutorial's domain, from hard-linked shards; 17 GB of disk."""
    from whole import full_domain as domain

    finish(domain(rows, columns, block, repeats))


@bench.command()
@size_option(4096)
@repeats
def scaling(size: int, repeats: int) -> None:
    """The stages on one and on two workers."""
    from whole import scaling as scale

    finish(scale(size, repeats))


@bench.command()
@click.option("--tiles", "number", default=100_000, show_default=True, help="empty tiles")
@repeats
def tiles(number: int, repeats: int) -> None:
    """Time and memory of empty tiles."""
    from tiles import empty_tiles

    finish(empty_tiles(number, repeats))


@bench.command()
@size_option(2000)
@repeats
def costs(size: int, repeats: int) -> None:
    """A profile of the passes."""
    from costs import costs as profile

    finish(profile(size, repeats))


@bench.command()
@size_option(1000)
@repeats
def ingest(size: int, repeats: int) -> None:
    """From NEON's files to a store, beside h5py and xarray."""
    from ingest import ingest as write_store

    finish(write_store(size, repeats))


@bench.command()
@size_option(2000)
@repeats
def outputs(size: int, repeats: int) -> None:
    """The maps of a run by codec and rounding."""
    from outputs import outputs as by_codec

    finish(by_codec(size, repeats))


@bench.command()
@click.option("--write", is_flag=True, help="into docs/performance-tables.md")
def table(write: bool) -> None:
    """Everything measured so far."""
    text = whole_table(ORDER)
    if write:
        write_page(text)
    else:
        click.echo(text)


if __name__ == "__main__":
    bench(prog_name="bench.py")

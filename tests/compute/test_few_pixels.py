"""Small scenes: how far apart fitted pixels are, and how many clusters they can carry."""

from __future__ import annotations

import pytest

from hyperhpc.compute.fit.fitting import check_n_pixels
from hyperhpc.errors import ConfigError
from hyperhpc.rundir.plan import list_strides


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((1000, 1000), [4, 3, 2, 1]),
        ((180, 180), [4, 3, 2, 1]),
        ((160, 199), [4, 3, 2, 1]),
        ((160, 196), [3, 2, 1]),  # 40 x 49 are fewer than 2,000
        ((100, 120), [2, 1]),
        ((30, 30), [1]),
        ((1, 100_000), [4, 3, 2, 1]),
    ],
)
def test_list_strides__are_those_that_may_leave_enough(
    shape: tuple[int, int], strides: list[int]
) -> None:
    assert list_strides(None, shape) == strides


@pytest.mark.parametrize("given", [1, 4, 90])
def test_list_strides__takes_the_one_that_is_given(given: int) -> None:
    assert list_strides(given, (30, 30)) == [given]


@pytest.mark.parametrize(("n", "k"), [(40, 8), (10, 2), (1, 1), (900, 8)])
def test_check_n_pixels__accepts_five_per_cluster(n: int, k: int) -> None:
    check_n_pixels(n, k, 4)


@pytest.mark.parametrize(
    ("n", "k", "stride", "hint"),
    [
        (9, 8, 4, "Give --clusters 1 or --stride 1"),
        (39, 8, 1, "Give --clusters 7"),
        (4, 2, 4, "Give --stride 1"),
        (4, 2, 1, "Give a larger area"),
        (0, 1, 1, "Give a larger area"),
    ],
)
def test_check_n_pixels__refuses_fewer(n: int, k: int, stride: int, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"{n} valid sampled pixels are too few for {k}") as error:
        check_n_pixels(n, k, stride)
    assert error.value.hint == hint

"""The tiers of tests: what is selected, and when a fast test is too slow."""

from __future__ import annotations

import re

import pytest

from tiers import MARKS

#: Each test starts pytest again, whose plugins take a second or two to load.
pytestmark = pytest.mark.slow

_TESTS = """
    import time
    import pytest

    def burn():
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass

    @pytest.fixture(scope="module")
    def shared():
        burn()

    @pytest.fixture
    def own():
        burn()

    def test_quick(shared): pass
    def test_sleeps(): time.sleep(0.1)
    def test_burns(): burn()
    def test_sets_up(own): pass
    def test_starts_a_child():
        import subprocess, sys
        code = "import time\\nwhile time.process_time() < 0.1: pass"
        subprocess.run([sys.executable, "-S", "-c", code], check=True)
    @pytest.mark.e2e
    def test_marked(): burn()
    @pytest.mark.e2e
    @pytest.mark.smoke
    def test_smoke(): burn()
"""


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder of tests, with a limit of CPU time that is soon reached."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("tiers._HEAVY", ())  # this package is not found from that folder
    pytester.makepyfile(_TESTS)
    markers = "\n".join(f"  {mark}: x" for mark in (*MARKS, "smoke"))
    pytester.makeini(
        f"[pytest]\nmarkers =\n{markers}\naddopts = --strict-markers\nfast_cpu_s = 0.05"
    )
    return pytester


def run(inner: pytest.Pytester, *options: str) -> pytest.RunResult:
    return inner.runpytest_inprocess("-p", "tiers", "-p", "no:cacheprovider", *options)


@pytest.mark.parametrize(("tier", "number"), [("quick", 6), ("rest", 1), ("all", 7)])
def test_tier__runs_every_test_once(inner: pytest.Pytester, tier: str, number: int) -> None:
    done = run(inner, "--tier", tier)
    done.assert_outcomes(passed=number, deselected=7 - number)
    is_reported = "1 tests that take longer (e2e 1): make test-all" in done.stdout.str()
    assert is_reported == (tier == "quick")


def test_tier__is_reported_by_xdist_too(inner: pytest.Pytester) -> None:
    done = run(inner, "--tier", "quick", "-n", "1", "-p", "xdist")
    done.assert_outcomes(passed=6)
    assert "1 tests that take longer (e2e 1): make test-all" in done.stdout.str()


def test_limit__fails_unmarked_tests_that_use_cpu(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    said = run(inner).stdout.str()  # threads of earlier tests may make others fail too
    assert not re.search("test_(marked|smoke) used", said)
    for name in ("burns", "sets_up", "starts_a_child"):
        assert re.search(rf"test_{name} used \d\.\d s of CPU time, .* 0.05 s: ", said)


def test_limit__fails_unmarked_tests_that_wait_long(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    done = run(inner, "-k", "sleeps", "-o", "fast_wall_s=0.05")
    done.assert_outcomes(failed=1, deselected=6)
    assert "s of wall time" in done.stdout.str()


def test_limit__holds_in_ci_only(inner: pytest.Pytester) -> None:
    run(inner).assert_outcomes(passed=7)

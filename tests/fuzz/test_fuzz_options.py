"""Option files and formulas end in an error that says something, or do what they say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from campaign import Campaign
from hypothesis import strategies as st
from option_case import FORMULAS, NAMES, NEARLY_FORMULAS, OPTION_FILES, REFLECTANCE, Written
from scene_case import check_refusal

from hyperhpc.analysis.evaluation import evaluate_formula
from hyperhpc.analysis.formula import parse_formula
from hyperhpc.analysis.indices import choose_indices
from hyperhpc.config import load_config
from hyperhpc.errors import ConfigError, HyperhpcError
from hyperhpc.pipeline.prepare import describe_plan

pytestmark = pytest.mark.faults

WAVELENGTH_NM = np.array(sorted(REFLECTANCE))


def test_formulas__compute_what_they_say(campaign: Campaign) -> None:
    def look(written: Written) -> str:
        text, compute = written
        try:
            formula = parse_formula(text)
        except ConfigError as error:
            if "R(" in text:  # it is sound, and nothing but too long may be wrong with it
                raise
            return check_refusal(error)
        with np.errstate(all="ignore"):
            expected = np.broadcast_to(compute(), (6,))
        missing = np.any([np.isnan(REFLECTANCE[nm]) for nm in formula.wanted_nm], axis=0)
        expected = np.where(np.isfinite(expected) & ~missing, expected, np.nan)
        found = evaluate_formula(formula, REFLECTANCE)
        expected[found.causes > 0] = np.nan  # tests/analysis/test_small_integers.py says where
        np.testing.assert_array_equal(found.values, expected)
        return "same numbers"

    campaign.draw("formula", 0.07, FORMULAS, look)


def test_formulas__of_any_text(campaign: Campaign) -> None:
    def look(drawn: tuple[str, str]) -> str:
        name, text = drawn
        try:
            ((bound,), _) = choose_indices((), {name: text}, WAVELENGTH_NM)
        except HyperhpcError as error:
            return check_refusal(error)
        formula = bound.index.formula
        reflectance = {wanted: np.array([0.2, np.nan]) for wanted in formula.wanted}
        values = evaluate_formula(formula, reflectance).values
        assert (values.dtype, values.shape) == (np.float64, (2,))
        assert np.isnan(values[1])
        assert not np.isinf(values[0])
        return "numbers"

    campaign.draw("nearly a formula", 0.08, st.tuples(NAMES, NEARLY_FORMULAS), look)


def test_option_files__are_refused_or_planned(
    campaign: Campaign, whole_scenes: Path, tmp_path: Path
) -> None:
    file, out = tmp_path / "options.toml", tmp_path / "out"

    def look(text: str) -> str:
        file.write_bytes(text.encode("utf-8", errors="surrogatepass"))
        try:
            config = load_config(whole_scenes / "zarr3", out, {}, file)
            json.dumps(config.result_options(), allow_nan=False)
            json.dumps(describe_plan(config))
        except HyperhpcError as error:
            return check_refusal(error)
        finally:
            assert not out.exists()
        assert 1 <= config.clusters <= 254
        return "a plan"

    campaign.draw("option file", 0.14, OPTION_FILES, look)

#!/usr/bin/env bash
# Kill runs at random moments, flip bits in what they have written, attack all commands, damage
# what they read (make test-faults).
#
#   tests/faults/run.sh [pytest options for the kills]
#
# --kills 1000      more of them
# --starved 200     more runs on a busy machine
# --flips 1000      more flipped bits
# --kill-seed 7     others; a case that fails names its seed
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

failed=0
.venv/bin/python -m pytest tests/faults -s --kills 200 --starved 50 --flips 500 "$@" || failed=1
.venv/bin/python -m pytest tests/attacks -s --attacks 1000 || failed=1
.venv/bin/python -m pytest tests/fuzz -s --fuzz-cases 10000 || failed=1
exit "$failed"

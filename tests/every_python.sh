#!/usr/bin/env bash
# Run all tests on the Python of .venv, and those of `make test` on every other Python 3.11-3.13
# of this machine, one Python after the other (make test-all).
#
#   tests/every_python.sh [pytest options]
#
# TIER=rest                  on the Python of .venv only what `make test` leaves out
# TEST_PYTHONS="3.11 3.13"   only these; one that is not found is then an error
#
# `make test-all PYTHON=python3.13` makes another Python the one of .venv. The others use
# .venv-3.12 and the like.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
unset PYTHONPATH PYTHONHOME

primary=$(.venv/bin/python -I -c 'import sys; print("%d.%d" % sys.version_info[:2])') || exit 1
versions="$primary $(printf '%s\n' 3.11 3.12 3.13 | grep -vxF "$primary" | tr '\n' ' ')"
read -ra versions <<<"${TEST_PYTHONS:-$versions}"

# One version: which environment, which tests.
test_version() {
  local version=$1 venv=.venv-$1 options=(--tier quick -n logical --maxprocesses 16)
  shift
  if [ "$version" = "$primary" ]; then
    venv=.venv
    # a test of a whole run starts several processes itself
    options=(--tier "${TIER:-all}" -n logical --maxprocesses 2)
  elif ! bash container/venv.sh version "$version"; then
    return 1
  fi
  printf '\n===== Python %s =====\n' "$version"
  "$venv/bin/python" -m pytest --dist worksteal "${options[@]}" "$@"
}

failed=0
summary=
for version in "${versions[@]}"; do
  if [ "$version" != "$primary" ] &&
    [ -z "$(bash container/venv.sh pythons "$version" 2>/dev/null)" ]; then
    summary="$summary  $version  not found here, not tested"$'\n'
    if [ -n "${TEST_PYTHONS:-}" ]; then failed=1; fi
    continue
  fi
  start=$SECONDS status=0
  test_version "$version" "$@" || status=$?
  # interrupted; or none of the tests that were asked for by name belongs to this version's tier
  if [ "$status" = 2 ] || [ "$status" = 130 ]; then exit "$status"; fi
  if [ "$status" = 5 ] && [ "$version" != "$primary" ]; then status=0; fi
  if [ "$status" != 0 ]; then failed=1; fi
  summary="$summary  $version  exit $status after $((SECONDS - start)) s"$'\n'
done
printf '\n===== Tested on these Pythons =====\n%s' "$summary"
exit "$failed"

#!/usr/bin/env bash
# Run the test-suite on every Python 3.11-3.13 of this machine.
#
#   tests/every_python.sh [pytest options]
#
# TEST_PYTHONS="3.11 3.13"   only these; one that is not found is then an error
#
# The Python of .venv comes first, uses .venv and runs them all; `make test PYTHON=python3.13`
# makes another one the first. The others use .venv-3.12 and the like, and run what could
# differ between versions: ELSEWHERE, every room once, and one run from end to end. They run
# beside the first, one after the other, for most tests wait for processes rather than for a
# processor; what they say is shown after it.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
unset PYTHONPATH PYTHONHOME

ELSEWHERE="agreement api bands cli config extract formula georef indices kernel kernel_bits kmeans
  minibatch models nodata plan report_drawing run scene_chunks scene_damaged scene_envi
  scene_geotiff scene_neon scene_open scene_zarr shards signals simulate spectra starts summed
  usage view_server wavelengths workers"

primary=$(.venv/bin/python -I -c 'import sys; print("%d.%d" % sys.version_info[:2])') || exit 1
versions="$primary $(printf '%s\n' 3.11 3.12 3.13 | grep -vxF "$primary" | tr '\n' ' ')"
read -ra versions <<<"${TEST_PYTHONS:-$versions}"

logs=$(mktemp -d)
beside=
# The others are a group of their own: with this script they end as a whole.
trap '[ -z "$beside" ] || kill -TERM -- "-$beside" 2>/dev/null; rm -rf "$logs"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
color=no
if [ -t 1 ]; then color=yes; fi

is_for_all() {
  local name=${1#tests/test_} names=" ${ELSEWHERE//$'\n'/ } "
  [[ $names == *" ${name%.py} "* ]]
}

# One version: its output goes on, its closing line and its status into files.
test_version() {
  local version=$1 venv=.venv-$1 path release status closing skipped=()
  shift
  if [ "$version" = "$primary" ]; then
    venv=.venv
  elif ! bash container/venv.sh layered "$version"; then
    echo "  $version     no environment could be made" >"$logs/$version.closing"
    return 1
  else
    for path in tests/*/ tests/test_*.py; do
      if ! is_for_all "$path"; then skipped+=("--ignore=$path"); fi
    done
  fi
  release=$("$venv/bin/python" -I -c 'import platform; print(platform.python_version())')
  printf '\n===== Python %s =====\n' "$release"
  "$venv/bin/python" -m pytest --color="$color" "${skipped[@]}" "$@" 2>&1 | tee "$logs/$version"
  status=${PIPESTATUS[0]}
  # pytest's own last line, without its colours and its frame of "=".
  closing=$(tail -n 1 "$logs/$version" |
    sed -e $'s/\033\\[[0-9;]*m//g' -e 's/^=* *//' -e 's/ *=*$//')
  echo "  $release  $closing" >"$logs/$version.closing"
  # of tests chosen by their names this version may have none
  if [ "$status" = 5 ] && [ "$version" != "$primary" ]; then status=0; fi
  if [ "$status" = 2 ] && grep -q KeyboardInterrupt "$logs/$version"; then return 130; fi
  return "$status"
}

test_others() {
  local version status=0
  for version in "${found[@]:1}"; do test_version "$version" "$@" || status=1; done
  return $status
}

found=()
missing=
for version in "${versions[@]}"; do
  if [ "$version" = "$primary" ] ||
    [ -n "$(bash container/venv.sh pythons "$version" 2>/dev/null)" ]; then
    found+=("$version")
  else
    missing="$missing $version"
  fi
done

failed=0
if [ ${#found[@]} -gt 1 ]; then
  set -m # a group of its own
  test_others "$@" >"$logs/others" 2>&1 </dev/null &
  beside=$!
  set +m
fi
if [ ${#found[@]} -gt 0 ]; then
  test_version "${found[0]}" "$@"
  status=$?
  if [ "$status" = 130 ]; then exit 130; fi
  if [ "$status" != 0 ]; then failed=1; fi
fi
if [ -n "$beside" ]; then
  wait "$beside" || failed=1
  beside=
  cat "$logs/others"
fi

printf '\n===== Tested on %s Python version(s) =====\n' "${#found[@]}"
for version in "${found[@]}"; do cat "$logs/$version.closing"; done
if [ -n "$missing" ]; then
  printf '  not found here, not tested:%s\n' "$missing"
  if [ -n "${TEST_PYTHONS:-}" ]; then failed=1; fi
fi
exit "$failed"

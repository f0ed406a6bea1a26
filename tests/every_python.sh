#!/usr/bin/env bash
# Run the test-suite on every Python 3.11-3.13 of this machine, one after the other.
#
#   tests/every_python.sh [pytest options]
#
# TEST_PYTHONS="3.11 3.13"   only these; one that is not found is then an error
#
# The Python of .venv comes first and uses .venv; the others use .venv-3.12 and the like, and
# leave out the kills, the fuzzer, full disks, the README's commands and browsers: minutes of
# what does not depend on the version.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
unset PYTHONPATH PYTHONHOME
trap 'exit 130' INT

primary=$(.venv/bin/python -I -c 'import sys; print("%d.%d" % sys.version_info[:2])') || exit 1
versions="$primary $(printf '%s\n' 3.11 3.12 3.13 | grep -vxF "$primary" | tr '\n' ' ')"
versions=${TEST_PYTHONS:-$versions}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
color=no
if [ -t 1 ]; then color=yes; fi

failed=0
tested=0
summary=
missing=

for version in $versions; do
  venv=.venv-$version
  skipped=(--ignore=tests/faults --ignore=tests/fuzz --ignore=tests/test_disk.py
    --ignore=tests/test_house.py --ignore=tests/test_benchmarks.py
    --ignore=tests/test_view_page.py --ignore=tests/test_report_browser.py
    --ignore=tests/test_docs.py --ignore=tests/test_docs_pages.py)
  if [ "$version" = "$primary" ]; then
    venv=.venv
    skipped=()
  elif [ -z "$(bash container/venv.sh pythons "$version" 2>/dev/null)" ]; then
    missing="$missing $version"
    continue
  elif ! bash container/venv.sh layered "$version"; then
    failed=1
    summary="$summary  $version     no environment could be made"$'\n'
    continue
  fi
  release=$("$venv/bin/python" -I -c 'import platform; print(platform.python_version())')
  printf '\n===== Python %s =====\n' "$release"
  tested=$((tested + 1))
  "$venv/bin/python" -m pytest --color="$color" "${skipped[@]}" "$@" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  if [ "$status" = 2 ] && grep -q KeyboardInterrupt "$log"; then exit 130; fi
  if [ "$status" != 0 ]; then failed=1; fi
  # pytest's own last line, without its colours and its frame of "=".
  closing=$(tail -n 1 "$log" | sed -e $'s/\033\\[[0-9;]*m//g' -e 's/^=* *//' -e 's/ *=*$//')
  summary="$summary  $release  $closing"$'\n'
done

printf '\n===== Tested on %s Python version(s) =====\n%s' "$tested" "$summary"
if [ -n "$missing" ]; then
  printf '  not found here, not tested:%s\n' "$missing"
  if [ -n "${TEST_PYTHONS:-}" ]; then failed=1; fi
fi
exit "$failed"

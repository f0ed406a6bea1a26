#!/usr/bin/env bash
# Parse every shell script of the project; let shellcheck read them if it is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# By their first lines: programs, and the parts of jobs/ that a job is composed of.
scripts=()
while IFS= read -r path; do
  scripts+=("$path")
done < <(find .ci container jobs tests -type f ! -name '*.md' ! -name '*.py' ! -name '*.lock' \
  ! -path 'tests/golden/*' \
  -exec awk 'FNR <= 3 && /^#!.*bash|^# shellcheck shell=bash/ { print FILENAME; nextfile }' {} + |
  sort)

# CI is a bare Debian; elsewhere it is the user who installs.
if [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ] && ! command -v shellcheck >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  { apt-get -qq update && apt-get -qq install -y --no-install-recommends shellcheck; } \
    >/dev/null 2>&1 || echo "shellcheck: cannot be installed by apt-get"
fi

echo "bash -n, ${#scripts[@]} scripts"
for path in "${scripts[@]}"; do bash -n "$path"; done
if command -v shellcheck >/dev/null; then
  echo "shellcheck"
  shellcheck --external-sources "${scripts[@]}"
else
  echo "shellcheck: not installed, skipped"
fi

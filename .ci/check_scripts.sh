#!/usr/bin/env bash
# Parse every shell script of the project; let shellcheck read them if it is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts=()
while IFS= read -r path; do
  scripts+=("$path")
done < <(find .ci container jobs tests -type f ! -name '*.md' ! -name '*.py' ! -name '*.lock' \
  -exec awk 'FNR == 1 && /^#!.*bash/ { print FILENAME }' {} \;)

echo "bash -n, ${#scripts[@]} scripts"
for path in "${scripts[@]}"; do bash -n "$path"; done
if command -v shellcheck >/dev/null; then
  echo "shellcheck"
  shellcheck "${scripts[@]}"
else
  echo "shellcheck: not installed, skipped"
fi

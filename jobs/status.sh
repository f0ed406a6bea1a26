#!/usr/bin/env bash
# What is a run on a cluster doing? Reads files in OUT, and asks squeue and scontrol if there.
#
#   jobs/status.sh OUT
set -euo pipefail

out=${1:-}
case $# in
  1) ;;
  *) echo "usage: jobs/status.sh OUT" >&2; exit 2 ;;
esac
silent_after=120 # seconds without a new line in status.txt, which is written every second

declare -A job=() status=()

# read_lines FILE ARRAY: its "key: value" lines.
read_lines() {
  local -n lines_of=$2
  local line
  while IFS= read -r line; do
    if [[ $line =~ ^([a-z_]+):\ (.*)$ ]]; then
      # shellcheck disable=SC2034,SC2004 # it is another name of $2, whose keys are words
      lines_of[${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}
    fi
  done <"$1"
}

# show NAME VALUE: a line, if there is a value.
show() { if [ -n "$2" ]; then printf '%-11s %s\n' "$1" "$2"; fi; }

# --- Slurm ----------------------------------------------------------------------------

# "PENDING (Resources)", "RUNNING on c[1-2], 12:31 left"; GONE if Slurm has no such job any
# more, empty if it cannot be asked.
slurm_state() {
  local answer state reason nodes left
  if ! command -v squeue >/dev/null; then return; fi
  if ! answer=$(squeue -h -j "$1" -o '%T|%r|%N|%L' 2>&1); then
    if [[ $answer == *"Invalid job id"* ]]; then echo GONE; fi
    return
  fi
  IFS='|' read -r state reason nodes left <<<"${answer%%$'\n'*}"
  case $state in
    '') echo GONE ;;
    PENDING) echo "PENDING ($reason)" ;;
    *) echo "$state${nodes:+ on $nodes}${left:+, $left left}" ;;
  esac
}

# Worker jobs by state and reason: "2 PENDING (Resources), 3 RUNNING".
worker_jobs() {
  local state reason what text='' count
  local -A counts=()
  while IFS='|' read -r state reason; do
    what=$state
    if [ "$state" = PENDING ]; then what+=" ($reason)"; fi
    if [ -n "$what" ]; then counts[$what]=$((${counts[$what]:-0} + 1)); fi
  done < <(squeue -h --me --name="hyperhpc-worker-$1" -o '%T|%r' 2>/dev/null | sort)
  for what in "${!counts[@]}"; do
    count=${counts[$what]}
    text+="${text:+, }$count $what"
  done
  printf '%s\n' "$text"
}

# Why worker jobs ended, from what Slurm still knows: one line each, the last three.
lost_workers() {
  local id answer lines=()
  if [ ! -r "$out/slurm/worker-jobs" ] || ! command -v scontrol >/dev/null; then return; fi
  while IFS= read -r id; do
    answer=$(scontrol -o show job "$id" 2>/dev/null) || continue
    case $(field JobState) in
      '' | RUNNING | PENDING | CONFIGURING | COMPLETING | COMPLETED | CANCELLED) ;;
      *) lines+=("job $id: $(field JobState), reason $(field Reason), exit $(field ExitCode)") ;;
    esac
  done < <(tail -n 50 -- "$out/slurm/worker-jobs")
  if [ ${#lines[@]} != 0 ]; then printf '%s\n' "${lines[@]}" | tail -n 3; fi
}

# field NAME: of a line of scontrol, in `answer`.
field() { if [[ " $answer " =~ \ $1=([^ ]*)\  ]]; then printf '%s\n' "${BASH_REMATCH[1]}"; fi; }

# Only its owner can read it: the address holds a secret.
dashboard() {
  local file
  for file in "$out/.connection-$1"-*/dashboard; do
    if [ -r "$file" ]; then printf '%s\n' "$(<"$file")"; fi
  done
}

# --- the lines ------------------------------------------------------------------------

if [ -r "$out/slurm/job" ]; then read_lines "$out/slurm/job" job; fi
if [ -r "$out/status.txt" ]; then read_lines "$out/status.txt" status; fi
if [ ${#job[@]} = 0 ] && [ ${#status[@]} = 0 ]; then
  echo "error: $out holds no run of hyperhpc, and no job for one" >&2
  echo "  hint: jobs/submit.sh SITE=... SCENE=... OUT=$out" >&2
  exit 3
fi

in_slurm=''
if [ -n "${job[job]:-}" ]; then
  in_slurm=$(slurm_state "${job[job]}")
  what=${in_slurm:-unknown: there is no squeue here}
  case $in_slurm:${job[exit]:-} in # a job that waits for a restart has an exit code as well
    GONE:) what="ended hard, with no time to say why" ;;
    GONE:* | COMPLETING*:?* | :?*) what="ended with exit code ${job[exit]}" ;;
  esac
  show job "${job[job]} (${job[mode]:-}, ${job[site]:-}): $what"
  if [ "${job[mode]:-}" = elastic ]; then show 'worker jobs' "$(worker_jobs "${job[job]}")"; fi
  if [ "${job[restarts]:-0}" != 0 ]; then show restarts "${job[restarts]}, by Slurm"; fi
  show dashboard "$(dashboard "${job[job]}")"
fi

# status.txt may be that of a job before this one
if [ -n "${job[job]:-}" ] && [ "${status[job]:-${job[job]}}" != "${job[job]}" ]; then
  show before "job ${status[job]}: ${status[state]:-}${status[stage]:+ (${status[stage]})}"
else
  show run "${status[state]:-has not begun}${status[stage]:+ (${status[stage]})}"
  show workers "${status[workers]:-}"
  show tiles "${status[tiles]:-}"
  show rate "${status[pixels_per_second]:+${status[pixels_per_second]} pixels a second}"
  show left "${status[seconds_left]:+about ${status[seconds_left]} s}"
  show message "${status[message]:-}"
  show error "${status[error]:-}"
fi
show 'job error' "${job[error]:-}"
while IFS= read -r line; do show 'lost worker' "$line"; done < <(lost_workers)

if [ "${status[state]:-}" = running ] && [ -n "${status[updated]:-}" ]; then
  updated=$(date -d "${status[updated]}" +%s 2>/dev/null || date +%s)
  if [ $(($(date +%s) - updated)) -gt $silent_after ] && [[ $in_slurm != RUNNING* ]]; then
    show note "no sign of life since ${status[updated]}; give the same command again to resume"
  fi
fi
show log "${job[log]:-}"

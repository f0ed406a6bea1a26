# --- functions of every job (jobs/common.sh) ------------------------------------------
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # the settings are in the script that submit.sh composes

set -uo pipefail
ulimit -c 0 # a core file would put keys and data on a shared disk
restarts=${SLURM_RESTART_COUNT:-0}
log=$out/slurm/$SLURM_JOB_ID.log
if [[ $out == *\\* ]]; then log=$out/slurm/job.log; fi # see log_pattern in submit.sh
export HYPERHPC_STOP_FILE=$out/slurm/stop-$SLURM_JOB_ID

say() { printf '%s\n' "$*" >&2; }

# fail CODE MESSAGE [HINT]: in the style of hyperhpc itself, and for jobs/status.sh.
fail() {
  say "error: $2"
  if [ -n "${3:-}" ]; then say "  hint: $3"; fi
  note_job error "$2"
  exit "$1"
}

# --- what jobs/status.sh reads --------------------------------------------------------

job_notes=()

# note_job KEY VALUE: one more line of OUT/slurm/job. Renamed into place, so it is always whole.
note_job() {
  job_notes+=("$@")
  mkdir -p -- "$out/slurm" # hyperhpc run --restart renames OUT
  local file=$out/slurm/.job-$SLURM_JOB_ID
  printf '%s: %s\n' job "$SLURM_JOB_ID" mode "$mode" site "$site" submitted "$submitted" \
    log "$log" restarts "$restarts" "${job_notes[@]}" >"$file" && mv -f -- "$file" "$out/slurm/job"
}

# What the log has got since this start of the job.
new_log() { tail -c "+$((log_size + 1))" -- "$log" 2>/dev/null; }

# note_own_error STATUS: what hyperhpc itself said last, in `own_error` too.
note_own_error() {
  local line
  own_error="the run ended with exit code $1; the log says why"
  while IFS= read -r line; do
    if [[ $line == 'error: '* ]]; then own_error=${line#error: }; fi
  done < <(new_log)
  note_job error "$own_error"
}

# --- the node -------------------------------------------------------------------------

# A batch shell is not a login shell, so `module` may have to be looked for.
load_modules() {
  local file
  if [ -n "$modules" ]; then
    set +u # these scripts are not ours
    # shellcheck disable=SC1090
    for file in /etc/profile.d/{modules,lmod,z00_lmod}.sh /usr/share/{lmod/lmod,modules}/init/bash; do
      if ! type module >/dev/null 2>&1 && [ -r "$file" ]; then . "$file"; fi
    done
    # shellcheck disable=SC2086 # several names
    if type module >/dev/null 2>&1; then module load $modules; fi
    set -u
  fi
  apptainer=$(type -P apptainer) ||
    fail 6 "there is no apptainer on $HOSTNAME${modules:+, after module load $modules}" \
      "name the module that has it: MODULES=apptainer"
}

# A TMPDIR that came along from the login node may not exist here.
use_scratch() {
  local folder
  for folder in "${TMPDIR:-}" "${scratch//\$USER/$(id -un)}" /tmp; do
    if [ -n "$folder" ] && [ -d "$folder" ] && [ -w "$folder" ]; then break; fi
  done
  export TMPDIR=$folder
}

# --- the image ------------------------------------------------------------------------

# Fields of a --mount are a line of CSV: quoted, so that commas and spaces stay in a path.
add_mount() {
  local quoted=${1//\"/\"\"}
  local mount="type=bind,\"source=$quoted\",\"destination=$quoted\""
  if [ ! -e "$1" ] || [[ " ${mounts[*]} " == *" $mount "* ]]; then return; fi
  mounts+=(--mount "$mount")
}

# The folder a path lies in: OUT can then be renamed, and files next to a scene are seen. Not if
# it would hide a folder of the image; then the path alone.
add_parent() {
  local path
  for path in "$1" "$(realpath -m -- "$1")"; do
    case ${path%/*} in
      '' | /bin | /dev | /etc | /lib | /lib64 | /opt | /opt/hyperhpc* | /proc | /run | /sbin | \
        /sys | /usr | /usr/* | /var) add_mount "$path" ;;
      *) add_mount "${path%/*}" ;;
    esac
  done
}

# prepare_command COMMAND...: what runs it in the image, in the array `command_in_image`.
prepare_command() {
  local mounts=() folder word
  if [ "$PWD" != / ]; then add_mount "$PWD"; fi
  add_parent "$out"
  add_parent "$scene"
  for word in "$@"; do # files of options: --points FILE, --aoi=FILE
    if [[ $word == --*=* ]]; then word=${word#*=}; fi
    if [ -f "$word" ]; then add_parent "$(realpath -ms -- "$word")"; fi
  done
  for folder in $binds "$TMPDIR" "${HYPERHPC_BRIDGE:-}"; do
    if [ -n "$folder" ]; then add_mount "$folder"; fi
  done
  # the job's variables are to get in, whatever the user's defaults are
  unset APPTAINER_CLEANENV SINGULARITY_CLEANENV
  command_in_image=("$apptainer" -s exec "${mounts[@]}" "$image" "$@")
}

# The last command of a shell: nothing stands between Slurm's signals and the program.
in_image() {
  prepare_command "$@"
  exec "${command_in_image[@]}"
}

# Settings and functions as text, for a shell on another node. OUT/slurm/job stays this job's.
print_prologue() {
  declare -p scene out image modules binds scratch apptainer
  declare -f
  echo 'note_job() { :; }'
}

# --- signals --------------------------------------------------------------------------

# Bash runs a trap while it waits for a process in the background, not while one is in front.
# wait_for PID: its exit status. Each signal, CONT too, ends a `wait` with more than 128.
wait_for() {
  local status again
  wait "$1"
  status=$?
  while [ "$status" -gt 128 ] && kill -0 "$1" 2>/dev/null; do
    wait "$1"
    status=$?
  done
  if [ "$status" -gt 128 ]; then # it may have ended by itself just after the signal
    wait "$1" 2>/dev/null
    again=$?
    if [ "$again" != 127 ]; then status=$again; fi
  fi
  return "$status"
}

# Walltime is near, or the job is to go: hyperhpc looks for this file, and stops with 7.
request_stop() {
  say "Slurm sent $1: asking the run to stop"
  mkdir -p -- "$out/slurm"
  : >"$HYPERHPC_STOP_FILE"
}

# --- begin and end --------------------------------------------------------------------

job_is_alive() {
  local state
  state=$(squeue -h -j "$1" -o %T 2>&1) && [ -n "$state" ] && return
  [[ $state != '' && $state != *"Invalid job id"* ]] # if Slurm does not answer, it may be alive
}

# What hard deaths have left: keys, and the way to a scheduler that is gone. A stale one would
# hang every worker.
remove_stale_connections() {
  local folder id
  for folder in "$out"/.connection-*; do
    if [ ! -d "$folder" ]; then continue; fi
    id=${folder##*/.connection-}
    id=${id%%-*}
    if [ "$id" = "$SLURM_JOB_ID" ] || ! job_is_alive "$id"; then rm -rf -- "$folder"; fi
  done
}

# A restart by Slurm resumes the run; only the first start may begin from the beginning.
forget_restart_option() {
  local word kept=()
  for word in "${run_options[@]}"; do
    if [ "$word" != --restart ]; then kept+=("$word"); fi
  done
  run_options=("${kept[@]}")
}

begin_job() {
  export HYPERHPC_DASHBOARD_HOST=$dashboard_host
  log_size=$(stat -c %s -- "$log" 2>/dev/null || echo 0)
  trap 'request_stop USR1' USR1
  trap 'request_stop TERM' TERM
  note_job started "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
  rm -f -- "$HYPERHPC_STOP_FILE"
  remove_stale_connections
  if [ "$restarts" != 0 ]; then
    say "Slurm has started this job again (restart $restarts); the run resumes"
    forget_restart_option
  fi
  use_scratch
  load_modules
}

# The first step: plan against memory, disk and the scene, before any worker starts.
check_plan() {
  local status command_in_image
  prepare_command hyperhpc plan "$scene" "$out" "${run_options[@]}"
  "${command_in_image[@]}" & # a process of its own, with no shell between that a signal ends
  wait_for $!
  status=$?
  if [ "$status" != 0 ]; then
    note_own_error "$status"
    if [[ $own_error =~ 'at least '([0-9]+)' MiB are needed' ]]; then
      say "  hint: MEMORY=$((BASH_REMATCH[1] * 10 / 9 + 1))MiB for the job, since hyperhpc may use 90 %"
    fi
    exit "$status"
  fi
}

# clean_up STATUS, by the EXIT trap: what must not outlive the job.
clean_up() {
  rm -rf -- "$out/.connection-$SLURM_JOB_ID"-* "$out/slurm/.exit-$SLURM_JOB_ID"
  rm -f -- "$HYPERHPC_STOP_FILE"
  note_job exit "$1"
}

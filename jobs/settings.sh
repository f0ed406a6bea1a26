# shellcheck shell=bash
# Read by submit.sh: how values are written, what a site says, how a job is sized.
# Bash and coreutils only: a login node may have nothing else.
# shellcheck disable=SC2154,SC2153,SC2034 # the variables are submit.sh's

# As hyperhpc's own (README, exit codes).
readonly usage_error=2 config_error=3 scene_error=4 resource_error=5 slurm_error=6

# What a file in sites/ may set; docs/sites.md explains each.
readonly site_keys=(
  slurm_partition worker_partition account_required cores_per_node threads_per_core
  memory_per_node max_tasks_per_node memory_per_worker memory_option driver_memory walltime
  stop_seconds modules binds scratch purged dashboard_host sbatch_options
)

# die CODE MESSAGE [HINT]: in the style of hyperhpc itself.
die() {
  printf 'error: %s\n' "$2" >&2
  if [ -n "${3:-}" ]; then printf '  hint: %s\n' "$3" >&2; fi
  exit "$1"
}

# --- values ---------------------------------------------------------------------------

# split_words TEXT: the words of TEXT, in the array `words`. Quotes and backslashes work as in
# a shell, but nothing is expanded and nothing is run: $x and `x` are letters like others.
# Fails if a quote is left open.
split_words() {
  local text=$1 quote='' word='' in_word='' letter i
  words=()
  for ((i = 0; i < ${#text}; i++)); do
    letter=${text:i:1}
    case $quote$letter in
      "''" | '""') quote='' ;;
      '"'\\)
        case ${text:i+1:1} in
          [\"\\\$\`]) i=$((i + 1)) ;;
        esac
        word+=${text:i:1}
        ;;
      [\'\"]?) word+=$letter ;;
      [\'\"]) quote=$letter in_word=1 ;;
      \\)
        i=$((i + 1))
        word+=${text:i:1} in_word=1
        ;;
      [[:space:]])
        if [ -n "$in_word" ]; then words+=("$word"); fi
        word='' in_word=''
        ;;
      *) word+=$letter in_word=1 ;;
    esac
  done
  if [ -n "$in_word" ]; then words+=("$word"); fi
  [ -z "$quote" ]
}

# MiB in 4GiB, 512MiB, 3.5G (powers of 1024) or 4GB (of 1000), as hyperhpc reads them.
memory_mib() {
  [[ $1 =~ ^([0-9]{1,6})(\.([0-9]{1,3}))?([MG])(i?B)?$ ]] || return 1
  local fraction=${BASH_REMATCH[3]}000 thousandths unit=1048576
  thousandths=$((10#${BASH_REMATCH[1]} * 1000 + 10#${fraction:0:3}))
  if [ "${BASH_REMATCH[5]}" = B ]; then unit=1000000; fi
  if [ "${BASH_REMATCH[4]}" = G ]; then unit=$((unit == 1000000 ? 1000000000 : 1073741824)); fi
  printf '%s\n' $((thousandths * unit / 1000 / 1048576))
}

# Seconds in Slurm's 90 (minutes), 30:00, 2:00:00, 1-12, 1-12:30 or 1-12:30:00.
time_seconds() {
  [[ $1 =~ ^(([0-9]{1,4})-)?([0-9]{1,6})(:([0-9]{1,2}))?(:([0-9]{1,2}))?$ ]] || return 1
  local days=$((10#${BASH_REMATCH[2]:-0})) parts=()
  parts=($((10#${BASH_REMATCH[3]})) $((10#${BASH_REMATCH[5]:-0})) $((10#${BASH_REMATCH[7]:-0})))
  if [[ $1 == *-* || $1 == *:*:* ]]; then
    printf '%s\n' $((days * 86400 + parts[0] * 3600 + parts[1] * 60 + parts[2]))
  else
    printf '%s\n' $((parts[0] * 60 + parts[1]))
  fi
}

is_count() { [[ $1 =~ ^[1-9][0-9]{0,5}$ ]]; }

# --- a site ---------------------------------------------------------------------------

list_sites() {
  local file names=()
  for file in "$jobs"/sites/*.env; do
    file=${file##*/}
    names+=("${file%.env}")
  done
  printf '%s\n' "${names[*]}"
}

# read_site FILE: its KEY=value lines into the array `site`. It is read, not sourced: a value is
# the rest of its line, and nothing in it is expanded or run.
read_site() {
  local line key number=0
  declare -gA site=()
  for key in "${site_keys[@]}"; do site[$key]=''; done
  while IFS= read -r line || [ -n "$line" ]; do
    number=$((number + 1))
    if [[ $line =~ ^[[:space:]]*(#|$) ]]; then continue; fi
    [[ $line =~ ^([a-z_]+)=(.*[^[:space:]])?[[:space:]]*$ ]] ||
      die "$config_error" "$1, line $number is not KEY=value: $line" "docs/sites.md lists the keys"
    key=${BASH_REMATCH[1]}
    [ -n "${site[$key]+known}" ] ||
      die "$config_error" "$1, line $number: there is no key $key" "keys: ${site_keys[*]}"
    site[$key]=${BASH_REMATCH[2]}
  done <"$1"
}

# --- the size of a job ----------------------------------------------------------------

# Workers, or tasks, that fit on a node by cores, memory and the site's limit.
fitting_per_node() {
  local count=$((cores_per_node / threads)) by_memory=$((node_mib / memory_mib))
  if [ "$by_memory" -lt "$count" ]; then count=$by_memory; fi
  if [ -n "$max_tasks_per_node" ] && [ "$max_tasks_per_node" -lt "$count" ]; then
    count=$max_tasks_per_node
  fi
  printf '%s\n' "$count"
}

# Scheduler and client are tasks too: ranks 0 and 1.
size_gang() {
  local fitting asked
  fitting=$(fitting_per_node)
  tasks=$((WORKERS ? WORKERS + 2 : NODES * fitting))
  tasks_per_node=$(((tasks + NODES - 1) / NODES))
  asked="$tasks tasks ($((tasks - 2)) workers, scheduler, client) on NODES=$NODES"
  if [ "$tasks_per_node" -gt "$fitting" ]; then
    die "$resource_error" \
      "$asked are $tasks_per_node a node; $fitting fit ($(describe_node))" \
      "NODES=$(((tasks + fitting - 1) / fitting)), or fewer WORKERS, or less MEMORY"
  elif [ "$tasks" -lt 3 ]; then
    die "$resource_error" "$asked are too few: a gang has 3 tasks at least ($(describe_node))" \
      "more NODES, or less MEMORY"
  elif [ "$tasks" -lt "$NODES" ]; then
    die "$resource_error" "$asked leave a node without one" "NODES=$tasks, or more WORKERS"
  fi
  workers=$((tasks - 2))
}

size_elastic() { workers=$((WORKERS ? WORKERS : NODES * $(fitting_per_node))); }

describe_node() {
  printf '%s' "$SITE: $cores_per_node cores, $memory_per_node a node" \
    "${max_tasks_per_node:+, no more than $max_tasks_per_node tasks}" \
    "; THREADS=$threads MEMORY=$memory"
}

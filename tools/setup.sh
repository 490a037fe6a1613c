# shellcheck shell=bash
# Shared by ./start and ./check: find Python, make .venv, install the course into it. Sourced with the
# course's folder as the current one. Everything can be run again at any time: what is done is not done twice.

PYTHON_MIN=3.10 PYTHON_END=3.14   # as requires-python in pyproject.toml
DISK_GB=12                        # measured: 6.2 GB installed, 3 GB while it is unpacked, 3 GB in pip's cache
VENV_PYTHON=.venv/bin/python

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then BOLD=$'\e[1m' RED=$'\e[31m' PLAIN=$'\e[0m'; else BOLD='' RED='' PLAIN=''; fi

say() { printf '%s%s%s\n' "$BOLD" "$*" "$PLAIN"; }

# fail WHAT CAUSE NEXT_STEP: the same three lines as course.errors.CourseError.
fail() {
  printf '\n%s%s%s\n  Cause: %s\n  Next step: %s\n' "$RED" "$1" "$PLAIN" "$2" "$3" >&2
  exit 1
}

# Prints the first Python that fits, COURSE_PYTHON before all others.
find_python() {
  local name found="" no_venv=""
  for name in ${COURSE_PYTHON:+"$COURSE_PYTHON"} python3.12 python3.11 python3.13 python3.10 python3; do
    command -v "$name" >/dev/null || continue
    # A version manager's shim may exist for a Python that does not: only an answer counts.
    found=$("$name" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    [[ $(printf '%s\n' "$PYTHON_MIN" "$found" | sort -V | head -1) == "$PYTHON_MIN" ]] || continue
    [[ $(printf '%s\n' "$PYTHON_END" "$found" | sort -V | head -1) == "$found" && $found != "$PYTHON_END" ]] || continue
    if "$name" -c 'import ensurepip, venv' 2>/dev/null; then command -v "$name"; return; fi
    no_venv=${no_venv:-$found}
  done
  if [ -n "$no_venv" ]; then
    fail "Python $no_venv cannot make a virtual environment." "Its module ensurepip is not installed." \
      "sudo apt-get install python3-venv python$no_venv-venv, then run ./${0##*/} again."
  fi
  fail "No Python from $PYTHON_MIN up to, but not including, $PYTHON_END was found." \
    "python3 here is: $(python3 --version 2>&1 || true)" \
    "Debian 12, Ubuntu 22.04 or newer: sudo apt-get install python3 python3-venv. Elsewhere: put a Python on PATH, or name it: COURSE_PYTHON=/path/to/python ./${0##*/}"
}

# Makes .venv unless a whole one, made in this very folder, is there.
make_venv() {
  local python output
  if [ -x "$VENV_PYTHON" ] && "$VENV_PYTHON" -m pip --version >/dev/null 2>&1 &&
    { [ ! -f .venv/place ] || [ "$(<.venv/place)" = "$PWD" ]; }; then return; fi
  python=$(find_python)
  [ ! -e .venv ] || say "The folder .venv is incomplete or was moved here: making it again."
  need_disk
  say "Making .venv with $("$python" --version) ($python)"
  rm -rf .venv
  output=$("$python" -m venv .venv 2>&1) ||
    fail "The virtual environment .venv could not be made." "$(tail -1 <<<"$output")" \
      "Check the permissions of this folder; on Debian and Ubuntu: sudo apt-get install python3-venv"
  printf '%s\n' "$PWD" >.venv/place
}

need_disk() {
  local free
  free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1000000) }')
  [ "$free" -ge "$DISK_GB" ] ||
    fail "The disk is too small for the install." "It needs $DISK_GB GB, and $free GB are free in $PWD." \
      "Free $((DISK_GB - free)) GB (du -sh ~/.cache shows a usual place), or clone the course on a larger disk."
}

# An install that was killed can leave a package that pip takes for installed: it has no RECORD yet. pip must
# install such a package again. Folders called ~name are what pip had set aside to remove.
drop_half_installed() {
  local info
  for info in "$(packages)"/*.dist-info; do
    [ ! -d "$info" ] || [ -s "$info/RECORD" ] || rm -rf "$info"
  done
  rm -rf "$(packages)"/~*
}

# What the stamp of a finished install says: it is void when the requirements or Python change.
stamp_text() { printf '%s %s\n' "$(sha256sum <pyproject.toml | cut -c1-64)" "$("$VENV_PYTHON" --version)"; }

# is_installed EXTRAS: an install with [dev] holds the plain one.
is_installed() {
  local stamp
  for stamp in ".venv/installed-${1:-course}" .venv/installed-dev; do
    [ "$(cat "$stamp" 2>/dev/null)" != "$(stamp_text)" ] || return 0
  done
  return 1
}

# install_course EXTRAS: makes .venv and installs the course with these extras ("" for none), once.
install_course() {
  local extras=$1
  if command -v flock >/dev/null; then # ./start and ./check at the same time would write into the same .venv
    exec 9<.
    flock -n 9 || { say "Another install is running in this folder: waiting for it."; flock 9; }
  fi
  make_venv
  if ! is_installed "$extras"; then
    [ -d "$(packages)/torch" ] || need_disk
    drop_half_installed
    say "Installing the course${extras:+ with [$extras]} into .venv"
    run_pip -e ".${extras:+[$extras]}" || explain_pip_failure $?
    stamp_text >".venv/installed-${extras:-course}" # last: an interrupted install has no stamp and is taken up again
  fi
  exec 9<&-
}

# run_pip ARGUMENTS: pip install, all of its output in .venv/install.log, a short one on the terminal.
# Bytecode is left to the first import: compiling 30 000 files here would take longer than unpacking them.
run_pip() {
  local status=0
  mkdir -p .venv/tmp # on the disk that was checked; /tmp may be a small one in memory
  printf 'pip install %s\n' "$*" >.venv/install.log
  TMPDIR="$PWD/.venv/tmp" "$VENV_PYTHON" -m pip install --no-input --disable-pip-version-check --no-compile \
    --progress-bar off "$@" 2>&1 9<&- | show_progress || status=$?
  rm -rf .venv/tmp
  return "$status"
}

# Reads pip's output. On a terminal one line changes every second; elsewhere each long step gets a line.
show_progress() {
  local began=$SECONDS line="" part status step="asking the package index" now fetched=0 total=0 large
  while :; do
    status=0
    IFS= read -r -t 1 part || status=$?
    line+=$part
    if [ "$status" = 0 ]; then
      printf '%s\n' "$line" >>.venv/install.log
      large=""
      if [[ $line =~ (Downloading|Using\ cached|Processing)\ (.*/)?([A-Za-z0-9_.]+-[0-9.]*[0-9])[^\ ]*(\ \(([0-9]+)[0-9.]*\ MB\))? ]]; then
        step="fetching ${BASH_REMATCH[3]}${BASH_REMATCH[4]}"
        [[ $line == *.metadata* ]] || fetched=$((fetched + 1))
        [ "${BASH_REMATCH[5]:-0}" -lt 50 ] || large=yes
      elif [[ $line == "Installing collected packages:"* ]]; then
        total=$(tr -cd , <<<"$line" | wc -c) total=$((total + 1 + $(packages_there))) large=yes
        step="installing, about $total packages in the end"
      fi
      line=""
      if [ -n "$large" ] && [ ! -t 1 ]; then printf '%5d s  %s\n' $((SECONDS - began)) "$step"; fi
    elif [ "$status" -le 128 ]; then break; fi # more than 128: a second passed in silence; less: pip has ended
    if [ -t 1 ]; then
      if [ "$total" = 0 ]; then now="$step, $fetched packages so far"; else now="installing, $(packages_there) of about $total packages"; fi
      printf '\r\e[K%5d s  %.90s' $((SECONDS - began)) "$now"
    fi
  done
  if [ -t 1 ]; then printf '\r\e[K'; fi
  printf '%5d s  pip has ended\n' $((SECONDS - began))
}

packages() { printf '%s' .venv/lib/python3*/site-packages; }
packages_there() { find "$(packages)" -maxdepth 1 -name '*.dist-info' | wc -l; }

# Turns pip's last lines into a cause and a next step. The order matters: after a network error pip also says
# that no version was found.
# explain_pip_failure STATUS
explain_pip_failure() {
  local end again="Run ./${0##*/} again: what was fetched is kept."
  end=$(tail -n 80 .venv/install.log)
  local what="The install failed; all of pip's output is in .venv/install.log."
  has() { grep -qiE "$1" <<<"$end"; }
  if [ "$1" = 137 ]; then
    fail "$what" "pip was killed, most likely because the machine ran out of memory." "Close other programs. $again"
  elif has 'No space left on device|Errno 28|Disk quota exceeded'; then
    fail "$what" "The disk is full ($(df -Ph . | awk 'NR == 2 { print $4 }') free)." "Free $DISK_GB GB. $again"
  elif has 'ProxyError|Cannot connect to proxy|Tunnel connection failed|407 Proxy'; then
    fail "$what" "The proxy refuses the connection (HTTPS_PROXY=${HTTPS_PROXY:-${https_proxy:-not set}})." \
      "Set HTTPS_PROXY to your network's proxy, or unset it if there is none. $again"
  elif has 'name resolution|Name or service not known|NameResolutionError|getaddrinfo failed'; then
    fail "$what" "The package index's name cannot be resolved: no network, or no DNS." "Check the connection. $again"
  elif has 'CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError'; then
    fail "$what" "The package index's certificate is not trusted here; often a company's proxy replaces it." \
      "Set PIP_CERT to the file with your network's certificate. $again"
  elif has 'DO NOT MATCH THE HASHES|Hash mismatch|BadZipFile|zipfile|IncompleteRead'; then
    fail "$what" "A package arrived damaged." "$VENV_PYTHON -m pip cache purge. $again"
  elif has 'NewConnectionError|ConnectTimeout|Read timed out|unreachable|refused|Connection (reset|aborted|broken)|Max retries'; then
    fail "$what" "The package index does not answer." "Check the connection. $again"
  elif has 'HTTP error (429|5[0-9][0-9])|(429 Client|5[0-9][0-9] Server) Error|too many 5[0-9][0-9] error'; then
    fail "$what" "The package index answers with an error of its own." "Wait a few minutes. $again"
  elif has 'Permission denied|Errno 13'; then
    fail "$what" "A file may not be written: $(grep -iE 'Permission denied|Errno 13' <<<"$end" | tail -1)" \
      "ls -ld .venv ~/.cache/pip must show you as the owner; if not: sudo chown -R \$USER .venv ~/.cache/pip. $again"
  elif has 'from versions: none'; then # pip says no more than this when the index answers with an error
    fail "$what" "The package index has no $(sed -n 's/.*No matching distribution found for //p' <<<"$end" | tail -1) for this Python and machine, or is out of order." \
      "Try again in a few minutes; docs/versions.md lists the combinations that work. $again"
  elif has 'No matching distribution|Could not find a version'; then
    fail "$what" "$(grep -iE 'No matching distribution|Could not find a version' <<<"$end" | tail -1)" \
      "docs/versions.md lists the combinations that work; another Python: COURSE_PYTHON=/path/to/python ./${0##*/}"
  elif has 'gcc|g\+\+|Python\.h|nvcc'; then
    fail "$what" "A package had to be compiled, and that failed: $(grep -iE 'error' <<<"$end" | head -1)" \
      "Debian and Ubuntu: sudo apt-get install build-essential python3-dev. $again"
  fi
  fail "$what" "$(grep -E '^ *(ERROR|error)' <<<"$end" | tail -1 | grep . || tail -1 .venv/install.log)" "$again"
}

trap 'printf "\n%s\n" "Stopped. Run ./${0##*/} again: it goes on where it stopped." >&2; exit 130' INT TERM

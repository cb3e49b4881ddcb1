#!/usr/bin/env bash
# Fetches the published models, catalogue, vectors and data listed in models/MANIFEST.json. See --help.
#
# Bash decides and curl transfers; what needs JSON, tar or a lock is done by one small python3 program, `helper` below.
# Tables, notes and progress go to stdout. stderr gets one line, and only when the run fails.

set -uo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
MANIFEST=$ROOT/models/MANIFEST.json
MODELS=${BLINK_MODELS_DIR:-$ROOT/models}
RETRY_WAIT_S=${BLINK_RETRY_WAIT_S:-2}
readonly MAX_TRIES=5 # in a row without a new byte; every gain starts the count again
readonly PROGRESS_LINE_S=30 # between progress lines when stdout is no terminal
CURL=(curl --silent --show-error --no-buffer --location --proto "=http,https" --connect-timeout 10)

MODE=fetch
SELECTION=() # --only=NAME and --group=NAME, as given
WORK=        # scratch folder of a fetching run
CURL_PID=    # the transfer in progress

say() { printf '%s\n' "$*"; }

die() { # MESSAGE [EXIT_CODE]: the one line on stderr
    printf 'download_models.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

usage() {
    cat <<'HELP'
Usage: ./download_models.sh [--only NAME]... [--group GROUP]... [--list | --dry-run | --verify]

Fetches published models and data into models/. Without options: the group "default", which is all that
linking needs (a model, its settings, the catalogue and the entity vectors; more than 24 GB).

What to fetch
  --only NAME     this file (repeat for more); names are in the first column of --list
  --group GROUP   these files: default, elq, blink, data, or all (repeat for more)
What to do with it
  --list          show every file: size, groups, whether it is here, what it is for
  --dry-run       show what would be fetched, how much, and the free disk; change nothing; works offline
  --verify        compare the files that are here with their recorded sha256, reading every byte
  -h, --help      this text

Examples
  ./download_models.sh --dry-run                                    first look: what and how much
  ./download_models.sh                                              then fetch it
  ./download_models.sh --only elq_webqsp_large.bin --only EL4QA_data
  BLINK_MODELS_DIR=/big/disk/models ./download_models.sh            put the files elsewhere

Interrupting is safe. A file grows as NAME.part and gets its name when it is complete. After Ctrl-C, a lost
connection or a crash run the same command again: it resumes, and starts over only if the published file has
changed meanwhile or the server cannot resume. What is already here and unchanged is skipped.

A file's sha256 is recorded at its first download in models/.downloads.json and compared in later runs; a
damaged file is reported and fetched again. A .tar.gz is also unpacked into a folder beside it.

Environment
  BLINK_MIRROR         address to use in place of https://dl.fbaipublicfiles.com (http or https)
  BLINK_MODELS_DIR     folder for the files, in place of models/ beside this script
  BLINK_RETRY_WAIT_S   seconds before the second try, doubled for each further one (default 2; 5 tries)

Exit status: 0 all is well, 1 failure (one line on stderr says what and how to go on), 2 wrong call, 130 Ctrl-C.
HELP
}

# ------------------------------------------------------------------------------------------------ python

helper() { # COMMAND ARGUMENT...
    python3 -I -S - "$@" <<'PYTHON'
"""Manifest, records of downloads, unpacking and the lock for download_models.sh; standard library only."""

import fcntl
import json
import os
import shutil
import sys
import tarfile
import time
import zlib
from pathlib import Path, PurePosixPath

RECORDS = ".downloads.json"
SEPARATOR = "\x1f"  # bash merges neighbouring tabs, which would lose empty fields
BUSY = 3


def fail(message, code=1):
    print(f"download_models.sh: {message}", file=sys.stderr)
    sys.exit(code)


def inside(path):
    """Whether a relative path stays in its folder."""
    return bool(path) and not path.startswith("/") and ".." not in PurePosixPath(path).parts


def human(size):
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


# ---- manifest

def read_manifest(path):
    try:
        manifest = json.loads(Path(path).read_text(encoding="utf-8"))
        for entry in manifest["files"]:
            if not (entry["name"] and entry["path"] and entry["groups"] and inside(entry["target"])):
                raise ValueError(f"entry {entry['name']!r} has an empty field or a target outside the models folder")
        manifest["base_url"]
    except OSError as error:
        fail(f"cannot read the list of files {path}: {error.strerror}; restore it with: git checkout models/MANIFEST.json")
    except (ValueError, KeyError, TypeError) as error:
        fail(f"{path} is not a valid list of files ({error!r}); restore it with: git checkout models/MANIFEST.json")
    return manifest


def select(manifest, wanted):
    """Entries that --only=NAME or --group=NAME ask for, in the manifest's order."""
    entries = manifest["files"]
    groups = sorted({group for entry in entries for group in entry["groups"]}) + ["all"]
    names = {key for entry in entries for key in (entry["name"], entry["target"])}
    chosen_names, chosen_groups = set(), set()
    for option in wanted:
        kind, _, value = option.partition("=")
        if kind == "--only" and value not in names:
            allowed = ", ".join(entry["name"] for entry in entries)
            fail(f"--only: unknown name '{value}'; allowed are: {allowed}; what they are: --list", 2)
        if kind == "--group" and value not in groups:
            fail(f"--group: unknown group '{value}'; allowed are: {', '.join(groups)}; what they hold: --list", 2)
        (chosen_names if kind == "--only" else chosen_groups).add(value)
    return [
        entry
        for entry in entries
        if {entry["name"], entry["target"]} & chosen_names or "all" in chosen_groups or set(entry["groups"]) & chosen_groups
    ]


def rows(manifest_path, *wanted):
    """The base URL, then one line per chosen file, for bash to read."""
    manifest = read_manifest(manifest_path)
    print(manifest["base_url"])
    for entry in select(manifest, wanted):
        keys = ("name", "path", "target", "bytes", "approx_bytes", "sha256", "unpack")
        values = (entry.get(key) for key in keys)
        print(SEPARATOR.join("" if value is None or value is False else str(value) for value in values))


def size_text(entry, path):
    if path.is_file():
        return human(path.stat().st_size)
    if entry.get("bytes") is not None:
        return human(entry["bytes"])
    return "~" + human(entry["approx_bytes"]) if entry.get("approx_bytes") is not None else "?"


def here_text(path):
    part = path.with_name(path.name + ".part")
    if path.is_file():
        return "yes"
    return f"{human(part.stat().st_size)} so far" if part.is_file() else "no"


def table(manifest_path, models, *wanted):
    """The output of --list."""
    manifest = read_manifest(manifest_path)
    lines = [("name", "size", "groups", "target", "here", "purpose")]
    for entry in select(manifest, wanted or ("--group=all",)):
        path = Path(models, entry["target"])
        target = f"{entry['target']} + folder" if entry.get("unpack") else entry["target"]
        groups = ",".join(entry["groups"])
        lines.append((entry["name"], size_text(entry, path), groups, target, here_text(path), entry["purpose"]))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths)]
        print("  ".join([*cells, line[5]]))
    print("\nGroups (--group):")
    for group, meaning in manifest.get("groups", {}).items():
        print(f"  {group:<8} {meaning}")
    print("\nSizes: ~ = estimate, ? = known once the server is asked (--dry-run asks).")


# ---- records: sha256, size and time of what was downloaded

def read_records(models):
    path = Path(models, RECORDS)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        fail(f"cannot read {path} ({error}); delete it, then run again: files that are here are recorded anew")


def write_records(models, records):
    path = Path(models, RECORDS)
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_text(json.dumps(records, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        fail(f"cannot write {path} ({error.strerror}); make room or mend the permissions, then run again: it resumes")


def record(models, target, file, sha256, url):
    """Remember a file; `file` may still bear the name of its part, since a rename keeps size and time."""
    status = os.stat(file)
    records = read_records(models)
    fetched = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    records[target] = {
        "sha256": sha256, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "url": url, "recorded": fetched,
    }
    write_records(models, records)


def doubt(models, target):
    """Make the next run hash this file whatever its time says."""
    records = read_records(models)
    if target in records:
        records[target]["mtime_ns"] = None
        write_records(models, records)


def state(models, target, wanted_sha256):
    """Print one of: absent, unrecorded, good, hash EXPECTED (time differs: must be read), damaged WHY."""
    path = Path(models, target)
    known = read_records(models).get(target)
    if not path.exists():
        print("absent")
    elif not path.is_file():
        fail(f"{path} is not a file; move it away, then run again")
    elif known is None:
        print("unrecorded")
    elif wanted_sha256 and wanted_sha256 != known["sha256"]:
        print("damaged its sha256 is not the one in models/MANIFEST.json")
    elif path.stat().st_size != known["bytes"]:
        print(f"damaged it has {path.stat().st_size} bytes, {known['bytes']} were downloaded")
    elif path.stat().st_mtime_ns != known["mtime_ns"]:
        print("hash", known["sha256"])
    else:
        print("good", known["sha256"])


# ---- disk, lock, archives

def free(folder):
    """Free bytes on the disk of a folder that need not exist yet."""
    path = Path(folder).absolute()
    while not path.exists():
        path = path.parent
    print(shutil.disk_usage(path).free)


def lock(descriptor):
    """Lock the open folder for this run and the processes it starts, which inherit the descriptor."""
    try:
        fcntl.flock(int(descriptor), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(BUSY)
    except OSError:
        pass  # some network disks have no locks: go on without


def members_of(archive, stem):
    """(member, path in the folder) of everything to unpack; a single top folder named like the archive is not doubled."""
    members = archive.getmembers()
    for member in members:
        if not inside(member.name):
            raise ValueError(f"its member '{member.name}' would land outside the folder")
        if not (member.isfile() or member.isdir() or member.islnk() or member.issym()):
            raise ValueError(f"its member '{member.name}' is neither file, folder nor link")
    tops = {PurePosixPath(member.name).parts[:1] for member in members} - {()}
    skip = 1 if tops == {(stem,)} else 0
    return [(member, Path(*PurePosixPath(member.name).parts[skip:])) for member in members]


def extract(archive_path, folder, stem):
    with tarfile.open(archive_path, "r:gz") as archive:
        members = members_of(archive, stem)
        need, room = sum(member.size for member, _ in members), shutil.disk_usage(folder).free
        if need > room:
            raise ValueError(f"it needs {human(need)} unpacked, {human(room)} are free")
        for member, relative in members:
            target = folder / relative
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            # Links become copies of what they name inside the archive, so nothing can lead out of the folder.
            source = archive.extractfile(member)
            if source is None:
                raise ValueError(f"its link '{member.name}' does not name a file")
            target.parent.mkdir(parents=True, exist_ok=True)
            with source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def unpack(archive_path, sha256):
    """Unpack NAME.tar.gz into the folder NAME beside it, all or nothing; a marker in it says from what it came."""
    path = Path(archive_path)
    stem = path.name[: -len(".tar.gz")]
    folder, temporary = path.with_name(stem), path.with_name(stem + ".unpack.part")
    marker = folder / ".unpacked"
    if marker.is_file() and marker.read_text(encoding="utf-8").strip() == sha256:
        return
    if folder.exists():
        fail(f"{folder} is here but does not come from {path.name}; move it away, then run again")
    print(f"unpacking {path.name}", flush=True)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        extract(path, temporary, stem)
        (temporary / marker.name).write_text(sha256 + "\n", encoding="utf-8")
        temporary.rename(folder)
    except (OSError, ValueError, KeyError, EOFError, zlib.error, tarfile.TarError) as error:
        fail(f"cannot unpack {path}: {error}; the archive stays, nothing of it was kept; see to that, then run again")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


COMMANDS = (rows, table, record, doubt, state, free, lock, unpack)
try:
    {command.__name__: command for command in COMMANDS}[sys.argv[1]](*sys.argv[2:])
except KeyboardInterrupt:
    sys.exit(130)  # bash says what there is to say
PYTHON
}

# ------------------------------------------------------------------------------------------------ small tools

human() { # BYTES -> 24.2 GB
    local unit scale
    for unit in GB:1000000000 MB:1000000 kB:1000; do
        scale=${unit#*:}
        if (($1 >= scale)); then
            printf '%d.%d %s' $((($1 + scale / 20) / scale)) $((($1 + scale / 20) % scale * 10 / scale)) "${unit%:*}"
            return
        fi
    done
    printf '%d B' "$1"
}

files() { if (($1 == 1)); then echo "1 file"; else echo "$1 files"; fi; }

size_of() { # FILE -> bytes, 0 where there is none
    if [[ -f $1 ]]; then wc -c <"$1" | tr -d ' '; else echo 0; fi
}

sha256_of() { # FILE -> hex digits
    local line
    line=$(sha256sum <"$1") || die "cannot read $1; see to the disk and the permissions, then run again"
    printf '%s' "${line%% *}"
}

require_tools() {
    local tool
    for tool in curl python3 sha256sum; do
        command -v "$tool" >/dev/null || die "needs the program '$tool', which is not on PATH; install it, then run again"
    done
}

# ------------------------------------------------------------------------------------------------ command line

set_mode() {
    [[ $MODE == fetch ]] || die "--list, --dry-run and --verify exclude each other; give one of them" 2
    MODE=$1
}

parse_arguments() {
    while (($#)); do
        case $1 in
            --list) set_mode list ;;
            --dry-run) set_mode dry-run ;;
            --verify) set_mode verify ;;
            --only=* | --group=*) SELECTION+=("$1") ;;
            --only | --group)
                (($# > 1)) || die "$1 needs a name after it; names and groups: --list" 2
                SELECTION+=("$1=$2")
                shift
                ;;
            -h | --help) usage && exit 0 ;;
            *) die "unknown option '$1'; allowed are: --only NAME, --group GROUP, --list, --dry-run, --verify, --help" 2 ;;
        esac
        shift
    done
}

check_settings() {
    [[ -z ${BLINK_MIRROR:-} || $BLINK_MIRROR =~ ^https?://. ]] ||
        die "BLINK_MIRROR is '$BLINK_MIRROR'; an address that begins with http:// or https:// is allowed; correct or unset it" 2
    [[ $RETRY_WAIT_S =~ ^(0|[1-9][0-9]*)$ ]] || die "BLINK_RETRY_WAIT_S is '$RETRY_WAIT_S'; whole seconds are allowed; correct or unset it" 2
}

load_selection() { # DEFAULT_GROUP: sets BASE_URL; fills NAMES, PATHS, TARGETS, BYTES, APPROX, SUMS, UNPACKS, one item per chosen file
    local listing name path target bytes approx sum unpack
    if ((${#SELECTION[@]} == 0)); then SELECTION=("--group=$1"); fi
    listing=$(helper rows "$MANIFEST" "${SELECTION[@]}") || exit
    BASE_URL=${BLINK_MIRROR:-${listing%%$'\n'*}}
    BASE_URL=${BASE_URL%/}
    NAMES=() PATHS=() TARGETS=() BYTES=() APPROX=() SUMS=() UNPACKS=()
    while IFS=$'\x1f' read -r name path target bytes approx sum unpack; do
        NAMES+=("$name") PATHS+=("$path") TARGETS+=("$target") BYTES+=("$bytes") APPROX+=("$approx")
        SUMS+=("$sum") UNPACKS+=("$unpack")
    done <<<"${listing#*$'\n'}"
}

# ------------------------------------------------------------------------------------------------ what is here

STATE= # absent, unrecorded, good or damaged, set by inspect
WHY=   # what is wrong with a damaged file
SUM=   # sha256 of a good file

inspect() { # INDEX: cheap unless size is right and time is not; then the file is read
    local path="$MODELS/${TARGETS[$1]}" answer
    answer=$(helper state "$MODELS" "${TARGETS[$1]}" "${SUMS[$1]}") || exit
    STATE=${answer%% *} WHY=${answer#* } SUM=${answer#* }
    [[ $STATE == hash ]] || return 0
    if [[ $MODE == dry-run ]]; then
        STATE=good # reading gigabytes is no part of a dry run
    else
        say "${NAMES[$1]}: its time has changed, checking its sha256"
        compare "$1" "$SUM"
    fi
}

compare() { # INDEX EXPECTED: reads the file, sets STATE, and renews or withdraws its record
    local path="$MODELS/${TARGETS[$1]}" actual
    actual=$(sha256_of "$path") || exit
    if [[ $actual == "$2" ]]; then
        STATE=good SUM=$actual
        helper record "$MODELS" "${TARGETS[$1]}" "$path" "$actual" "$BASE_URL/${PATHS[$1]}" || exit
    else
        STATE=damaged WHY="its sha256 is $actual, recorded is $2"
        helper doubt "$MODELS" "${TARGETS[$1]}" || exit
    fi
}

adopt() { # INDEX SIZE: a file that came here by other means counts as downloaded if it can be the published one
    local path="$MODELS/${TARGETS[$1]}" size sum
    size=$(size_of "$path")
    [[ -z $2 || $2 == "$size" ]] ||
        die "$path was not put there by this script and has $size bytes, the published file has $2; move it away, then run again"
    sum=$(sha256_of "$path") || exit
    [[ -z ${SUMS[$1]} || ${SUMS[$1]} == "$sum" ]] ||
        die "$path was not put there by this script and has sha256 $sum, the list says ${SUMS[$1]}; move it away, then run again"
    helper record "$MODELS" "${TARGETS[$1]}" "$path" "$sum" "$BASE_URL/${PATHS[$1]}" || exit
    say "${NAMES[$1]}: was here already, recorded its sha256${2:+ (size as published)}"
}

verify_all() {
    local index bad=()
    for ((index = 0; index < ${#NAMES[@]}; index++)); do
        inspect_for_verify "$index"
        case $STATE in
            good) say "ok       ${NAMES[index]}" ;;
            absent)
                say "absent   ${NAMES[index]}"
                if [[ $EXPLICIT == yes ]]; then bad+=("${NAMES[index]}"); fi
                ;;
            *)
                say "damaged  ${NAMES[index]}: $WHY"
                bad+=("${NAMES[index]}")
                ;;
        esac
    done
    ((${#bad[@]} == 0)) || die "damaged or absent: ${bad[*]}; fetch again with: ./download_models.sh${bad[*]/#/ --only }"
}

inspect_for_verify() { # INDEX: like inspect, but always reads the file
    local answer
    answer=$(helper state "$MODELS" "${TARGETS[$1]}" "${SUMS[$1]}") || exit
    STATE=${answer%% *} WHY=${answer#* }
    case $STATE in
        good | hash) compare "$1" "${answer#* }" ;;
        unrecorded)
            adopt "$1" "${BYTES[$1]}"
            STATE=good
            ;;
    esac
}

# ------------------------------------------------------------------------------------------------ server

# Set by probe: HTTP status (000 = no answer), the file's validators and size, and curl's own words on a failure.
STATUS=000 ETAG='' MODIFIED='' LENGTH='' CURL_SAID=''

probe() { # URL: asks for the headers only
    local answer line key value
    STATUS=000 ETAG='' MODIFIED='' LENGTH='' CURL_SAID=''
    answer=$("${CURL[@]}" --head --max-time 30 --write-out $'\nstatus: %{http_code}\n' "$1" 2>&1)
    shopt -s nocasematch
    while IFS= read -r line; do
        line=${line%$'\r'} key=${line%%:*} value=${line#*: }
        case $key in
            http/*) ETAG='' MODIFIED='' LENGTH='' ;; # a redirect's headers come first; the last answer counts
            etag) ETAG=$value ;;
            last-modified) MODIFIED=$value ;;
            content-length) LENGTH=$value ;;
            status) STATUS=$value ;;
            curl) CURL_SAID=${line#curl: } ;;
        esac
    done <<<"$answer"
    shopt -u nocasematch
    case $STATUS in
        2??) [[ $LENGTH =~ ^[0-9]+$ ]] || LENGTH='' ;;
        *) ETAG='' MODIFIED='' LENGTH='' ;;
    esac
}

refuse_if_final() { # NAME URL: answers that another try cannot change
    case $STATUS in
        404 | 410) die "$1: $2 does not exist (HTTP $STATUS); check BLINK_MIRROR if it is set, or choose other files with --only" ;;
        405 | 408 | 425 | 429) ;; # HEAD not allowed, or later may work
        4??) die "$1: the server refuses $2 (HTTP $STATUS); check BLINK_MIRROR, proxy and permissions, then run again" ;;
    esac
}

# ------------------------------------------------------------------------------------------------ plan

SIZES=() # of all chosen files: exact from the list or the server; else empty
PLAN=()  # of all chosen files: fetch, keep, adopt

plan_one() { # INDEX OFFLINE: fills SIZES and PLAN; returns 1 when the server could not be reached
    local url="$BASE_URL/${PATHS[$1]}"
    SIZES[$1]=${BYTES[$1]} PLAN[$1]=keep
    inspect "$1"
    case $STATE in
        good)
            SIZES[$1]=$(size_of "$MODELS/${TARGETS[$1]}")
            return 0
            ;;
        unrecorded) PLAN[$1]=adopt ;;
        damaged) PLAN[$1]=fetch && say "${NAMES[$1]}: damaged ($WHY); fetching it again" ;;
        *) PLAN[$1]=fetch ;;
    esac
    [[ $2 == no ]] || return 0
    probe "$url"
    refuse_if_final "${NAMES[$1]}" "$url"
    [[ -z $LENGTH || -z ${BYTES[$1]} || $LENGTH == "${BYTES[$1]}" ]] ||
        die "${NAMES[$1]}: $url has $LENGTH bytes, the list says ${BYTES[$1]}; use another BLINK_MIRROR or update models/MANIFEST.json"
    SIZES[$1]=${LENGTH:-${BYTES[$1]}}
    [[ $STATUS != 000 ]]
}

make_plan() {
    local index offline=no
    for ((index = 0; index < ${#NAMES[@]}; index++)); do
        plan_one "$index" "$offline" || offline=yes # ask no further: each question may take seconds to fail
    done
    if [[ $offline == yes ]]; then say "No answer from $BASE_URL ($CURL_SAID): sizes are estimates or unknown."; fi
}

show_plan() { # prints the table; sets NEED, bytes still to come as far as known
    local index size text note part unknown=0 count=0
    NEED=0
    for ((index = 0; index < ${#NAMES[@]}; index++)); do
        size=${SIZES[index]:-${APPROX[index]}} text='?' note='to fetch'
        if [[ -n $size ]]; then text=$(human "$size"); fi
        if [[ -z ${SIZES[index]} && -n $size ]]; then text="~$text"; fi
        case ${PLAN[index]} in
            keep) note='is here' ;;
            adopt) note='is here, not recorded yet' ;;
            fetch)
                part=$(size_of "$MODELS/${TARGETS[index]}.part")
                if ((part > 0)); then note="to fetch, $(human "$part") so far"; fi
                if [[ -z $size ]]; then ((unknown += 1)); elif ((size > part)); then ((NEED += size - part)); fi
                ((count += 1))
                ;;
        esac
        printf '  %-28s %10s  %s\n' "${NAMES[index]}" "$text" "$note"
    done
    text="total to fetch: $(human "$NEED") in $(files "$count")"
    if ((unknown)); then text+=", plus $unknown of unknown size"; fi
    FREE=$(helper free "$MODELS") || exit
    say "$text; free disk: $(human "$FREE")"
}

# ------------------------------------------------------------------------------------------------ lock

pids_file() { printf '%s' "$MODELS/.downloads.pids"; }

note_pids() { printf '%s %s\n' "$$" "$CURL_PID" 2>/dev/null >"$(pids_file)"; }

wait_for_lock() { # returns 1 if another process still holds it after some seconds
    local give_up=$((SECONDS + 3))
    until helper lock 9; do
        ((SECONDS < give_up)) || return 1
        sleep 0.1
    done
}

# One run per folder: two would write into the same part. Every child inherits descriptor 9 and so holds the lock: after
# `kill -9` of a run its curl may still write. Such an orphan is stopped here; what it fetched stays for the resume.
take_lock() {
    local script='' orphan=''
    exec 9<"$MODELS" || die "cannot open the folder $MODELS; mend its permissions, then run again"
    if helper lock 9; then
        note_pids
        return
    fi
    if [[ -f $(pids_file) ]]; then read -r script orphan <"$(pids_file)"; fi
    if [[ -n $script ]] && ! kill -0 "$script" 2>/dev/null; then
        if [[ -n $orphan ]]; then kill "$orphan" 2>/dev/null; fi
        if wait_for_lock; then
            note_pids
            return
        fi
    fi
    die "another run (process ${script:-unknown}) is at work in $MODELS; wait until it ends or stop it, then run again"
}

# ------------------------------------------------------------------------------------------------ transfer

show_progress() { # LABEL PART TOTAL: until curl ends
    local start=$SECONDS shown=$SECONDS first now delay=0.02 seconds rate text
    first=$(size_of "$2")
    while kill -0 "$CURL_PID" 2>/dev/null; do
        sleep "$delay"
        case $delay in 0.02) delay=0.1 ;; 0.1) delay=0.3 ;; *) delay=1 ;; esac # small files should not wait a second
        if [[ ! -t 1 ]] && ((SECONDS - shown < PROGRESS_LINE_S)); then continue; fi
        now=$(size_of "$2") seconds=$((SECONDS - start))
        ((seconds > 0)) || continue
        rate=$(((now - first) / seconds)) shown=$SECONDS text="$1  $(human "$now")"
        if [[ -n $3 && $3 -gt 0 ]]; then text+=" of $(human "$3") ($((now * 100 / $3))%)"; fi
        text+="  $(human $((rate > 0 ? rate : 0)))/s"
        if [[ -n $3 ]] && ((rate > 0)); then text+="  $((($3 - now) / rate / 60 + 1)) min left"; fi
        if [[ -t 1 ]]; then printf '\r%s\033[K' "$text"; else say "$text"; fi
    done
    if [[ -t 1 ]]; then printf '\r\033[K'; fi
}

transfer() { # LABEL URL PART: appends to the part; returns curl's code, sets STATUS and CURL_SAID
    local options=() code
    if [[ -s $3 ]]; then
        options=(--continue-at "$(size_of "$3")")
        # If the file changes between the probe and now, the server sends all of it, and curl ends with code 33.
        if [[ -n $ETAG && $ETAG != W/* ]]; then
            options+=(--header "If-Range: $ETAG")
        elif [[ -n $MODIFIED ]]; then
            options+=(--header "If-Range: $MODIFIED")
        fi
    fi
    "${CURL[@]}" --fail --speed-limit 1 --speed-time 60 ${options[@]+"${options[@]}"} --output "$3" \
        --write-out '%{http_code}' "$2" >"$WORK/status" 2>"$WORK/said" &
    CURL_PID=$!
    note_pids
    show_progress "$1" "$3" "$LENGTH"
    wait "$CURL_PID"
    code=$?
    CURL_PID=
    note_pids
    STATUS=$(<"$WORK/status") CURL_SAID=$(tail -n 1 "$WORK/said")
    CURL_SAID=${CURL_SAID#curl: }
    return "$code"
}

PROBLEM=       # why an attempt failed
CAN_RESUME=yes # no: this server ignored a Range, send none again

discard_stale_part() { # NAME PART META: keeps the part only if it is the beginning of what the server has now
    local remote="$ETAG"$'\n'"$MODIFIED"$'\n'"$LENGTH" have
    have=$(size_of "$2")
    if ((have > 0)); then
        if [[ $CAN_RESUME == no || $remote == $'\n\n' || ! -f $3 ]] || { [[ -n $LENGTH ]] && ((have > LENGTH)); }; then
            rm -f "$2"
        elif [[ $(<"$3") != "$remote" ]]; then
            say "$1: the published file has changed since the download began; starting over"
            rm -f "$2"
        fi
    fi
    printf '%s' "$remote" 2>/dev/null >"$3" || die "cannot write $3; make room or mend the permissions, then run again: it resumes"
}

attempt() { # LABEL NAME URL PART META: one try; returns 1 with PROBLEM set when another one may help
    local code have
    probe "$3"
    refuse_if_final "$2" "$3"
    case $STATUS in
        2?? | 405 | 501) ;; # a server without HEAD may still send the file
        000) PROBLEM="no answer from $3: $CURL_SAID" && return 1 ;;
        *) PROBLEM="$3 answers with HTTP $STATUS" && return 1 ;;
    esac
    discard_stale_part "$2" "$4" "$5"
    have=$(size_of "$4")
    if [[ -n $LENGTH && -f $4 && $have == "$LENGTH" ]]; then return 0; fi # stopped between the last byte and the rename
    transfer "$1" "$3" "$4"
    code=$?
    have=$(size_of "$4")
    case $code in
        0) ;;
        22) refuse_if_final "$2" "$3" && PROBLEM="$3 answers with HTTP $STATUS" && return 1 ;;
        23) die "cannot write $4 ($CURL_SAID), free disk: $(human "$(helper free "$MODELS")"); make room or set BLINK_MODELS_DIR, then run again: it resumes" ;;
        33) CAN_RESUME=no PROBLEM="the server cannot resume, starting over" && return 1 ;;
        *) PROBLEM="the transfer broke off after $(human "$have"): $CURL_SAID" && return 1 ;;
    esac
    if [[ -f $4 && (-z $LENGTH || $have == "$LENGTH") ]]; then return 0; fi
    PROBLEM="got $have bytes of $LENGTH from $3"
    return 1
}

fetch() { # INDEX LABEL
    local name=${NAMES[$1]} url="$BASE_URL/${PATHS[$1]}" target="$MODELS/${TARGETS[$1]}"
    local part="$target.part" meta="$target.meta.part" tries=0 best=0 have pause=$RETRY_WAIT_S start=$SECONDS
    CAN_RESUME=yes
    mkdir -p "$(dirname "$target")" 2>/dev/null || die "cannot create $(dirname "$target"); mend the permissions, then run again"
    best=$(size_of "$part")
    until attempt "$2" "$name" "$url" "$part" "$meta"; do
        have=$(size_of "$part")
        if ((have > best)); then best=$have tries=0 pause=$RETRY_WAIT_S; fi
        ((tries += 1))
        ((tries < MAX_TRIES)) ||
            die "$name: gave up after $MAX_TRIES tries: $PROBLEM; check the network or set BLINK_MIRROR, then run again: it resumes"
        say "$2  $PROBLEM; next try in $pause s"
        sleep "$pause"
        ((pause *= 2))
    done
    accept "$1" "$part" "$meta" "$url"
    say "$2  done: $(human "$(size_of "$target")") in $((SECONDS - start)) s"
}

accept() { # INDEX PART META URL: checks a complete part against the list, records it, gives it its name
    local name=${NAMES[$1]} have
    have=$(size_of "$2")
    if [[ -n ${BYTES[$1]} && $have != "${BYTES[$1]}" ]]; then
        rm -f "$2" "$3"
        die "$name: got $have bytes from $4, the list says ${BYTES[$1]}; use another BLINK_MIRROR or update models/MANIFEST.json"
    fi
    SUM=$(sha256_of "$2") || exit
    if [[ -n ${SUMS[$1]} && $SUM != "${SUMS[$1]}" ]]; then
        rm -f "$2" "$3"
        die "$name: what came from $4 has sha256 $SUM, the list says ${SUMS[$1]}; run again, or use another BLINK_MIRROR"
    fi
    helper record "$MODELS" "${TARGETS[$1]}" "$2" "$SUM" "$4" || exit
    mv -f "$2" "$MODELS/${TARGETS[$1]}" || die "cannot rename $2; mend the permissions, then run again: it resumes"
    rm -f "$3"
}

# ------------------------------------------------------------------------------------------------ the whole run

clean_up() {
    if [[ -n $CURL_PID ]]; then
        kill "$CURL_PID" 2>/dev/null
        wait "$CURL_PID" 2>/dev/null # it holds the lock while it lives
    fi
    if [[ -n $WORK ]]; then rm -rf "$WORK" "$(pids_file)"; fi
}

fetch_all() {
    local index number=0
    if ((NEED > FREE)); then
        die "not enough disk for $MODELS: $(human "$NEED") needed, $(human "$FREE") free; make room, choose less with --only, or set BLINK_MODELS_DIR"
    fi
    for ((index = 0; index < ${#NAMES[@]}; index++)); do
        ((number += 1))
        case ${PLAN[index]} in
            fetch) fetch "$index" "[$number/${#NAMES[@]}] ${NAMES[index]}" ;;
            adopt) adopt "$index" "${SIZES[index]}" ;;
        esac
        if [[ -n ${UNPACKS[index]} ]]; then
            inspect "$index" # its sha256 ties the folder to the archive
            helper unpack "$MODELS/${TARGETS[index]}" "$SUM" || exit
        fi
    done
    say "All here: $(files ${#NAMES[@]}) in $MODELS"
}

prepare() { # folder, lock and scratch space of a run that writes
    mkdir -p "$MODELS" 2>/dev/null || die "cannot create the folder $MODELS; mend the permissions or set BLINK_MODELS_DIR"
    [[ -w $MODELS ]] || die "cannot write to the folder $MODELS; mend the permissions or set BLINK_MODELS_DIR"
    take_lock
    WORK=$(mktemp -d) || die "cannot create a temporary folder; make room in ${TMPDIR:-/tmp} or set TMPDIR, then run again"
}

main() {
    parse_arguments "$@"
    EXPLICIT=no
    if ((${#SELECTION[@]})); then EXPLICIT=yes; fi
    require_tools
    trap clean_up EXIT
    trap 'die "stopped; run the same command again to resume" 130' INT TERM
    trap '' XFSZ # a file size limit then shows as a write error of curl, like a full disk
    if [[ $MODE == list ]]; then
        helper table "$MANIFEST" "$MODELS" ${SELECTION[@]+"${SELECTION[@]}"}
        exit
    fi
    check_settings
    case $MODE in
        verify)
            load_selection all
            prepare
            verify_all
            ;;
        dry-run)
            load_selection default
            make_plan
            show_plan
            if ((NEED > FREE)); then say "The disk is too small by $(human $((NEED - FREE)))."; fi
            ;;
        fetch)
            load_selection default
            prepare
            make_plan
            show_plan
            fetch_all
            ;;
    esac
}

main "$@"

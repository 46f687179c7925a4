# Starts one worker and writes down how it ended:  sh launcher.sh FOLDER COMMAND [ARGUMENT]...
#
# Runs with dash and bash, in a session of its own, and outlives the daemon. It uses builtins only, so that a worker
# costs one small process and no more; a file counts when its line is complete, so one write makes it atomic.
# The lock on FOLDER/lock came in as a descriptor and goes on to everything that is started here, on purpose.
# The command runs in the foreground: in the background a shell without a terminal would have it ignore SIGINT.
# There is no trap: whoever ends this shell from outside leaves no exit status, and the worker counts as lost, not failed.
# The braces make the shell read all of this before it runs any of it: the file may be replaced by an upgrade.
{
    set +eu # bash takes such options from the environment
    folder=$1
    shift
    crash=${SWARM_CRASH-} crash_log=${SWARM_CRASH_LOG-} # crashpoints.py: "NAME:KIND …", in tests alone
    unset SWARM_CRASH SWARM_CRASH_LOG
    crash_at() {
        [ -n "$crash" ] || return 0
        kind=${crash##*"$1:"}
        kind=${kind%% *}
        printf '%d %s %s\n' "$$" "$1" "$kind" >>"$crash_log"
        case $kind in kill) kill -KILL "$$" ;; raise) exit 70 ;; stall) sleep 2 ;; esac
    }
    start_ticks_of() { shift 19; ticks=$1; } # field 22 of proc(5) stat, counted from behind the name
    read -r boot_id </proc/sys/kernel/random/boot_id && read -r stat <"/proc/$$/stat" || exit 71
    start_ticks_of ${stat##*) }
    crash_at launcher.born
    # Both files are written in place: their blocks are there already, so a full disk can lose neither who this is nor how
    # paid work ended.
    printf '{"boot_id": "%s", "pid": %d, "start_ticks": %d}\n' "$boot_id" "$$" "$ticks" 1<>"$folder/identity" || exit 71
    crash_at launcher.named
    exec 4<>"$folder/exit" || exit 71 # now: where it is later if the repository is moved meanwhile, nobody tells us
    exec 3>&2 2>/dev/null # a shell's own "Terminated" is not the command's output
    (exec "$@" 2>&3 3>&- 4>&-) # exec, because of "test" or "exit" the shell would run its own
    status=$?
    crash_at launcher.ended
    printf '%3d\n' "$status" >&4
    crash_at launcher.wrote
    exit
}

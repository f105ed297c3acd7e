#!/usr/bin/env bash
# Answers on a pipe as Dom0's shell does on the serial line; for the tests of the harness.
prompt() { printf '\033]133;A\007xenolith# '; }
guest() {
    printf 'linux# '
    while IFS= read -r -d $'\r' line; do
        printf '%s\r\nstatus=1\r\nlinux# ' "$line"
    done
}
printf 'the stand-in boots\r\n'
prompt
while IFS= read -r -d $'\r' line; do
    printf '%s\r\n' "$line"
    status=0
    case $line in
    two) printf 'one\r\ntwo\r\n' ;;
    bad) printf 'bad: a reason\r\n'; status=3 ;;
    hang) read -r -d $'\r' line ;;
    panic)
        printf '(xenolith) *** pCPU 0 failed: a reason\r\nimage base 0x40200000\r\n  #0 0x40201000\r\n'
        read -r -d $'\r' line
        ;;
    guest) guest ;;
    poweroff) exit 0 ;;
    esac
    printf '\033]133;D;%s\007' "$status"
    prompt
done

#!/bin/sh
# Stands before rustc for the crates of this workspace: they count the branches that they take, for `cargo xtask fuzz`. The engine
# itself does not.
case " $* " in
*" --crate-name fuzz_engine "*) exec "$@" ;;
*)
	exec "$@" -Cpasses=sancov-module \
		-Cllvm-args=-sanitizer-coverage-level=3 \
		-Cllvm-args=-sanitizer-coverage-inline-8bit-counters
	;;
esac

#!/bin/sh
# Called by cargo in place of rustc for our own crates (RUSTC_WORKSPACE_WRAPPER), by `cargo xtask fuzz`: adds the instrumentation
# that libFuzzer is guided by. What is compiled for the build itself has no debug information and is left as it is: nothing there
# could take the calls. All other crates are those of the ordinary build.
case " $* " in
*" -C debuginfo=line-tables-only "*)
    exec "$@" --cfg fuzzing -C opt-level=1 -C passes=sancov-module \
        -C llvm-args=-sanitizer-coverage-level=4 \
        -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
        -C llvm-args=-sanitizer-coverage-pc-table \
        -C llvm-args=-sanitizer-coverage-trace-compares
    ;;
*) exec "$@" ;;
esac

#!/bin/bash -eu
# Builds the fuzz target into $OUT, with its seeds and its options. ClusterFuzzLite runs this in the image.
cd "$SRC/scupper"
cargo fuzz build --release lifecycle
cp target/x86_64-unknown-linux-gnu/release/lifecycle "$OUT/"
(cd fuzz/seeds/lifecycle && zip --quiet --recurse-paths - .) >"$OUT/lifecycle_seed_corpus.zip"
# As in ci/fuzz: how the target is fuzzed, and what one input may take and hold.
{
  cat fuzz/lifecycle.options
  printf '%s\n' 'timeout = 20' 'rss_limit_mb = 2048' 'malloc_limit_mb = 128'
} >"$OUT/lifecycle.options"

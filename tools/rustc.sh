#!/bin/sh
# A no-op except under cargo-fuzz, whose RUSTFLAGS hide build.rustflags of .cargo/config.toml and ask
# for -Zsanitizer, which a stable compiler takes only when told to.
case " $* " in *" --cfg fuzzing "*)
  case " $* " in *" -Zsanitizer="*) RUSTC_BOOTSTRAP=1; export RUSTC_BOOTSTRAP ;; esac
  exec "$@" --cfg tokio_unstable ;;
esac
exec "$@"

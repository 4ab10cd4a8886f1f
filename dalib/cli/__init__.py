"""The commands of `python -m dalib`, one module each: its words, and a thin call into the
library."""

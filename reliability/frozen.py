"""Imported last by the process that others are forked from: garbage collection leaves alone what is there so far, so
that its memory stays shared with them."""

import gc

gc.collect()
gc.freeze()

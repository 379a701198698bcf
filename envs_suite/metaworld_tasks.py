"""Which tasks of Meta-World each benchmark trains and evaluates on (Yu et al. 2019), without the package's version."""

from __future__ import annotations

_ML10_TRAIN = """
    reach push pick-place door-open drawer-close button-press-topdown peg-insert-side window-open sweep basketball
"""
_ML10_EVAL = "drawer-open door-close shelf-place sweep-into lever-pull"
_ML45_TRAIN = """
    assembly basketball button-press-topdown button-press-topdown-wall button-press button-press-wall coffee-button
    coffee-pull coffee-push dial-turn disassemble door-close door-open drawer-close drawer-open faucet-open
    faucet-close hammer handle-press-side handle-press handle-pull-side handle-pull lever-pull pick-place-wall
    pick-out-of-hole push-back pick-place plate-slide plate-slide-side plate-slide-back plate-slide-back-side
    peg-insert-side peg-unplug-side soccer stick-push stick-pull push-wall push reach-wall reach shelf-place
    sweep-into sweep window-open window-close
"""
_ML45_EVAL = "bin-picking box-close hand-insert door-lock door-unlock"

#: Split -> tasks.
ML10 = {"train": tuple(_ML10_TRAIN.split()), "eval": tuple(_ML10_EVAL.split())}
ML45 = {"train": tuple(_ML45_TRAIN.split()), "eval": tuple(_ML45_EVAL.split())}

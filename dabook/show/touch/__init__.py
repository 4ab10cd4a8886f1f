"""Figures that answer to the hand, in the page: no kernel, no network, no library.

Each module makes one kind from tensors (`affine.figure(...)` and so on) and brings the script that
moves it; `shell` has what they share. What is in the page without a script, and on paper, is a
still picture of the first state with its numbers. Each number that a script computes is what `dalib`
computes for the same state, to the digits shown: `tests/site/test_touch_browser.py` compares them.
"""

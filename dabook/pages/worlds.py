"""The worlds of real photographs: what their labels and their pool are made of, counted in the tables of
the public pools (`data/pools`)."""

from dalib.data.pools.facts import read_pool

FIRST = ("nyuv2", "kitti")
"""The data sets that matter most there."""


def photographs() -> str:
    """How many photographs the pool has: a sentence."""
    return f"The pool has {len(read_pool('photos').rows)} photographs."


def pairs() -> str:
    """How many real labels there are, and of what: sentences."""
    rows = [row for row in read_pool("rgbd").rows if row.facts["split"] == "train"]
    facts = [row.facts for row in rows]
    scenes = {fact["scene"] for fact in facts}
    inside = sum(fact["place"] == "indoor" for fact in facts)
    made = sum(fact["synthetic"] == "yes" for fact in facts)
    ready = sum(row.has_image and row.has_depth for row in rows)
    return (
        f"The real labels are {len(rows)} pairs of {len(scenes)} scenes: {inside} indoors and "
        f"{len(rows) - inside} outdoors, {made} of them rendered. Whoever builds the pool from the "
        f"public repositories has {ready} of them; the others' depth was computed from photographs, or "
        "in a way that could not be found again."
    )

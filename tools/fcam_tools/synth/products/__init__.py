"""Products, one a set: what a plant has. In: a name. Out: its design (part.py), its kinds of defect, its half.

Nothing of a training recipe may be chosen by looking at a product of `REPORTING`: figures on those are what a stranger
may expect. `CHOOSING` is for trying things out. Both have rigid parts of metal, plastic and electronics, printed ones,
and textures. None of them looks like a surface of surfaces.py.
"""

from __future__ import annotations

from fcam_tools.synth.products import covering, electric, metal, moulded, packed
from fcam_tools.synth.products.part import Product

GOOD = "good"
PRODUCTS: dict[str, Product] = {
    **metal.PRODUCTS,
    **moulded.PRODUCTS,
    **electric.PRODUCTS,
    **packed.PRODUCTS,
    **covering.PRODUCTS,
}
CHOOSING = ("disc", "casting", "cover", "board", "label", "strap")
REPORTING = ("gear", "bracket", "cap", "connector", "blister", "tile")

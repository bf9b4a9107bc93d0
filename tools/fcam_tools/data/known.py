"""The published sets: what they are called here, their layout, their licence, and whom to cite.

None is shipped and none is downloaded; the licence is told before a set is used. Layouts and licences as published by
November 2026; "unclear" means that none could be found: ask the authors before any use beyond research.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fcam_tools.data import anomaly, surface, things, tree
from fcam_tools.data.dataset import Dataset


@dataclass(frozen=True)
class Known:
    """A published set. `commercial`: yes, no, or unclear."""

    title: str
    load: Callable[[Path, str], Dataset]
    layout: str
    licence: str
    commercial: str
    citation: str

    def notice(self) -> str:
        terms = {"yes": "commercial use allowed", "no": "no commercial use", "unclear": "commercial use unclear"}
        return f"{self.title}: {self.licence}, {terms[self.commercial]}; cite {self.citation}"


BY_NC_SA = "CC BY-NC-SA 4.0"

KNOWN = {
    "mvtec": Known("MVTec AD", anomaly.load_mvtec, anomaly.MVTEC, BY_NC_SA, "no",
                   "Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021"),
    "mvtec2": Known("MVTec AD 2", anomaly.load_mvtec2, anomaly.MVTEC2, BY_NC_SA, "no",
                    "Heckler-Kram et al., The MVTec AD 2 Dataset, arXiv 2503.21622"),
    "visa": Known("VisA", anomaly.load_visa, anomaly.VISA, "CC BY 4.0", "yes",
                  "Zou et al., SPot-the-Difference, arXiv 2207.14315"),
    "btad": Known("BTAD", anomaly.load_btad, anomaly.BTAD, BY_NC_SA, "no",
                  "Mishra et al., VT-ADL, ISIE 2021"),
    "dagm": Known("DAGM 2007", surface.load_dagm, surface.DAGM, "no licence found", "unclear",
                  "Wieler and Hahn, Weakly Supervised Learning for Industrial Optical Inspection, DAGM 2007"),
    "ksdd": Known("KolektorSDD", surface.load_ksdd, surface.KSDD, BY_NC_SA, "no",
                  "Tabernik et al., Segmentation-based deep-learning approach, J. Intell. Manuf. 2020"),
    "ksdd2": Known("KolektorSDD2", surface.load_ksdd2, surface.KSDD2, BY_NC_SA, "no",
                   "Božič et al., Mixed supervision for surface-defect detection, Comput. Ind. 2021"),
    "severstal": Known("Severstal Steel Defect Detection", surface.load_severstal, surface.SEVERSTAL,
                       "competition rules, no redistribution", "unclear",
                       "Severstal, Steel Defect Detection, Kaggle 2019"),
    "neu": Known("NEU-DET", surface.load_neu, surface.NEU, "no licence found", "unclear",
                 "He et al., An End-to-end Steel Surface Defect Detection Approach, IEEE TIM 2020"),
    "tiles": Known("Magnetic-tile defects", surface.load_tiles, surface.TILES, "no licence found", "unclear",
                   "Huang et al., Surface defect saliency of magnetic tile, Vis. Comput. 2020"),
    "elpv": Known("ELPV solar cells", tree.load_elpv, "the package elpv-dataset", BY_NC_SA, "no",
                  "Buerhop-Riepl et al. 2018; Deitsch et al., Sol. Energy 2019"),
    "cub": Known("CUB-200-2011", things.load_cub, things.CUB, "no formal licence; pictures keep their owners' rights",
                 "unclear",
                 "Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, CNS-TR-2011-001"),
    "openimages": Known("OpenImages30k", things.load_openimages, things.WSOL,
                        "pictures CC BY 2.0, annotations CC BY 4.0", "yes",
                        "Benenson et al., CVPR 2019; Choe et al., CVPR 2020"),
}  # fmt: skip

"""
From a folder of DICOM to maps
==============================

The digital reference patient is written as DICOM, read back as any patient would be, and its dynamic
series becomes maps.
"""

# %%
# A patient that nobody has to protect: a child's abdominal neuroblastoma, small and coarse here so that the
# page builds in seconds.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.phantom import write_phantom
from oncoscale.imaging.quantify import QuantifySettings, quantify

folder = Path(tempfile.mkdtemp()) / "patient"
truth = write_phantom(folder, quick=True, matched=True)

# %%
# Reading sorts every series in space and time and says what it found.
study = read_study(folder / "visit-1")
for series in study.series:
    print(f"{series.role:10s} {series.values.shape}  {series.description}")

# %%
# The dynamic series has 60 frames and T1 was measured, so it can carry the extended Tofts model.
quantified = quantify(study, QuantifySettings(relaxivity=4.5, haematocrit=0.35))
ktrans = quantified.maps["ktrans"]
tumour = quantified.tumour.mask("tumour")
print(f"median Ktrans in the tumour: {np.nanmedian(ktrans.values[tumour]):.3f} {ktrans.unit}")

# %%
# The slice through the middle of the tumour: well perfused lobes around a core that is not.
middle = int(np.argmax(tumour.sum(axis=(0, 1))))
figure, axes = plt.subplots(figsize=(5, 4))
picture = axes.imshow(np.where(tumour, ktrans.values, np.nan)[:, :, middle].T, cmap="magma")
axes.set(title=f"Ktrans ({ktrans.unit})", xticks=[], yticks=[])
figure.colorbar(picture)
figure.tight_layout()

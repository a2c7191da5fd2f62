"""oncoscale: from a patient's images to a recorded forecast of a solid tumour."""

__version__ = "0.1.0"
